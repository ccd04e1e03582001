"""Read and write the columns of a shard a block of rows at a time, in flat memory.

A shard may be a web archive of fifty thousand pages. What its rules need of each is a few numbers; its texts and
documents pass through memory a block at a time on their way in and on their way out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.commit import commit_file
from curate.pool.damage import names_damage

BLOCK_BYTES = 4 << 20
"""Bytes of a block in memory, or the part that passes them: what a reader of one row has to read."""

BLOCK_ROWS = 1 << 14
"""Rows of a block at most."""

Ints = npt.NDArray[np.int64]


class ColumnValues(Protocol):
    """The values of some rows of a shard, by the rows' numbers."""

    def take(self, numbers: Sequence[int] | Ints) -> pa.ChunkedArray:
        """Take the values of these rows, in their order; null where a row has none."""


class ColumnsWriter:
    """Writes a shard's columns in parts of any size, in the order of their rows; committed where the `with` ends."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> ColumnsWriter:
        # Of vectors hardly a number stands twice: a dictionary of them makes reading take 3.5 times as long.
        coded = [path for field in self._schema for path in _coded(field.name, field.type)]
        how = {"compression": "zstd", "write_page_checksum": True, "use_dictionary": coded or False}
        with ExitStack() as stack:
            temporary = stack.enter_context(commit_file(self._path))
            self._writer = stack.enter_context(pq.ParquetWriter(temporary, self._schema, **how))
            stack.push(lambda kind, *_: None if kind else self._flush())  # within: a full disk leaves nothing behind
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, table: pa.Table) -> None:
        """Add the next rows. Parts are put together until they make a block, and never cut."""
        if not table.num_rows:
            return
        self._waiting.append(table)
        size, rows = (sum(getattr(t, of) for t in self._waiting) for of in ("nbytes", "num_rows"))
        if size >= BLOCK_BYTES or rows >= BLOCK_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting = []


def _coded(name: str, kind: pa.DataType) -> Iterator[str]:
    """The paths in Parquet below a column that a dictionary suits: all but lists of floats."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _coded(f"{name}.{field.name}", field.type)
    elif not pa.types.is_list(kind):
        yield name
    elif not pa.types.is_floating(kind.value_type):
        yield from _coded(f"{name}.list.element", kind.value_type)


def write_columns(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Commit columns that come in parts of any size, in the order of their rows."""
    with ColumnsWriter(path, schema) as writer:
        for table in tables:
            writer.add(table)


def merge_in_order(parts: Sequence[pa.Table]) -> pa.Table | None:
    """Merge parts with different rows into one table in the order of the rows; None where there is none."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return pa.concat_tables(parts).sort_by("row")


class ColumnsFile:
    """Committed columns of a shard. Holds the numbers of its rows, and the block that was read last.

    The file stays open, so that what is read is what was there, though it be written anew meanwhile. Raises
    DamagedError for a file that is not as it was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with names_damage(path):
            # Not mapped: pages of a file that stays open would count as memory held.
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            self.rows: npt.NDArray[np.int32] = self._file.read(["row"], use_threads=False)["row"].to_numpy()
        self.schema: pa.Schema = self._file.schema_arrow
        self._held: tuple[int, pa.Table] | None = None
        self._columns: dict[str, Column] = {}
        meta = self._file.metadata
        sizes = [meta.row_group(n).num_rows for n in range(meta.num_row_groups)]
        self.starts: Ints = np.cumsum(np.array([0, *sizes], np.int64))[:-1]

    def blocks(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows in their order, a block at a time; all columns, or some."""
        return (self.read(number, columns) for number in range(len(self.starts)))

    def between(self, start: int, stop: int) -> pa.Table:
        """Read all columns of the rows numbered from `start` to before `stop`."""
        first, last = np.searchsorted(self.rows, (start, stop)).tolist()
        bounds = itertools.pairwise([*self.starts.tolist(), len(self.rows)])
        parts = [
            self._whole(number).slice(max(first - begin, 0), min(last, end) - max(first, begin))
            for number, (begin, end) in enumerate(bounds)
            if first < end and begin < last
        ]
        return pa.concat_tables(parts) if parts else self.schema.empty_table()

    def _whole(self, number: int) -> pa.Table:
        if self._held is None or self._held[0] != number:
            self._held = None  # before the next is read, so that two are never held
            self._held = number, self.read(number, None)
        return self._held[1]

    def column(self, name: str) -> Column:
        """One of the columns, read when its values are taken."""
        return self._columns.setdefault(name, Column(self, name))

    def places(self, numbers: Sequence[int] | Ints) -> Ints:
        """Find the places of these rows in the file; -1 for those that it does not hold."""
        wanted = np.asarray(numbers, np.int64)
        if not len(self.rows):
            return np.full(len(wanted), -1, np.int64)
        found = np.searchsorted(self.rows, wanted)
        there = self.rows[np.minimum(found, len(self.rows) - 1)] == wanted
        return np.where(there, found, -1)

    def read(self, number: int, columns: Sequence[str] | None) -> pa.Table:
        """A block; all columns, or some."""
        wanted = list(columns) if columns is not None else None
        with names_damage(self.path):
            return self._file.read_row_group(number, wanted, use_threads=False)


class Column:
    """A column of a shard's file; holds the block that was read last."""

    def __init__(self, file: ColumnsFile, name: str) -> None:
        self._file, self._name = file, name
        self._held: tuple[int, pa.Array] | None = None

    def take(self, numbers: Sequence[int] | Ints) -> pa.ChunkedArray:
        """Take the values of these rows, in their order; null where the file has no such row."""
        kind = self._file.schema.field(self._name).type
        places = self._file.places(numbers)
        there = np.flatnonzero(places >= 0)
        if not len(there):
            return pa.chunked_array([pa.nulls(len(places), kind)])
        # A row that is not there is looked for where its neighbour lies, so that it costs no block of its own.
        near = places[there[np.maximum(np.searchsorted(there, np.arange(len(places)), side="right") - 1, 0)]]
        block = np.searchsorted(self._file.starts, near, side="right") - 1
        within = pa.array(near - self._file.starts[block], mask=places < 0)
        cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(places)]
        runs = itertools.pairwise(cuts)
        return pa.chunked_array([self._block(int(block[start])).take(within[start:stop]) for start, stop in runs], kind)

    def _block(self, number: int) -> pa.Array:
        if self._held is None or self._held[0] != number:
            self._held = None  # before the next is read, so that two are never held
            values = self._file.read(number, [self._name])[self._name]
            self._held = number, values.combine_chunks()
        return self._held[1]


class IncrementalColumnsWriter:
    """A step's columns of a shard while what is missing of them is computed; committed where the `with` ends.

    `old` is what was committed before. Where nothing is missing, nothing is written again.
    """

    def __init__(self, path: Path, schema: pa.Schema, old: ColumnsFile | None) -> None:
        self._path, self._schema, self._old, self._stack = path, schema, old, ExitStack()
        self._writer: ColumnsWriter | None = None

    def __enter__(self) -> IncrementalColumnsWriter:
        if self._old is None:
            self._writer = self._stack.enter_context(ColumnsWriter(self._path, self._schema))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def missing(self, rows: Sequence[int]) -> list[int]:
        """Filter these rows to those that were never computed."""
        if self._old is None:
            return list(rows)
        return [row for row, place in zip(rows, self._old.places(rows).tolist(), strict=True) if place < 0]

    def add(self, start: int, stop: int, fresh: pa.Table | None) -> None:
        """Add what was missing of the rows from `start` to before `stop`; each part of the shard in its turn."""
        if self._writer is None:
            if fresh is None:
                return
            self._writer = self._stack.enter_context(ColumnsWriter(self._path, self._schema))
            for block in self._before(start):
                self._writer.add(block)
        old = self._old.between(start, stop) if self._old is not None else None
        both = merge_in_order([part for part in (old, fresh) if part is not None])
        if both is not None:
            self._writer.add(both)

    def _before(self, start: int) -> Iterator[pa.Table]:
        for block in self._old.blocks() if self._old is not None else ():
            yield block.slice(0, int(np.searchsorted(block["row"].to_numpy(), start)))


class MergedColumn:
    """The values of a column of which some rows were committed and others have just been computed."""

    def __init__(self, old: ColumnValues | None, rows: Sequence[int], fresh: pa.ChunkedArray) -> None:
        self._old, self._place, self._fresh = old, {number: at for at, number in enumerate(rows)}, fresh

    def take(self, numbers: Sequence[int] | Ints) -> pa.ChunkedArray:
        """Take the values of these rows, in their order; null where a row has none."""
        wanted = [int(n) for n in numbers]
        earlier = [n for n in wanted if n not in self._place]
        kind = self._fresh.type
        before = self._old.take(earlier).chunks if self._old is not None else [pa.nulls(len(earlier), kind)]
        both = pa.chunked_array([*before, *self._fresh.chunks], kind)
        place = {n: at for at, n in enumerate(earlier)}
        return both.take(
            pa.array([place[n] if n in place else len(earlier) + self._place[n] for n in wanted], pa.int64())
        )
