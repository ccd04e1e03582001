"""Read bytes of a pool's tars where rows and columns say they lie."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

from curate.pool.layout import Pool


class Blobs:
    """Reads payloads by (tar, offset, size); keeps the last few files open. One a thread."""

    def __init__(self, pool: Pool, keep_open: int = 32) -> None:
        self._pool, self._keep, self._open = pool, keep_open, OrderedDict[str, int]()
        self._last: tuple[tuple[str, int, int], bytes] | None = None

    def read(self, tar: str, offset: int, nbytes: int) -> bytes:
        """Read the payload's bytes; asked for again at once, as by the pages of one file, the very same object.

        Raises OSError when the tar is gone or shorter than it was.
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
            raise OSError(f"{self._pool.locate(tar)}: {nbytes} bytes at {offset} are not there; was the tar changed?")
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
