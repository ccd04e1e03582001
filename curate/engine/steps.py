"""Annotate and decide rows, one shard at a time.

A step's op runs only on rows that came through all steps before it and that it has not seen yet; its columns are
committed beside what earlier runs left. Nothing here knows of other shards: what is global (the cut of a `top`, a group
of duplicates) comes in as an argument or as columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing

import pyarrow as pa

from curate.engine.answers import Answer, Item, empty_table, part_table, row_table
from curate.engine.apply_rules import PartEnds, apply_rules
from curate.engine.calls import CallFailedError, Calls, DirectCalls, SandboxedCalls
from curate.engine.chunk import Chunk, Items, cut_batches
from curate.engine.chunk_parts import ChunkParts, PartAt
from curate.engine.reuse import ReusableColumns
from curate.engine.rules import Cut
from curate.engine.state import ShardState, committed_values, open_shard
from curate.engine.store import PayloadStore
from curate.pool.columns import ColumnsFile, IncrementalColumnsWriter, merge_in_order
from curate.pool.funnel import StepCount
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.recipe.steps import Resolved

CHUNK_ROWS = 64
"""Rows whose decoded images may be shared by the ops of a stage: fewer where images are so large that not all would be
held, and each op would decode anew what is not."""

Cuts = Mapping[tuple[int, str], Cut]
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

    def __init__(self, pool: Pool, steps: Sequence[Resolved], timeout_s: float | None = None) -> None:
        self._pool, self._steps = pool, steps
        self._direct = DirectCalls(timeout_s)

    def run(self, shard: int, state: ShardState) -> list[StepCount]:
        """Compute what is missing and commit it, and apply each step's rules; a share at the end waits for its cut.

        Chunk by chunk, so that images decode once.
        """
        return self._run(shard, state, self._direct)

    def narrow(self, shard: int, state: ShardState) -> list[StepCount]:
        """The same for a shard of which a worker died: what kills or hangs is found, and fails its own row."""
        with closing(SandboxedCalls(self._direct)) as calls:
            return self._run(shard, state, calls)

    def close(self) -> None:
        """Close the ops that hold something open."""
        self._direct.close()

    def _run(self, shard: int, state: ShardState, calls: Calls) -> list[StepCount]:
        paths = [self._pool.columns(step.key, shard) for step in self._steps]
        done = [ColumnsFile(path) if path.exists() else None for path in paths]
        reusable = [ReusableColumns(self._pool, step, shard) for step in self._steps]
        counts = [StepCount(step.label) for step in self._steps]
        blobs = Blobs(self._pool)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(IncrementalColumnsWriter(path, empty_table(step).schema, old))
                for step, path, old in zip(self._steps, paths, done, strict=True)
            ]
            # Left first: the bytes that columns name are committed before the columns.
            stores = [stack.enter_context(PayloadStore(self._pool, step, shard)) for step in self._steps]
            start, size = 0, CHUNK_ROWS
            while start < state.rows.num_rows:
                stop = min(start + size, state.rows.num_rows)
                chunk = Chunk(state, blobs, range(start, stop), calls.decode)
                for number, step in enumerate(self._steps):
                    missing = writers[number].missing(chunk.alive)
                    annotate = _annotate_rows if step.over is None else _annotate_parts
                    table, computed = annotate(calls, step, chunk, missing, reusable[number], stores[number])
                    writers[number].add(start, stop, table)
                    count = chunk.apply_rules(step, done[number], table)
                    count.computed, count.reused = computed, count.rows_in - computed
                    counts[number].add(count)
                start, size = stop, min(CHUNK_ROWS, chunk.rows_that_fit())
        blobs.close()
        return counts


def _annotate_rows(
    calls: Calls, step: Resolved, chunk: Chunk, missing: list[int], reusable: ReusableColumns, store: PayloadStore
) -> tuple[pa.Table | None, int]:
    """The columns of the rows that were missing, and how many of them were computed."""
    inputs = chunk.digest_inputs(step, missing) if step.reuse_key else {}
    known = reusable.find(inputs) if inputs else None
    if known is not None:
        missing = sorted(set(missing).difference(known["row"].to_pylist()))
    if not missing:
        return known, 0
    answers = _answers(calls, step, chunk, missing)
    if step.spec.stores:
        answers = store.keep(chunk.uid, answers)
    table = row_table(step, missing, answers, inputs)
    return merge_in_order([part for part in (known, table) if part is not None]), len(missing)


def _annotate_parts(
    calls: Calls, step: Resolved, chunk: Chunk, missing: list[int], reusable: ReusableColumns, store: PayloadStore
) -> tuple[pa.Table | None, int]:
    """The same where the op is run on parts: of a row that has some new parts, those alone are computed."""
    if not missing:
        return None, 0
    parts = ChunkParts(chunk, step, missing)
    inputs = {row: parts.digests(row) for row in missing}
    known = reusable.find_parts(inputs)
    seen = {p for row in missing for p in parts.seen(row)}
    fresh = [p for row in missing for p in parts.of(row) if p in seen and inputs[row][p.place] not in known[row]]
    answers = _answers(calls, step, parts, fresh)

    def answer_of(part: PartAt) -> Answer:
        return answers[part] if part in answers else known[part.row][inputs[part.row][part.place]]

    lists = {row: [answer_of(p) if p in seen else None for p in parts.of(row)] for row in missing}
    return part_table(step, missing, lists, inputs), len({part.row for part in fresh})


def _answers(calls: Calls, step: Resolved, items: Items[Item], missing: Sequence[Item]) -> dict[Item, Answer]:
    answers: dict[Item, Answer] = {}
    for batch, failed in cut_batches(step.spec, items, missing):
        answers |= failed
        if batch:
            answers |= _call(calls, step, items, batch)
    return answers


def _call(calls: Calls, step: Resolved, items: Items[Item], batch: Sequence[Item]) -> dict[Item, Answer]:
    """The op's answer for these. A failure costs only what causes it: it is narrowed to one item."""
    # Read outside of `try`: that the pool cannot be read is no row's fault.
    arguments = [items.read(name, batch) for name in step.spec.reads]
    try:
        return dict(zip(batch, calls.call(step, arguments, len(batch)), strict=True))
    except CallFailedError as failure:
        if len(batch) == 1:
            return {batch[0]: failure.answer}
        size = 1 if failure.slow else (len(batch) + 1) // 2
    parts = (batch[start : start + size] for start in range(0, len(batch), size))
    return {item: answer for part in parts for item, answer in _call(calls, step, items, part).items()}
