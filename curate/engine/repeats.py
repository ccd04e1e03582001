"""Find rows whose uid came before in the pool: the first of each stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.engine import publish
from curate.pool.layout import Pool
from curate.pool.tables import write_table


def mark_repeats(pool: Pool, shards: Sequence[int], scratch: Path) -> int:
    """Commit, a shard, which successful rows have the uid of an earlier one; returns how many there are."""
    import duckdb

    scratch.mkdir(parents=True, exist_ok=True)
    query = """WITH rows AS (SELECT uid, number, file_row_number AS row
                             FROM read_parquet(?, file_row_number=true, filename=true) JOIN files USING (filename)
                             WHERE status = 'success'),
                    firsts AS (SELECT uid, min((number, row)) AS first FROM rows GROUP BY uid HAVING count(*) > 1)
               SELECT number, row FROM rows JOIN firsts USING (uid) WHERE (number, row) > first ORDER BY number, row"""
    paths = [str(pool.rows(shard)) for shard in shards]
    total = 0
    with duckdb.connect() as db:
        db.execute(f"SET memory_limit='{publish.MEMORY_LIMIT}'; SET threads=2")
        db.execute("SET temp_directory=?", [str(scratch)])
        db.register("files", pa.table({"filename": paths, "number": pa.array(list(shards), pa.int64())}))
        for shard, found in groupby(_fetched(db.execute(query, [paths])), key=lambda place: place[0]):
            numbers = [row for _, row in found]
            write_table(pa.table({"row": pa.array(numbers, pa.int32())}), pool.repeats(shard))
            total += len(numbers)
    return total


def _fetched(result: Any) -> Iterator[tuple[Any, ...]]:
    while rows := result.fetchmany(4096):
        yield from rows
