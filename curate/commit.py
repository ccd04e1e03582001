"""Commit files whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BLOCK = 1 << 20


def dump_json(value: Any) -> str:
    """The project's one JSON layout: sorted keys, two spaces, a newline at the end; the same data, the same bytes."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as hex, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def commit_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed, on an error removed.

    A reader sees the old file, no file, or the whole new one. The temporary name holds the process id, so
    processes do not tread on each other; what a killed process leaves is swept by `remove_leftovers`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def commit_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with commit_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file of ours. Raises ValueError where it was cut or changed since it was written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no object")
    except ValueError as err:
        raise ValueError(
            f"{path}: cannot be read ({err}): it was written whole, and was cut or changed since; delete it and run the"
            " same command again, which makes it anew"
        ) from None
    return found


def remove_leftovers(folder: Path) -> int:
    """Delete the temporary files that killed processes left anywhere below `folder`; returns how many."""
    leftovers = list(folder.rglob(".*.tmp")) if folder.is_dir() else []
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
