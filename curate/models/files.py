"""Model files: their digests, and the error for one that cannot be used."""

from __future__ import annotations

import functools
from pathlib import Path

from curate.commit import file_sha256


class ModelError(ValueError):
    """A model that cannot be found or loaded as asked; the message says where, what and what to do."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, remembered while its size and time do not change."""
    found = path.stat()
    return _digest(str(path), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest(path: str, size: int, mtime_ns: int) -> str:
    return file_sha256(Path(path))
