"""Verify a pool: every Parquet file against its checksums, and all bytes that one names against their SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from curate.pool.blob import BLOB
from curate.pool.damage import DamagedError, names_damage
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs

PLACE = ("tar", "offset", "nbytes", "sha256")


@dataclass(frozen=True)
class Damage:
    """Damage of a file or of a sample's bytes: a sentence, what of the pool it is in, and the shard if it has one."""

    said: str
    of: Literal["plan", "rows", "columns", "counts"]
    shard: str | None = None


def shard_names(pool: Pool) -> list[str]:
    """The names of the shards that are there, of whatever plan."""
    return sorted(path.stem for path in (pool.folder / "rows").glob("*.parquet"))


def verify_plans(pool: Pool) -> Iterator[Damage]:
    """Find damage in the plans, in what the source said of its rows, and in what was counted."""
    for path in sorted((pool.folder / "planned").glob("*.parquet")):
        yield from (Damage(said, "plan", path.stem) for said in damage_of(path))
    for path in sorted(pool.folder.rglob("*.json")):
        yield from (Damage(said, "plan" if path.name == pool.plan.name else "counts") for said in damage_of(path))


def damage_of(path: Path) -> Iterator[str]:
    """Find what is damaged in a Parquet or JSON file."""
    if path.suffix == ".parquet":
        yield from (block.said for block in read_through(path) if isinstance(block, DamagedError))
        return
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        yield f"{path}: cannot be read as JSON: {err}"


def verify_shard(pool: Pool, shard: str) -> Iterator[Damage]:
    """Find damage in a shard: its rows, its columns, and the bytes that they name, each looked at once."""
    rows = pool.folder / "rows" / f"{shard}.parquet"
    columns = sorted((pool.folder / "columns").glob(f"*/{shard}.parquet"))
    uids: list[str] = []
    seen: set[tuple[str, int]] = set()
    blobs = Blobs(pool)
    for path in (rows, *columns):
        of: Literal["rows", "columns"] = "rows" if path == rows else "columns"
        for block in read_through(path):
            if isinstance(block, DamagedError):
                yield Damage(block.said, of, shard)
                continue
            places = _places_of_rows(block, len(uids)) if path == rows else _places_in_columns(block)
            if path == rows:
                uids += block["uid"].to_pylist()
                yield from (Damage(said, of, shard) for said in _changed_texts(path, block))
            for row, place in places:
                if place["tar"] is None or (place["tar"], place["offset"]) in seen:
                    continue
                seen.add((place["tar"], place["offset"]))
                uid = uids[row] if row < len(uids) else f"of row {row}"
                for said in damage_of_bytes(pool, blobs, *(place[name] for name in PLACE)):
                    yield Damage(f"{said}, sample {uid}", of, shard)
    blobs.close()


def read_through(path: Path) -> Iterator[pa.Table | DamagedError]:
    """Read a whole Parquet file, a block at a time; where it is damaged, the error, at which it ends."""
    try:
        with names_damage(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
            for number in range(file.metadata.num_row_groups):
                yield file.read_row_group(number, use_threads=False)
    except DamagedError as err:
        yield err


def _places_of_rows(block: pa.Table, first: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Where the bytes of rows lie, with each row's number, from `first` on."""
    return enumerate(block.select(PLACE).to_pylist(), first)


def _places_in_columns(block: pa.Table) -> Iterator[tuple[int, dict[str, Any]]]:
    """Where the bytes lie that an op's columns name, with the number of each one's row."""
    for field in block.schema:
        if field.type in (BLOB, pa.list_(BLOB)):
            for row, value in zip(block["row"].to_pylist(), block[field.name].to_pylist(), strict=True):
                yield from ((row, place) for place in (value if isinstance(value, list) else [value]) if place)


def damage_of_bytes(pool: Pool, blobs: Blobs, tar: str, *place: Any) -> Iterator[str]:
    """Find what is damaged of the bytes at a place (`PLACE`)."""
    try:
        blobs.read(tar, *place)
    except DamagedError as err:
        yield err.said
    except OSError as err:
        yield f"{pool.locate(tar)}: {err.strerror or err}"


def _changed_texts(path: Path, block: pa.Table) -> Iterator[str]:
    """Texts lie in the rows themselves: those that are not what was taken in."""
    for row in block.select(["uid", "text", "status", "tar", "sha256"]).to_pylist():
        is_text = row["status"] == "success" and row["tar"] is None and row["sha256"] is not None
        if is_text and hashlib.sha256((row["text"] or "").encode()).hexdigest() != row["sha256"]:
            yield f"{path}: the text is not the one that was taken in, sample {row['uid']}"
