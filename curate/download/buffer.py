"""Reorder buffer of finished rows: in memory up to a limit, then in an unnamed temporary file."""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import IO

from curate.download.fetched import Fetched

WAITING_RESIZES = 64


class BufferBudget:
    """Memory budget of the buffer: bytes of finished bodies not yet handed over, and rows that wait for a resize.

    `room` is an event of the loop, clear while there is too much of either.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = self.backlog = 0
        self.room = asyncio.Event()
        self.room.set()

    @property
    def is_full(self) -> bool:
        """Whether the limit of bytes is exceeded."""
        return self.held_bytes > self.limit_bytes

    def add(self, size: int, to_resize: int = 0) -> None:
        """Count `size` more bytes and `to_resize` more rows (fewer if negative)."""
        self.held_bytes += size
        self.backlog += to_resize
        if self.is_full or self.backlog > WAITING_RESIZES:
            self.room.clear()
        else:
            self.room.set()


class ReorderBuffer:
    """The finished rows of one shard, by number; their bodies are counted in `budget`."""

    def __init__(self, budget: BufferBudget, scratch: Path | None) -> None:
        self._budget, self._scratch = budget, scratch
        self._rows: dict[int, Fetched] = {}
        self._places: dict[int, tuple[int, int]] = {}
        self._end = 0
        self._file: IO[bytes] | None = None

    def __contains__(self, number: int) -> bool:
        return number in self._rows

    def add(self, number: int, row: Fetched) -> None:
        """Keep a finished row."""
        self._rows[number] = row
        self._budget.add(len(row.body or b""))

    def take(self, number: int) -> Fetched:
        """Hand over a finished row, from memory or from the file."""
        row = self._rows.pop(number)
        place = self._places.pop(number, None)
        if place is None:
            self._budget.add(-len(row.body or b""))
            return row
        assert self._file is not None
        offset, size = place
        body = os.pread(self._file.fileno(), size, offset)
        assert len(body) == size
        if not self._places:
            self._end = 0  # nothing in the file is needed any more: write from its start again
        return replace(row, body=body)

    def spill(self) -> None:
        """If the budget is full, move bodies to the file until half of it is free, those needed last going first."""
        if not self._budget.is_full:
            return
        for number in sorted(self._rows.keys() - self._places.keys(), reverse=True):
            if self._budget.held_bytes <= self._budget.limit_bytes // 2:
                return
            body = self._rows[number].body
            if body:
                self._write(body)
                self._places[number] = (self._end - len(body), len(body))
                self._rows[number] = replace(self._rows[number], body=None)
                self._budget.add(-len(body))

    def close(self) -> None:
        """Drop everything, the file included."""
        self._budget.add(-sum(len(row.body or b"") for row in self._rows.values()))
        self._rows.clear()
        if self._file is not None:
            self._file.close()

    def _write(self, body: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._scratch, buffering=0)  # noqa: SIM115
        left = memoryview(body)
        while left:
            written = os.pwrite(self._file.fileno(), left, self._end)
            self._end += written
            left = left[written:]
