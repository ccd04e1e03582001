"""Read files of a stranger's folder: none outside of it, none without bound, every failure named."""

from __future__ import annotations

import functools
import os
from pathlib import Path

MAX_FILE_BYTES = 256 << 20


class UnreadableError(Exception):
    """A file of a source that cannot be had: the error's name and what was found."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error, self.detail = error, detail


@functools.cache
def _real(folder: str) -> str:
    return os.path.join(os.path.realpath(folder), "")


def is_inside(path: Path, folder: str) -> bool:
    """Whether a path stays in the folder when every link is followed."""
    return os.path.join(os.path.realpath(path), "").startswith(_real(folder))


def read_file(folder: str, name: str, most: int = MAX_FILE_BYTES) -> bytes:
    """Read a file in a folder. Raises UnreadableError: for a link or a `..` that leads out of it, for one."""
    path = Path(folder, name)
    try:
        if "\0" in name or not is_inside(path, folder):
            raise UnreadableError("unsafe_name", "the path leads out of the folder")
        if not path.is_file():
            raise UnreadableError("missing_file", f"{name}: not in the folder")
        if path.stat().st_size > most:
            raise UnreadableError("file_too_large", f"{path.stat().st_size} bytes")
        return path.read_bytes()
    except (OSError, RuntimeError) as err:  # a loop of links, a name too long, no right to read
        raise UnreadableError("unreadable_file", f"{type(err).__name__}: {err}") from None
