"""Read bytes of a pool's tars where rows and columns say they lie, and compare them with their SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from curate.pool.damage import damaged
from curate.pool.layout import Pool

Read = Callable[[str, int, int, str | None], bytes]
"""Brings the bytes at (tar, offset, nbytes) of the pool, which have this SHA-256 (hex)."""


class Blobs:
    """Reads payloads by (tar, offset, size); keeps the last few files open. One a thread."""

    def __init__(self, pool: Pool, keep_open: int = 32) -> None:
        self._pool, self._keep, self._open = pool, keep_open, OrderedDict[str, int]()
        self._last: tuple[tuple[str, int, int], bytes] | None = None

    def read(self, tar: str, offset: int, nbytes: int, sha256: str | None) -> bytes:
        """Read the payload's bytes; asked for again at once, as by the pages of one file, the very same object.

        `sha256` is None where nothing is known of them yet. Raises DamagedError when they are not those that were taken
        in, OSError when the tar is gone.
        """
        if self._last is not None and self._last[0] == (tar, offset, nbytes):
            return self._last[1]
        if tar in self._open:
            self._open.move_to_end(tar)
        else:
            if len(self._open) >= self._keep:
                os.close(self._open.popitem(last=False)[1])
            self._open[tar] = os.open(self._pool.locate(tar), os.O_RDONLY)
        data = os.pread(self._open[tar], nbytes, offset)
        if len(data) != nbytes:
            raise damaged(self._pool.locate(tar), f"{nbytes} bytes at {offset} are not there")
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise damaged(self._pool.locate(tar), f"the {nbytes} bytes at {offset} are not those that were taken in")
        self._last = (tar, offset, nbytes), data
        return data

    def __reduce__(self) -> tuple[Any, ...]:
        return Blobs, (self._pool, self._keep)  # in another process, with files of its own

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        while self._open:
            os.close(self._open.popitem()[1])
