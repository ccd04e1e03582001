"""Annotate and decide rows, one shard at a time.

A step's op runs only on rows that came through all steps before it and that it has not seen yet; its columns are
committed beside what earlier runs left. Nothing here knows of other shards: what is global (the cut of a `top`, a group
of duplicates) comes in as an argument or as columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import pyarrow as pa

from curate.engine.answers import Answer, Item, empty_table, part_table, row_table
from curate.engine.apply_rules import PartEnds, apply_rules
from curate.engine.calls import CallFailedError, Calls, DirectCalls, SandboxedCalls
from curate.engine.chunk import Chunk, Items, cut_batches
from curate.engine.chunk_parts import ChunkParts, PartAt
from curate.engine.read_ahead import CHUNKS_AHEAD, Ahead, ReadAhead, begun_ahead, steps_ahead
from curate.engine.reuse import ReusableColumns
from curate.engine.shares import ShareCuts
from curate.engine.state import ShardState, committed_values, open_shard
from curate.engine.store import PayloadStore
from curate.image.files import Decoded
from curate.pool.columns import ColumnsFile, IncrementalColumnsWriter, merge_in_order
from curate.pool.funnel import StepCount
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.recipe.steps import Resolved

CHUNK_ROWS = 64
"""Rows whose decoded images may be shared by the ops of a stage: fewer where images are so large that not all would be
held, and each op would decode anew what is not."""

LIGHT_ROWS = 4096
"""The same where ops read nothing but columns that their knobs name, numbers and vectors: a head's, for one."""

Cuts = Mapping[tuple[int, str], ShareCuts]
"""The cuts of shares that are known, by the step's number and the condition's name."""


def decide_shard(
    pool: Pool, shard: int, steps: Sequence[Resolved], cuts: Cuts, part_ends: PartEnds | None = None
) -> tuple[ShardState, list[StepCount]]:
    """A shard after steps whose columns are committed, and what each of them counted."""
    state = open_shard(pool, shard)
    counts = []
    everything = range(state.rows.num_rows)
    for number, step in enumerate(steps):
        file = ColumnsFile(pool.columns(step.key, shard))
        lost = file.places(state.live(everything)) < 0
        assert not lost.any(), f"{step.label}: rows without columns in shard {shard}"
        mine = {name: cut for (at, name), cut in cuts.items() if at == number}
        counts.append(apply_rules(state, step, committed_values(file, step), everything, mine, part_ends))
    return state, counts


class Annotator:
    """Runs the ops of consecutive steps over shards; models are loaded once, when first needed."""

    def __init__(self, pool: Pool, steps: Sequence[Resolved], timeout_s: float | None = None, threads: int = 1) -> None:
        self._pool, self._threads = pool, threads
        self._steps = [with_threads(step, threads) for step in steps]
        self._direct = DirectCalls(timeout_s)
        self._chunk_rows = max((CHUNK_ROWS, *(step.placement.batch or 0 for step in steps), *_at_once(steps)))

    def run(self, shard: int, state: ShardState) -> list[StepCount]:
        """Compute what is missing and commit it, and apply each step's rules; a share at the end waits for its cut.

        Chunk by chunk, so that images decode once; ahead of a device that computes, what comes next is prepared.
        """
        ahead = steps_ahead(self._steps)
        if not ahead:
            return self._run(shard, state, self._direct, None)
        with ReadAhead(self._pool, self._direct, ahead, self._threads) as reading:
            return self._run(shard, state, self._direct, reading)

    def narrow(self, shard: int, state: ShardState) -> list[StepCount]:
        """The same for a shard of which a worker died: what kills or hangs is found, and fails its own row."""
        with closing(SandboxedCalls(self._direct)) as calls:
            return self._run(shard, state, calls, None)

    def close(self) -> None:
        """Close the ops that hold something open."""
        self._direct.close()

    def _run(self, shard: int, state: ShardState, calls: Calls, reading: ReadAhead | None) -> list[StepCount]:
        blobs = Blobs(self._pool)
        with ExitStack() as stack:
            works = [self._open(step, shard, stack) for step in self._steps]
            begun = (
                (chunk, _begin(reading, chunk, works)) for chunk in self._chunks(state, works, blobs, calls.decode)
            )
            for chunk, ahead in begun_ahead(begun, CHUNKS_AHEAD if reading else 0):
                for number, work in enumerate(works):
                    missing = work.writer.missing(chunk.alive)
                    ready = ahead.answers(number, missing) if ahead else {}
                    if work.step.over is None:
                        table, computed = _annotate_rows(calls, work, chunk, missing, ready)
                    else:
                        table, computed = _annotate_parts(calls, work, chunk, missing)
                    work.writer.add(chunk.rows.start, chunk.rows.stop, table)
                    count = chunk.apply_rules(work.step, work.done, table)
                    count.computed, count.reused = computed, count.rows_in - computed
                    work.count.add(count)
        blobs.close()
        return [work.count for work in works]

    def _open(self, step: Resolved, shard: int, stack: ExitStack) -> _StepWork:
        path = self._pool.columns(step.key, shard)
        done = ColumnsFile(path) if path.exists() else None
        writer = stack.enter_context(IncrementalColumnsWriter(path, empty_table(step).schema, done))
        # Left first: the bytes that columns name are committed before the columns.
        store = stack.enter_context(PayloadStore(self._pool, step, shard))
        return _StepWork(step, done, ReusableColumns(self._pool, step, shard), writer, store, StepCount(step.label))

    def _chunks(
        self, state: ShardState, works: Sequence[_StepWork], blobs: Blobs, decode: Callable[[bytes], Decoded]
    ) -> Iterator[Chunk]:
        most = self._rows_at_once(state, works)
        start, size = 0, most
        while start < state.rows.num_rows:
            chunk = Chunk(state, blobs, range(start, min(start + size, state.rows.num_rows)), decode)
            yield chunk
            # A device's calls keep their size: its images are decoded ahead, and not held.
            held = most == self._chunk_rows and not any(step.placement.batch for step in self._steps)
            start, size = chunk.rows.stop, min(most, chunk.rows_that_fit()) if held else most

    def _rows_at_once(self, state: ShardState, works: Sequence[_StepWork]) -> int:
        """The rows of a chunk: many where what is left to compute opens no file and reads no text."""
        alive = state.live(range(state.rows.num_rows))
        for step, file in ((work.step, work.done) for work in works):
            computes = file is None or bool((file.places(alive) < 0).any())
            if computes and (step.spec.reads or step.over is not None):
                return self._chunk_rows
        return LIGHT_ROWS


def _at_once(steps: Sequence[Resolved]) -> list[int]:
    """The rows of a call of each op that asks a chat model: they are all on their way together."""
    return [step.spec.batch_size for step in steps if step.chat is not None]


@dataclass(frozen=True)
class _StepWork:
    """A step while it is run over a shard: what was committed of it, what may be taken over, and what is written."""

    step: Resolved
    done: ColumnsFile | None
    reusable: ReusableColumns
    writer: IncrementalColumnsWriter
    store: PayloadStore
    count: StepCount


def _begin(reading: ReadAhead | None, chunk: Chunk, works: Sequence[_StepWork]) -> Ahead | None:
    """Begin on what is missing of a chunk; not for a step that may take values over: what it lacks is not known yet."""
    if reading is None:
        return None
    wanted = [number for number in reading.steps if not works[number].reusable.are_there]
    return reading.begin(chunk, {number: works[number].writer.missing(chunk.alive) for number in wanted})


def with_threads(step: Resolved, threads: int) -> Resolved:
    """The step with its device told how many threads may prepare for it."""
    if step.placement.on_cpu:
        return step
    return replace(step, knobs={**step.knobs, "device": replace(step.placement.device, threads=threads)})


def _annotate_rows(
    calls: Calls, work: _StepWork, chunk: Chunk, missing: list[int], ready: Mapping[int, Answer]
) -> tuple[pa.Table | None, int]:
    """The columns of the rows that were missing, and how many were computed; `ready`: answers that are there."""
    step = work.step
    inputs = chunk.digest_inputs(step, missing) if step.reuse_key else {}
    known = work.reusable.find(inputs) if inputs else None
    if known is not None:
        missing = sorted(set(missing).difference(known["row"].to_pylist()))
    if not missing:
        return known, 0
    answers = {row: ready[row] for row in missing if row in ready}
    answers |= _answers(calls, step, chunk, [row for row in missing if row not in ready])
    if step.spec.stores:
        answers = work.store.keep(chunk.uid, answers)
    table = row_table(step, missing, answers, inputs)
    return merge_in_order([part for part in (known, table) if part is not None]), len(missing)


def _annotate_parts(calls: Calls, work: _StepWork, chunk: Chunk, missing: list[int]) -> tuple[pa.Table | None, int]:
    """The same where the op is run on parts: of a row that has some new parts, those alone are computed."""
    if not missing:
        return None, 0
    step = work.step
    parts = ChunkParts(chunk, step, missing)
    inputs = {row: parts.digests(row) for row in missing}
    known = work.reusable.find_parts(inputs)
    seen = {p for row in missing for p in parts.seen(row)}
    fresh = [p for row in missing for p in parts.of(row) if p in seen and inputs[row][p.place] not in known[row]]
    answers = _answers(calls, step, parts, fresh)

    def answer_of(part: PartAt) -> Answer:
        return answers[part] if part in answers else known[part.row][inputs[part.row][part.place]]

    lists = {row: [answer_of(p) if p in seen else None for p in parts.of(row)] for row in missing}
    return part_table(step, missing, lists, inputs), len({part.row for part in fresh})


def _answers(calls: Calls, step: Resolved, items: Items[Item], missing: Sequence[Item]) -> dict[Item, Answer]:
    answers: dict[Item, Answer] = {}
    for batch, failed in cut_batches(step.spec, items, missing, step.placement.batch or step.spec.batch_size):
        answers |= failed
        if batch:
            answers |= _call(calls, step, items, batch)
    return answers


def _call(calls: Calls, step: Resolved, items: Items[Item], batch: Sequence[Item]) -> dict[Item, Answer]:
    """The op's answer for these. A failure costs only what causes it: it is narrowed to one item."""
    # Read outside of `try`: that the pool cannot be read is no row's fault.
    arguments = [items.read(name, batch) for name in step.reads]
    try:
        return dict(zip(batch, calls.call(step, arguments, len(batch)), strict=True))
    except CallFailedError as failure:
        if len(batch) == 1:
            return {batch[0]: failure.answer}
        size = 1 if failure.slow else (len(batch) + 1) // 2
    parts = (batch[start : start + size] for start in range(0, len(batch), size))
    return {item: answer for part in parts for item, answer in _call(calls, step, items, part).items()}
