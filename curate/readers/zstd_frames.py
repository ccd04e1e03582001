"""Unpack frames of zstd (RFC 8878) one at a time, with the dictionary of a web archive (IIPC, warc-zstd 1.0)."""

from __future__ import annotations

import io
from collections.abc import Generator
from itertools import islice
from typing import BinaryIO

from curate.extras import require

ZSTD = b"\x28\xb5\x2f\xfd"
SKIPPABLE = b"\x2a\x4d\x18"
"""Behind their first byte, the four bytes that begin a frame without data."""

_DICTIONARY = b"\x5d"
_MAX_DICTIONARY_BYTES = 16 << 20
_PIECE = 1 << 18
_AHEAD = 1 << 20
_RLE, _RESERVED = 1, 3


class FrameError(ValueError):
    """A member of an archive that cannot be unpacked; `at` is about where in the file that showed, `is_cut` whether the
    file ends within it."""

    def __init__(self, message: str, at: int, is_cut: bool = False) -> None:
        super().__init__(message)
        self.at, self.is_cut = at, is_cut


class FileBytes:
    """A file's bytes by their place: what was read ahead is asked for again and again where members are small."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        self.at = 0
        self._block, self._begin = b"", 0

    def read(self, at: int, nbytes: int) -> bytes:
        """So many bytes from a place on, or as many as there are; `at` is then behind them."""
        nbytes = min(nbytes, max(0, self.size - at))
        if not self._begin <= at <= at + nbytes <= self._begin + len(self._block):
            self._file.seek(at)
            self._block, self._begin = self._file.read(max(nbytes, _AHEAD)), at
        self.at = at + nbytes
        return self._block[at - self._begin : at - self._begin + nbytes]


def unpack_frame(file: FileBytes, at: int, most: int, dictionary: bytes | None) -> Generator[bytes, None, int]:
    """Unpack the frame that begins at a byte of the file; returns where it ends. Raises FrameError."""
    require("a web archive packed with zstd", "fastwarc")
    from fastwarc.stream_io import ZstdReader

    end = find_end(file, at)
    if file.read(at, 4)[1:] == SKIPPABLE:
        return end
    part = _Part(file, at, end)
    reader = ZstdReader(part, dictionary=dictionary)
    try:
        while piece := reader.read(most):
            yield piece
    except OSError as err:
        raise FrameError(f"the zstd frame at byte {at} is damaged: {err}", part.at) from None
    return end


def find_end(file: FileBytes, at: int) -> int:
    """Find where a frame ends, by the lengths of its blocks. Raises FrameError."""
    cut = FrameError(f"the file ends within the zstd frame at byte {at}", at + 4, is_cut=True)
    size = file.size
    head = file.read(at, 8)
    if head[1:4] == SKIPPABLE:
        end = at + 8 + int.from_bytes(head[4:], "little")
    else:
        if len(head) < 5:
            raise cut
        said = head[4]
        single = said >> 5 & 1
        end = at + 5 + (not single) + (0, 1, 2, 4)[said & 3] + (single, 2, 4, 8)[said >> 6]
        last = False
        while not last and end < size:
            block = int.from_bytes(file.read(end, 3), "little")
            last, kind = bool(block & 1), block >> 1 & 3
            if kind == _RESERVED:
                raise FrameError(f"the zstd frame at byte {at} is damaged: a block of no kind", end)
            end += 3 + (1 if kind == _RLE else block >> 3)
        if not last:
            raise cut
        end += 4 * (said >> 2 & 1)
    if end > size:
        raise cut
    return end


def read_dictionary(file: FileBytes) -> bytes | None:
    """Read the dictionary with which a file begins; None where there is none, or where it cannot be read."""
    head = file.read(0, 8)
    length = int.from_bytes(head[4:], "little")
    if head[:4] != _DICTIONARY + SKIPPABLE or length > _MAX_DICTIONARY_BYTES:
        return None
    found = file.read(8, length)
    if not found.startswith(ZSTD):
        return found
    try:
        pieces = islice(unpack_frame(FileBytes(io.BytesIO(found)), 0, _PIECE, None), _MAX_DICTIONARY_BYTES // _PIECE)
        return b"".join(pieces)
    except FrameError:
        return None


class _Part(io.RawIOBase):
    """Some bytes of a file, as a file."""

    def __init__(self, file: FileBytes, at: int, end: int) -> None:
        self._file, self._begin, self.at, self._end = file, at, at, end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: self._begin, io.SEEK_CUR: self.at, io.SEEK_END: self._end}[whence]
        return self.at - self._begin

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(self.at, self._end - self.at if size < 0 else min(size, self._end - self.at))
        self.at += len(found)
        return found
