"""Commit files whole or not at all.

A run takes a folder over (`take_over`) by removing what its predecessors had in the making. A worker that outlives
its run writes on for seconds, without the lock; but what it makes lies in its own run's folder until it is renamed to
its place, and once that folder is gone there is nothing left to rename: the file system refuses it, on whatever node.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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


class TakenOverError(OSError):
    """A folder that another run has taken over since: this one can commit nothing there any more."""


_held: dict[Path, Path] = {}
"""By the folder that a run of this process holds, the run's own: what it has not finished lies there."""


@contextmanager
def take_over(folder: Path) -> Iterator[None]:
    """Hold a folder: below it, nothing is committed but by this process and those that `join` it, until this ends.

    For one that has the folder's lock. What killed processes left unfinished anywhere below is removed.
    """
    folder = Path(os.path.abspath(folder))
    for earlier in folder.glob(".run-*"):
        _discard(earlier)
    remove_leftovers(folder)
    own = folder / f".run-{secrets.token_hex(16)}"
    own.mkdir()
    join({folder: own})
    try:
        yield
    finally:
        del _held[folder]
        _discard(own)


def held_folders() -> dict[Path, Path]:
    """Name the folders that this process holds, for `join`."""
    return dict(_held)


def join(held: Mapping[Path, Path]) -> None:
    """Commit for the run that holds these folders, in a process of its own."""
    _held.update(held)


@contextmanager
def commit_file(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file; on success it is flushed to disk and renamed to `path`, on an error removed.

    A reader sees the old file, no file, or the whole new one. The temporary lies beside `path`, or in the own folder
    of the run that holds what `path` is in; no two processes have one name for it. Raises TakenOverError where another
    run holds the folder by now.
    """
    own = _own_folder(path)
    temporary = (own or path.parent) / _temporary_name(path)
    if own is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        _put(temporary, path, own)
        _sync_folder(path.parent)
    except FileNotFoundError:
        if own is not None and not own.is_dir():
            raise TakenOverError(f"{own.parent}: another run has taken this folder over; this one stops") from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _put(temporary: Path, path: Path, own: Path | None) -> None:
    """Rename a file to its place, and make the folder of it."""
    while True:
        try:
            if own is not None:
                _make_folder(path.parent, own)
            os.replace(temporary, path)
            return
        except FileNotFoundError:
            if own is None or not own.is_dir() or not temporary.exists():
                raise
            # Another worker's folder of that name took the place of this one's, which was empty still.


def commit_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with commit_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def withdraw_file(path: Path) -> None:
    """Take a committed file back, if it is there; where a run holds the folder, it alone can."""
    own = _own_folder(path)
    if own is None:
        path.unlink(missing_ok=True)
        return
    gone = own / _temporary_name(path)
    with suppress(FileNotFoundError):
        os.replace(path, gone)
        gone.unlink()


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


def _own_folder(path: Path) -> Path | None:
    """The own folder of the run that holds what `path` is in; None where no run of this process does."""
    absolute = Path(os.path.abspath(path)) if _held else path
    return next((own for folder, own in _held.items() if absolute.is_relative_to(folder)), None)


def _temporary_name(path: Path) -> str:
    """A name that no other process has, on this node or another; short, since the file's own may be the longest."""
    return f".{path.name[:32]}.{secrets.token_hex(16)}.tmp"


def _make_folder(folder: Path, own: Path) -> None:
    """Make a folder as a file is committed: complete and by a rename, so that none appears after a run's end."""
    if folder.is_dir():
        return
    _make_folder(folder.parent, own)
    made = own / _temporary_name(folder)
    made.mkdir()
    try:
        os.rename(made, folder)
    except OSError:  # another worker was first, and it holds something
        made.rmdir()
        folder.mkdir(exist_ok=True)


def _discard(own: Path) -> None:
    """Remove a run's own folder. Renamed first: what was to be renamed out of it is then nowhere to be found."""
    gone = own.with_name(f".run-{secrets.token_hex(16)}")
    with suppress(FileNotFoundError):
        os.rename(own, gone)
        shutil.rmtree(gone)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
