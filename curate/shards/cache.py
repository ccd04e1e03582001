"""Cache whole shards on a local disk, within a budget of bytes, shared by all processes of a host.

A shard is kept under its SHA-256, checked when it comes, and appears at once by a rename: a reader sees none or all of
it. Each download holds a lock of the operating system's on its shard, so that no two processes fetch the same one and a
killed one leaves no lock behind; its part file is swept by whoever next needs room. What was used longest ago goes
first; an open file stays readable after that. Fetching ahead of use drops nothing that is needed sooner, here or by
another process.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.commit import file_sha256
from curate.shards.info import ShardError

ROOM = "room.lock"
IDLE_S = 30.0
"""What was used within this time may be in use by another process, and makes no room for what is fetched ahead."""


class ShardCache:
    """Shards in `folder`, at most `budget_bytes` of them, those being fetched counted in full."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder, self.budget_bytes = Path(folder), budget_bytes
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(
        self, name: str, size: int, sha256: str, fetch: Callable[[Path], None], later: Collection[str] | None = None
    ) -> Path | None:
        """Get the shard's file; None if there is no room. `fetch` fills the file it is given, of the shard's full size.

        Ahead of its use, `later` are the shards (SHA-256) that are needed later than this one: besides what is idle
        only they make room, and a shard that is being fetched is not waited for. Raises ShardError for other content
        than `sha256` says, and what `fetch` raises.
        """
        path = self.folder / f"{sha256}.tar"
        if self.mark_used(sha256):
            return path
        with locked(self.folder / f"{sha256}.lock", wait=later is None) as is_locked:
            if not is_locked or self.mark_used(sha256):
                return path
            part = path.with_suffix(".part")
            if not self._room_for(part, size, later):
                return None
            try:
                fetch(part)
                if (found := file_sha256(part)) != sha256:
                    raise ShardError(
                        f"{name}: what came has the SHA-256 {found[:16]}..., its index says {sha256[:16]}...: the tar"
                        " was changed where it lies; publish or index it again"
                    )
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
        return path

    def mark_used(self, sha256: str) -> bool:
        """Mark a shard as used now; False if it is not kept."""
        try:
            os.utime(self.folder / f"{sha256}.tar")
        except FileNotFoundError:
            return False
        return True

    def used_bytes(self) -> int:
        """Bytes of all shards kept or being fetched."""
        return sum(size for _, size, _ in self._kept())

    def _room_for(self, part: Path, size: int, later: Collection[str] | None) -> bool:
        """Drop what was used longest ago until `size` more bytes fit, and take them; False if they cannot fit."""
        until = time.time_ns() - round(IDLE_S * 1e9)
        with locked(self.folder / ROOM):
            for other in self.folder.glob("*.part"):
                self._sweep(other, part)
            kept = sorted(self._kept())
            free = self.budget_bytes - sum(nbytes for _, nbytes, _ in kept)
            droppable = [
                (nbytes, path)
                for used, nbytes, path in kept
                if path.suffix == ".tar" and (later is None or used < until or path.stem in later)
            ]
            if size > free + sum(nbytes for nbytes, _ in droppable):
                return False
            while size > free:
                nbytes, path = droppable.pop(0)
                path.unlink(missing_ok=True)
                free += nbytes
            with part.open("wb") as file:
                file.truncate(size)
        return True

    def _sweep(self, part: Path, own: Path) -> None:
        """Remove a part that no living process is fetching."""
        if part == own:
            part.unlink(missing_ok=True)
            return
        with locked(part.with_suffix(".lock"), wait=False) as is_locked:
            if is_locked:
                part.unlink(missing_ok=True)

    def _kept(self) -> Iterator[tuple[int, int, Path]]:
        """(last use, bytes, path) of every file that counts."""
        for path in self.folder.iterdir():
            if path.suffix in (".tar", ".part"):
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue
                yield stat.st_mtime_ns, stat.st_size, path


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock that the operating system lets go of when its process ends; yields whether it was got."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
