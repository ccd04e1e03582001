"""Verify shards against their indexes: size, SHA-256, every header, and which samples changed."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from curate.commit import file_sha256
from curate.shards.index import ShardReader, describe_fault, index_path
from curate.shards.info import ShardError, ShardInfo
from curate.shards.remote import ORIGIN_FILE, UnreachableError, open_shard
from curate.shards.scan import Part, TarFault, TarLimits, scan_tar

MAX_PROBLEMS = 100


def verify(tar: Path, index: Path | None = None) -> list[str]:
    """Verify a shard: one sentence a problem, none when size, SHA-256 and every header agree."""
    tar = Path(tar)
    index = Path(index) if index is not None else index_path(tar)
    try:
        with ShardReader(tar, index) as reader:
            rows = [(uid, reader.parts(row)) for row, uid in enumerate(reader.uids.to_pylist())]
            stated = reader.metadata["tar_sha256"]
    except (OSError, ValueError) as err:
        return [str(err)]
    problems = _find_disagreements(tar, index, rows)
    if not problems and (found := file_sha256(tar)) != stated:
        problems = [f"{tar}: its SHA-256 is {found}, its index {index} says {stated}: the content was changed"]
        with ShardReader(tar, index) as reader:
            problems += _find_changed_samples(reader)
    return problems


def verify_shard(folder: Path, shard: ShardInfo) -> list[str]:
    """Verify a shard of the dataset in `folder`; of a remote one, every sample is read."""
    if not (folder / ORIGIN_FILE).is_file():
        return verify(folder / shard.tar, folder / shard.index)
    try:
        with open_shard(folder, shard) as reader:
            return _find_changed_samples(reader)
    except (ShardError, UnreachableError) as err:
        return [str(err)]


def _find_changed_samples(reader: ShardReader) -> list[str]:
    """The samples that are not those that were indexed, at most MAX_PROBLEMS of them."""
    return list(
        islice((problem for row in range(len(reader)) if (problem := _sample_problem(reader, row))), MAX_PROBLEMS)
    )


def _sample_problem(reader: ShardReader, row: int) -> str | None:
    try:
        reader.read(row, checked=True)
    except ShardError as err:
        return str(err)
    return None


def _find_disagreements(tar: Path, index: Path, rows: list[tuple[str, list[Part]]]) -> list[str]:
    """Where the tar's headers and the index's rows differ, at most MAX_PROBLEMS of them."""

    def problems() -> Any:
        row = 0
        for found in scan_tar(tar, TarLimits(member_bytes=1 << 62, samples=len(rows) + MAX_PROBLEMS)):
            if isinstance(found, TarFault):
                yield f"{tar}: {describe_fault(found)}"
                continue
            if row < len(rows) and (found.key, list(found.parts)) != rows[row]:
                yield f"{tar}: sample {row} is {found.key!r} in the tar, and {index} says otherwise: {rows[row]}"
            row += 1
        if row != len(rows):
            yield f"{tar}: holds {row} samples, its index {index} says {len(rows)}"

    return list(islice(problems(), MAX_PROBLEMS))
