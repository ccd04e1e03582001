"""Pointers of git-lfs, which stand in the place of files.

Format: docs/spec.md of git-lfs. A pointer is smaller than 1,024 bytes and begins with its version.
"""

from __future__ import annotations

REMEDY = "a git-lfs pointer stands in the file's place: run `git lfs pull` in the repository it came from"

_VERSION = b"version https://git-lfs.github.com/spec/"


def is_lfs_pointer(data: bytes) -> bool:
    """Whether these bytes, a file's or its first 1,024, are but a pointer."""
    return len(data) < 1024 and data.startswith(_VERSION)
