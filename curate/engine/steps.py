"""Annotate and decide rows, one shard at a time.

A step's op runs only on rows that came through all steps before it and that it has not seen yet; its columns are
committed beside what earlier runs left. Deciding then reads columns only. Nothing here knows of other shards:
what is global (the cut of a `top`, a group of duplicates) comes in as an argument or as columns.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engine.chunk import Chunk, Store
from curate.engine.rules import Bools, Cut, passes
from curate.ops.spec import Columns, Failed
from curate.pool.columns import ColumnsFile, ColumnValues, IncrementalColumnsWriter, merge_in_order
from curate.pool.funnel import StepCount
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.pool.tables import read_table
from curate.readers.tables import make_printable
from curate.recipe.resolve import Resolved

CHUNK_ROWS = 64
"""Rows whose decoded images may be shared by the ops of a stage."""

REUSE_KEY = b"kin"
"""In the metadata of a step's columns: the op and its knobs (`Resolved.reuse_key`)."""

Cuts = Mapping[tuple[int, str], Cut]
"""The cuts of shares that are known, by the step's number and the condition's name."""


class StepError(RuntimeError):
    """An op that returned what it did not promise; names the op and what was expected."""


class RowEnd(NamedTuple):
    """The end of a row's way: dropped by a rule or failed by an error, at which step, and the value (as JSON)."""

    outcome: Literal["dropped", "failed"]
    step: str
    rule: str
    value: str


@dataclass
class ShardState:
    """The rows of one shard on their way through the steps, and the columns of the steps so far."""

    rows: pa.Table
    alive: Bools
    ends: list[RowEnd | None]
    columns: dict[str, ColumnValues] = field(default_factory=dict)

    def fail(self, step: str, errors: Sequence[str | None], details: Sequence[str | None]) -> Counter[str]:
        """End the live rows that have an error; the errors counted."""
        rows = [n for n in np.flatnonzero(self.alive).tolist() if errors[n] is not None]
        for n in rows:
            self._end(n, RowEnd("failed", step, str(errors[n]), _as_json(details[n])))
        return Counter(str(errors[n]) for n in rows)

    def drop(self, step: str, rows: Bools, rule: str, values: pa.ChunkedArray) -> int:
        """End these live rows by a rule; how many they were."""
        numbers = np.flatnonzero(rows & self.alive).tolist()
        for n in numbers:
            self._end(n, RowEnd("dropped", step, rule, _as_json(values[n].as_py())))
        return len(numbers)

    def _end(self, number: int, end: RowEnd) -> None:
        self.ends[number] = end
        self.alive[number] = False


def open_shard(pool: Pool, shard: int) -> ShardState:
    """The rows of a committed shard, after the ingest step."""
    rows = read_table(pool.rows(shard))
    state = ShardState(rows, np.ones(rows.num_rows, dtype=bool), [None] * rows.num_rows)
    state.fail("ingest", rows["error"].to_pylist(), rows["detail"].to_pylist())
    if pool.repeats(shard).exists():
        repeated = np.zeros(rows.num_rows, dtype=bool)
        repeated[read_table(pool.repeats(shard))["row"].to_numpy()] = True
        state.drop("ingest", repeated, "unique_uid", rows["uid"])
    return state


def settle(state: ShardState, pool: Pool, shard: int, step: Resolved, cuts: Mapping[str, Cut]) -> StepCount:
    """Apply a step whose columns are committed: join them, end rows that failed or break a rule."""
    count = StepCount(step.label, int(state.alive.sum()))
    file = ColumnsFile(pool.columns(step.key, shard))
    state.columns |= {shown: file.column(own) for own, shown in step.columns.items()}
    rows = np.arange(state.rows.num_rows)
    assert (file.places(rows)[state.alive] >= 0).all(), f"{step.label}: rows without columns in shard {shard}"
    error, detail = (file.column(name).take(rows).to_pylist() for name in ("error", "detail"))
    count.failed = state.fail(step.label, error, detail)
    for condition in step.conditions:
        if condition.is_global and condition.name not in cuts:
            continue
        column = state.columns[condition.column].take(rows)
        broken = ~passes(column, condition, state.rows["uid"], cuts.get(condition.name))
        if dropped := state.drop(step.label, broken, condition.name, column):
            count.dropped[condition.name] = dropped
    count.kept = int(state.alive.sum())
    return count


class ReusableColumns:
    """Columns that an op made of the same values before: for another recipe, or for the source as it was.

    A group op's columns are new with every decision before it, and so are the columns of all steps that read what it
    made; but most rows' values are what they were, and what was computed or fetched for them is taken over.
    """

    def __init__(self, pool: Pool, step: Resolved, shard: int) -> None:
        self._opened: list[ColumnsFile] = []
        self._further = reusable_columns(pool, step, shard)

    def find(self, inputs: Mapping[int, bytes]) -> pa.Table | None:
        """Find those of these rows of which the op has read the same; None where there is none."""
        left = sorted(inputs)
        found = []
        for file in self._files():
            read = zip(left, file.column("inputs").take(left).to_pylist(), strict=True)
            if same := [row for row, digest in read if digest == inputs[row]]:
                table = file.between(same[0], same[-1] + 1)
                found.append(table.filter(pc.is_in(table["row"], pa.array(same, pa.int32()))))
                left = sorted(set(left).difference(same))
            if not left:
                break
        return merge_in_order(found)

    def _files(self) -> Iterator[ColumnsFile]:
        """The files, each opened when those before it did not have all."""
        yield from self._opened
        for file in self._further:
            self._opened.append(file)
            yield file


def reusable_columns(pool: Pool, step: Resolved, shard: int) -> Iterator[ColumnsFile]:
    """A shard's other columns of the step's op and knobs (see `Resolved.reuse_key`), newest first: it has most of
    them."""
    own = pool.columns(step.key, shard)
    paths = [
        path for path in own.parent.parent.glob(f"{step.spec.name}-*/{own.name}") if path != own and step.reuse_key
    ]
    for path in sorted(paths, key=lambda path: (-path.stat().st_mtime_ns, path)):
        file = ColumnsFile(path)
        if (file.schema.metadata or {}).get(REUSE_KEY) == str(step.reuse_key).encode():
            yield file


class Annotator:
    """Runs the ops of consecutive steps over shards; models are loaded once, when first needed."""

    def __init__(self, pool: Pool, steps: Sequence[Resolved]) -> None:
        self._pool, self._steps = pool, steps
        self._ready: dict[str, Callable[..., Columns]] = {}

    def run(self, shard: int, state: ShardState) -> list[StepCount]:
        """Compute what is missing, commit it, and settle each step; a share at the end waits for its cut."""
        computed = self._compute(shard, state)
        counts = []
        for step, fresh in zip(self._steps, computed, strict=True):
            count = settle(state, self._pool, shard, step, {})
            count.computed = fresh
            count.reused = count.rows_in - fresh
            counts.append(count)
        return counts

    def close(self) -> None:
        """Close the ops that hold something open."""
        for function in self._ready.values():
            if close := getattr(function, "close", None):
                close()

    def _compute(self, shard: int, state: ShardState) -> list[int]:
        """Commit the values that were missing, how many rows a step. Chunk by chunk, so that images decode once."""
        paths = [self._pool.columns(step.key, shard) for step in self._steps]
        done = [ColumnsFile(path) if path.exists() else None for path in paths]
        earlier = [ReusableColumns(self._pool, step, shard) for step in self._steps]
        computed = [0] * len(self._steps)
        blobs = Blobs(self._pool)
        with ExitStack() as stack:
            grown = [
                stack.enter_context(IncrementalColumnsWriter(p, _empty(s).schema, d))
                for s, p, d in zip(self._steps, paths, done, strict=True)
            ]
            # Left first: the bytes that columns name are committed before the columns.
            stores = [stack.enter_context(Store(self._pool, step, shard)) for step in self._steps]
            for start in range(0, state.rows.num_rows, CHUNK_ROWS):
                chunk = Chunk(state, blobs, start, min(start + CHUNK_ROWS, state.rows.num_rows))
                for number, step in enumerate(self._steps):
                    missing = grown[number].missing(chunk.alive)
                    inputs = chunk.inputs(step, missing) if step.reuse_key else {}
                    known = earlier[number].find(inputs) if inputs else None
                    if known is not None:
                        missing = sorted(set(missing).difference(known["row"].to_pylist()))
                    table = self._annotate(step, chunk, missing, inputs, stores[number]) if missing else None
                    computed[number] += len(missing)
                    table = merge_in_order([part for part in (known, table) if part is not None])
                    grown[number].add(start, start + CHUNK_ROWS, table)
                    chunk.settle(step, done[number], table)
        blobs.close()
        return computed

    def _annotate(
        self, step: Resolved, chunk: Chunk, missing: list[int], inputs: Mapping[int, bytes], store: Store
    ) -> pa.Table:
        answers: dict[int, Failed | dict[str, Any]] = {}
        for batch, failed in chunk.batches(step, missing):
            answers |= failed
            if batch:
                found = self._call(step, chunk, batch)
                answers |= store.keep(chunk, found) if step.spec.stores else found
        return _table(step, missing, answers, inputs)

    def _call(self, step: Resolved, chunk: Chunk, batch: list[int]) -> dict[int, Failed | dict[str, Any]]:
        """The op's answer for these rows. An exception fails only the rows that cause it: each is tried alone."""
        function = self._function(step)
        # Read outside of `try`: that the pool cannot be read is no row's fault.
        arguments = [chunk.read(name, batch) for name in step.spec.reads]
        try:
            return _answers(step, batch, function(*arguments))
        except (MemoryError, StepError):
            raise
        except Exception as err:  # noqa: BLE001 - whatever a stranger's sample does to an op, it fails that sample only
            if len(batch) == 1:
                return {batch[0]: Failed(_snake(type(err).__name__), f"{step.spec.name}: {err}")}
        return {n: answer for one in batch for n, answer in self._call(step, chunk, [one]).items()}

    def _function(self, step: Resolved) -> Callable[..., Columns]:
        key = step.key
        if key not in self._ready:
            if isinstance(step.function, type):
                self._ready[key] = step.function(**step.knobs)
            else:
                self._ready[key] = lambda *batch: step.function(*batch, **step.knobs)
        return self._ready[key]


def _answers(step: Resolved, batch: list[int], columns: Columns) -> dict[int, Failed | dict[str, Any]]:
    if set(columns) != set(step.spec.writes):
        raise StepError(f"op {step.spec.name!r} returned {sorted(columns)}, it declares {sorted(step.spec.writes)}")
    lists = {}
    for name, values in columns.items():
        lists[name] = values.to_pylist() if isinstance(values, (pa.Array, pa.ChunkedArray)) else list(values)
        if len(lists[name]) != len(batch):
            raise StepError(f"op {step.spec.name!r}: {len(lists[name])} values in {name!r} for {len(batch)} rows")
    answers: dict[int, Failed | dict[str, Any]] = {}
    for place, number in enumerate(batch):
        row = {name: values[place] for name, values in lists.items()}
        failure = next((v for v in row.values() if isinstance(v, Failed)), None)
        answers[number] = failure or row
    return answers


def _table(
    step: Resolved, numbers: list[int], answers: dict[int, Failed | dict[str, Any]], inputs: Mapping[int, bytes]
) -> pa.Table:
    failed = [answer if isinstance(answer := answers[n], Failed) else None for n in numbers]
    columns: dict[str, pa.Array] = {"row": pa.array(numbers, pa.int32())}
    for name, kind in step.spec.writes.items():
        values = [None if isinstance(answer := answers[n], Failed) else answer[name] for n in numbers]
        try:
            columns[name] = pa.array(values, kind)
        except UnicodeEncodeError:
            return _table(step, numbers, answers | _unreadable(name, kind, answers), inputs)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as err:
            raise StepError(f"op {step.spec.name!r}: column {name!r} is declared {kind}: {err}") from None
    columns["error"] = pa.array([f.error if f else None for f in failed], pa.string())
    columns["detail"] = pa.array([make_printable(f.detail) if f else None for f in failed], pa.string())
    if step.reuse_key is None:
        return pa.table(columns)
    columns["inputs"] = pa.array([inputs[n] for n in numbers], pa.binary(16))
    return pa.table(columns).replace_schema_metadata({REUSE_KEY: step.reuse_key})


def _unreadable(
    name: str, kind: pa.DataType, answers: Mapping[int, Failed | dict[str, Any]]
) -> dict[int, Failed | dict[str, Any]]:
    """The failures of the rows whose value is no UTF-8: half a character that a page or a record spelt out."""
    found: dict[int, Failed | dict[str, Any]] = {}
    for number, answer in answers.items():
        try:
            pa.array([] if isinstance(answer, Failed) else [answer[name]], kind)
        except UnicodeEncodeError as err:
            found[number] = Failed("bad_encoding", f"column {name!r}: {err.reason}")
    return found


def _empty(step: Resolved) -> pa.Table:
    return _table(step, [], {}, {})


def _as_json(value: Any) -> str:
    return json.dumps(make_printable(value) if isinstance(value, str) else value, ensure_ascii=False, default=str)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
