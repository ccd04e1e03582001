"""Database of group ops: in the scratch folder, bounded memory, answers cut by shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_LIMIT = "1GB"
BLOCK_ROWS = 4096


@contextmanager
def database(scratch: Path) -> Iterator[DuckDBPyConnection]:
    """An empty database in `scratch`, whatever a killed run left there; it spills to disk above MEMORY_LIMIT."""
    import duckdb

    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / "group.duckdb"
    for left in (path, path.with_suffix(".duckdb.wal")):
        left.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as db:
        db.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET threads = 2; SET preserve_insertion_order = false")
        db.execute("PRAGMA disable_checkpoint_on_shutdown")  # nobody opens it again
        db.execute("SET temp_directory = ?", [str(scratch / "spill")])
        yield db


def query_one(db: DuckDBPyConnection, query: str) -> int:
    """The one number that a query gives."""
    return int(db.execute(query).fetchall()[0][0])


def query_blocks(
    db: DuckDBPyConnection, query: str, rows: int, params: Mapping[str, int] | None = None
) -> Iterator[pa.RecordBatch]:
    """The answer in blocks of up to `rows`, on a connection of its own: `db` stays free to write meanwhile."""
    with db.cursor() as reader:
        yield from reader.sql(query, params=dict(params or {})).to_arrow_reader(rows)


def insert(db: DuckDBPyConnection, table: str, **columns: npt.NDArray[Any]) -> None:
    """Add rows to a table."""
    db.register("block", pa.table(columns))
    db.execute(f"INSERT INTO {table} FROM block")
    db.unregister("block")


def assign_kept(db: DuckDBPyConnection, count: int, edges: str, rows: int) -> None:
    """Fills `assigned` (head, kept, similarity): in the kept order, what is like an earlier kept one is its copy.

    Of `count` heads; `edges` gives (later, earlier, similarity) by the later, the likest first. A chain of likenesses
    removes nothing: each copy is like the kept one it names.
    """
    kept = np.ones(count, bool)
    db.execute("DELETE FROM assigned")
    for batch in query_blocks(db, edges, rows):
        found: dict[int, tuple[int, float]] = {}
        for later, earlier, similarity in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if kept[earlier] and kept[later]:
                kept[later] = False
                found[later] = (earlier, similarity)
        if found:
            likest, similarities = zip(*found.values(), strict=True)
            columns = {"kept": np.array(likest), "similarity": np.array(similarities, np.float32)}
            insert(db, "assigned", head=np.array(list(found)), **columns)


def map_zeros(path: Path, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An array of zeros in a file: only the pages in use are held."""
    if shape[0] == 0:
        return np.zeros(shape, dtype)  # an empty file cannot be mapped
    return np.memmap(path, dtype, "w+", shape=shape)


def query_by_shard(db: DuckDBPyConnection, query: str, sizes: Sequence[int]) -> Iterator[pa.Table]:
    """The answer, ordered by shard and row, a table a shard: read once, not once a shard."""
    with db.cursor() as reader:
        answer = reader.sql(query).to_arrow_reader(BLOCK_ROWS)
        pending = answer.schema.empty_table()
        for size in sizes:
            while len(pending) < size:
                pending = pa.concat_tables([pending, pa.Table.from_batches([answer.read_next_batch()])])
            yield pending.slice(0, size)
            pending = pending.slice(size)


def write_outputs(
    db: DuckDBPyConnection, query: str, inputs: Sequence[Path], outputs: Sequence[Path], columns: dict[str, pa.DataType]
) -> None:
    """One file a shard of the answer: uid and `columns`, the rows in the order of its input."""
    sizes = [pq.read_metadata(path).num_rows for path in inputs]
    schema = pa.schema([("uid", pa.string()), *columns.items()])
    for path, table in zip(outputs, query_by_shard(db, query, sizes), strict=True):
        pq.write_table(table.cast(schema), path)


def gather_inputs(db: DuckDBPyConnection, table: str, inputs: Sequence[Path], columns: str) -> None:
    """Fill `table` (shard, row, `columns`) from the inputs, in one transaction: a commit a shard would cost more."""
    db.execute("BEGIN")
    for shard, path in enumerate(inputs):
        make = f"CREATE TABLE {table} AS" if shard == 0 else f"INSERT INTO {table}"
        found = f"SELECT {shard} AS shard, file_row_number AS row, {columns}"
        db.execute(f"{make} {found} FROM read_parquet(?, file_row_number = true)", [str(path)])
    db.execute("COMMIT")


def write_lists(
    db: DuckDBPyConnection,
    query: str,
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    lists: str,
    names: tuple[str, str],
) -> None:
    """One file a shard: the numbers `n` of the answer as lists as long as those of the column `lists`, and the largest.

    The answer is ordered by shard, row and place in the list. The largest of none, or of nulls alone, is null.
    """
    sizes = [int(_lengths(path, lists).sum()) for path in inputs]
    for path, target, table in zip(inputs, outputs, query_by_shard(db, query, sizes), strict=True):
        numbers = table.column("n").combine_chunks()
        pq.write_table(_list_answers(path, _lengths(path, lists), numbers, names), target)


def _lengths(path: Path, keys: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    found = pq.read_table(path, columns=[keys]).column(0)
    lengths: np.ndarray[Any, np.dtype[np.int64]] = found.combine_chunks().value_lengths().fill_null(0).to_numpy()
    return lengths


def _list_answers(
    path: Path, lengths: np.ndarray[Any, np.dtype[np.int64]], counts: pa.Array, names: tuple[str, str]
) -> pa.Table:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    lists = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), counts)
    most = np.full(len(lengths), -1, np.int32)
    filled = lengths > 0
    if filled.any():
        most[filled] = np.maximum.reduceat(counts.fill_null(-1).to_numpy(), starts[:-1][filled])
    largest = pa.array(most, mask=most < 0)
    return pa.table({"uid": pq.read_table(path, columns=["uid"]).column(0), names[0]: lists, names[1]: largest})
