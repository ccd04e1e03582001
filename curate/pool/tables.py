"""Read and write Parquet files of a pool, whole or by columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.commit import commit_file
from curate.pool.damage import names_damage


def write_table(table: pa.Table, path: Path) -> None:
    """Commit a Parquet file."""
    with commit_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file of ours into memory (not through a dataset: one file, no discovery). Raises DamagedError."""
    with names_damage(path), pq.ParquetFile(path, memory_map=True, page_checksum_verification=True) as file:
        return file.read(columns=list(columns) if columns is not None else None, use_threads=False)


GROUP = b"group"
"""A mark in the metadata of a group op's columns: they hold all admitted rows or none."""


def is_group_file(path: Path) -> bool:
    """Whether a file of columns is a group op's."""
    with names_damage(path):
        return GROUP in (pq.read_schema(path).metadata or {})


def count_rows(path: Path) -> int:
    """Count the rows of a Parquet file, from its footer."""
    with names_damage(path), pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)
