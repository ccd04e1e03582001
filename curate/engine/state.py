"""Carry the rows of a shard through the steps: those left, the ends of the others, the columns so far."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from curate.engine.parts import CountColumn, DocumentColumn, ExtremeColumn, Masks, PartColumn, PartsLeft, TextColumn
from curate.engine.shares import Bools
from curate.ops.spec import COUNTS, PART_KINDS, PartKind
from curate.pool.columns import ColumnsFile, ColumnValues, Ints
from curate.pool.layout import Pool
from curate.pool.tables import read_table
from curate.readers.tables import excerpt
from curate.recipe.steps import Resolved

OWN_COLUMNS = ("error", "detail")
OWN_OF_PARTS = ("part_error", "part_detail")
"""What a file of columns holds beside the op's own: why a row failed, or each part of a row."""


class RowEnd(NamedTuple):
    """The end of a row's way: dropped by a rule or failed by an error, at which step, and the value (as JSON)."""

    outcome: Literal["dropped", "failed"]
    step: str
    rule: str
    value: str


@dataclass
class ShardState:
    """The rows of one shard on their way through the steps.

    `columns`: those of the steps so far, by the recipe's names, read as documents and their parts stand. `left`: the
    parts that are left. `written`: by op, what was left of the documents when it wrote columns in step with them.
    """

    rows: pa.Table
    alive: Bools
    ends: list[RowEnd | None]
    columns: dict[str, ColumnValues] = field(default_factory=dict)
    left: PartsLeft = field(default_factory=PartsLeft)
    written: dict[Callable[..., Any], Mapping[PartKind, Masks]] = field(default_factory=dict)

    def fork(self) -> ShardState:
        """The same rows, with columns of its own: those that are computed for a few rows at a time."""
        return replace(self, columns=dict(self.columns), written=dict(self.written))

    def live(self, rows: range) -> Ints:
        """The numbers of those of these rows that are left."""
        return np.flatnonzero(self.alive[rows.start : rows.stop]) + rows.start

    def fail(self, step: str, rows: Ints, errors: Sequence[str | None], details: Sequence[str | None]) -> Counter[str]:
        """End those of these rows that have an error; the errors counted."""
        counted: Counter[str] = Counter()
        for row, error, detail in zip(rows.tolist(), errors, details, strict=True):
            if error is not None:
                self._end(row, RowEnd("failed", step, error, as_json(detail)))
                counted[error] += 1
        return counted

    def drop(self, step: str, rows: Ints, rule: str, values: Sequence[Any]) -> int:
        """End these rows by a rule, with the value, or the values by column, that decided; how many they are."""
        for row, value in zip(rows.tolist(), values, strict=True):
            self._end(row, RowEnd("dropped", step, rule, as_json(value)))
        return len(rows)

    def _end(self, number: int, end: RowEnd) -> None:
        self.ends[number] = end
        self.alive[number] = False

    def add_columns(self, step: Resolved, values: Mapping[str, ColumnValues], rows: range) -> None:
        """Take a step's columns, by the op's names, for these rows; later steps may read them."""
        shown = {name: own for own, name in step.columns.items()}
        if "document" in shown:
            self._begin_documents(values[shown["document"]], rows)
        now = {kind: self.left.snapshot(kind, rows) for kind in PART_KINDS}
        of_parts = self.written.get(step.spec.after, now) if step.spec.after else now
        self.written[step.function] = of_parts
        for name, own in shown.items():
            kind = step.parts.get(own)
            if kind is not None:
                self.columns[name] = PartColumn(values[own], kind, of_parts[kind], self.left)
            elif name == "text" and "document" in self.columns:
                self.columns[name] = TextColumn(values[own], self.columns["document"], now["paragraphs"], self.left)
            elif name != "document":
                self.columns[name] = values[own]
        for name, (own, largest) in step.extremes.items():
            self.columns[name] = ExtremeColumn(values[own], step.spec.writes[own], largest)
        if "document" in self.columns and {"document", "images"} & shown.keys():
            counted = self.columns["document"], self.columns.get("images")
            self.columns |= {name: CountColumn(*counted, name) for name in COUNTS}

    def _begin_documents(self, documents: ColumnValues, rows: range) -> None:
        """Documents are written anew: all their parts are left; what was in step with the old stays as it stood."""
        frozen = (PartColumn, TextColumn)
        self.columns |= {n: c.frozen(rows) for n, c in self.columns.items() if isinstance(c, frozen)}
        self.left.forget(rows)
        self.columns["document"] = DocumentColumn(documents, self.left)
        if isinstance(text := self.columns.get("text"), TextColumn):
            self.columns["text"] = TextColumn(text, self.columns["document"], {}, self.left)


def open_shard(pool: Pool, shard: int) -> ShardState:
    """The rows of a committed shard, after the ingest step."""
    rows = read_table(pool.rows(shard))
    state = ShardState(rows, np.ones(rows.num_rows, dtype=bool), [None] * rows.num_rows)
    everything = range(rows.num_rows)
    state.fail("ingest", state.live(everything), rows["error"].to_pylist(), rows["detail"].to_pylist())
    if pool.repeats(shard).exists():
        repeated = read_table(pool.repeats(shard))["row"].to_numpy()
        state.drop(
            "ingest",
            repeated[state.alive[repeated]],
            "unique_uid",
            rows["uid"].take(pa.array(repeated[state.alive[repeated]])).to_pylist(),
        )
    return state


def committed_values(file: ColumnsFile, step: Resolved) -> dict[str, ColumnValues]:
    """A step's committed columns of a shard, by the op's names."""
    return {name: file.column(name) for name in value_names(step)}


def value_names(step: Resolved) -> Iterator[str]:
    """The columns of a step's file that rules and later steps read."""
    yield from step.columns
    yield from OWN_COLUMNS
    if step.over is not None:
        yield from OWN_OF_PARTS


def as_json(value: Any) -> str:
    """A value as a decision shows it; an op's column holds the value itself."""
    if isinstance(value, dict):
        return json.dumps({name: _shown(one) for name, one in value.items()}, ensure_ascii=False, default=str)
    return json.dumps(_shown(value), ensure_ascii=False, default=str)


def _shown(value: Any) -> Any:
    shown = excerpt(value) if isinstance(value, str) else value
    return shown
