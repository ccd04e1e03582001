"""Read files of a stranger's folder: none outside of it, none without bound, every failure named."""

from __future__ import annotations

import functools
import os
import stat
import unicodedata
from pathlib import Path

from curate import lfs

MAX_FILE_BYTES = 256 << 20

_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


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


def find_file(folder: str, name: str) -> Path:
    """Find the file of a name, composed or decomposed (`é` as one character or as two), as the folder has it."""
    path = Path(folder, name)
    if name.isascii() or os.path.lexists(path):
        return path
    others = (Path(folder, unicodedata.normalize(form, name)) for form in ("NFC", "NFD"))
    return next((other for other in others if os.path.lexists(other)), path)


def read_file(folder: str, name: str, most: int = MAX_FILE_BYTES) -> bytes:
    """Read a file in a folder. Raises UnreadableError: for a link or a `..` that leads out of it, for one."""
    data = read_start(folder, name, most + 1)
    if len(data) > most:
        raise UnreadableError("file_too_large", f"{find_file(folder, name).stat().st_size} bytes")
    if lfs.is_lfs_pointer(data):
        raise UnreadableError("lfs_pointer", f"{name}: {lfs.REMEDY}")
    return data


def read_start(folder: str, name: str, most: int) -> bytes:
    """Read the first bytes of a file in a folder, at most that many; waits for nothing. Raises UnreadableError."""
    if "\0" in name:
        raise UnreadableError("unsafe_name", "the path leads out of the folder")
    try:
        path = find_file(folder, name)
        _check_file(path, folder, name)
        # What was a file a moment ago may be a pipe by now: it is not waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read(most)
    except FileNotFoundError:
        raise UnreadableError("missing_file", f"{name}: not in the folder") from None
    except (OSError, RuntimeError) as err:  # a loop of links, a name too long, no right to read
        raise UnreadableError("unreadable_file", f"{type(err).__name__}: {err}") from None


def _check_file(path: Path, folder: str, name: str) -> None:
    """Raise UnreadableError for what is no file, or lies elsewhere."""
    inside = is_inside(path, folder)
    if path.is_symlink() and path.is_dir():
        where = "elsewhere in it" if inside else "out of the folder"
        raise UnreadableError("linked_folder", f"{name}: leads {where}; folders are entered by their own names alone")
    if not inside:
        raise UnreadableError("unsafe_name", "the path leads out of the folder")
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return
    if not stat.S_ISDIR(mode):
        raise UnreadableError("special_file", f"{name}: {_KINDS.get(stat.S_IFMT(mode), 'no file')}")
    try:
        os.scandir(path).close()
    except PermissionError as err:
        raise UnreadableError("unreadable_folder", f"{name}: {err.strerror}: what lies in it is not known") from None
    raise UnreadableError("missing_file", f"{name}: a folder")
