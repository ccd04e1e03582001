"""Annotate and decide rows, one shard at a time.

A step's op runs only on rows that came through all steps before it and that it has not seen yet; its columns are
committed beside what earlier runs left. Nothing here knows of other shards: what is global (the cut of a `top`, a group
of duplicates) comes in as an argument or as columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import pyarrow as pa

from curate.engine.answers import Answer, Item, StepError, empty_table, part_table, row_table, snake_case, split_answers
from curate.engine.apply_rules import PartEnds, apply_rules
from curate.engine.chunk import Chunk, Items, cut_batches
from curate.engine.chunk_parts import ChunkParts, PartAt
from curate.engine.reuse import ReusableColumns
from curate.engine.rules import Cut
from curate.engine.state import ShardState, committed_values, open_shard
from curate.engine.store import PayloadStore
from curate.extras import MissingExtraError
from curate.ops.spec import Columns, Failed
from curate.pool.columns import ColumnsFile, IncrementalColumnsWriter, merge_in_order
from curate.pool.damage import DamagedError
from curate.pool.funnel import StepCount
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.recipe.steps import Resolved

CHUNK_ROWS = 64
"""Rows whose decoded images may be shared by the ops of a stage."""

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

    def __init__(self, pool: Pool, steps: Sequence[Resolved]) -> None:
        self._pool, self._steps = pool, steps
        self._ready: dict[str, Callable[..., Columns]] = {}

    def run(self, shard: int, state: ShardState) -> list[StepCount]:
        """Compute what is missing and commit it, and apply each step's rules; a share at the end waits for its cut.

        Chunk by chunk, so that images decode once.
        """
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
            for start in range(0, state.rows.num_rows, CHUNK_ROWS):
                stop = min(start + CHUNK_ROWS, state.rows.num_rows)
                chunk = Chunk(state, blobs, range(start, stop))
                for number, step in enumerate(self._steps):
                    missing = writers[number].missing(chunk.alive)
                    annotate = self._rows if step.over is None else self._parts
                    table, computed = annotate(step, chunk, missing, reusable[number], stores[number])
                    writers[number].add(start, start + CHUNK_ROWS, table)
                    count = chunk.apply_rules(step, done[number], table)
                    count.computed, count.reused = computed, count.rows_in - computed
                    counts[number].add(count)
        blobs.close()
        return counts

    def close(self) -> None:
        """Close the ops that hold something open."""
        for function in self._ready.values():
            if close := getattr(function, "close", None):
                close()

    def _rows(
        self, step: Resolved, chunk: Chunk, missing: list[int], reusable: ReusableColumns, store: PayloadStore
    ) -> tuple[pa.Table | None, int]:
        """The columns of the rows that were missing, and how many of them were computed."""
        inputs = chunk.digest_inputs(step, missing) if step.reuse_key else {}
        known = reusable.find(inputs) if inputs else None
        if known is not None:
            missing = sorted(set(missing).difference(known["row"].to_pylist()))
        if not missing:
            return known, 0
        answers = self._answers(step, chunk, missing)
        if step.spec.stores:
            answers = store.keep(chunk.uid, answers)
        table = row_table(step, missing, answers, inputs)
        return merge_in_order([part for part in (known, table) if part is not None]), len(missing)

    def _parts(
        self, step: Resolved, chunk: Chunk, missing: list[int], reusable: ReusableColumns, store: PayloadStore
    ) -> tuple[pa.Table | None, int]:
        """The same where the op is run on parts: of a row that has some new parts, those alone are computed."""
        if not missing:
            return None, 0
        parts = ChunkParts(chunk, step, missing)
        inputs = {row: parts.digests(row) for row in missing}
        known = reusable.find_parts(inputs)
        seen = {p for row in missing for p in parts.seen(row)}
        fresh = [p for row in missing for p in parts.of(row) if p in seen and inputs[row][p.place] not in known[row]]
        answers = self._answers(step, parts, fresh)

        def answer_of(part: PartAt) -> Answer:
            return answers[part] if part in answers else known[part.row][inputs[part.row][part.place]]

        lists = {row: [answer_of(p) if p in seen else None for p in parts.of(row)] for row in missing}
        return part_table(step, missing, lists, inputs), len({part.row for part in fresh})

    def _answers(self, step: Resolved, items: Items[Item], missing: Sequence[Item]) -> dict[Item, Answer]:
        answers: dict[Item, Answer] = {}
        for batch, failed in cut_batches(step.spec, items, missing):
            answers |= failed
            if batch:
                answers |= self._call(step, items, batch)
        return answers

    def _call(self, step: Resolved, items: Items[Item], batch: list[Item]) -> dict[Item, Answer]:
        """The op's answer for these. An exception fails only what causes it: each is tried alone."""
        function = self._function(step)
        # Read outside of `try`: that the pool cannot be read is no row's fault.
        arguments = [items.read(name, batch) for name in step.spec.reads]
        try:
            return split_answers(step.spec, batch, function(*arguments))
        except (MemoryError, StepError, MissingExtraError, DamagedError):
            raise
        except Exception as err:  # noqa: BLE001 - whatever a stranger's sample does to an op, it fails that sample only
            if len(batch) == 1:
                return {batch[0]: Failed(snake_case(type(err).__name__), f"{step.spec.name}: {err}")}
        return {n: answer for one in batch for n, answer in self._call(step, items, [one]).items()}

    def _function(self, step: Resolved) -> Callable[..., Columns]:
        key = step.key
        if key not in self._ready:
            if isinstance(step.function, type):
                self._ready[key] = step.function(**step.knobs)
            else:
                self._ready[key] = lambda *batch: step.function(*batch, **step.knobs)
        return self._ready[key]
