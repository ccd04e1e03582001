"""Unpack archives whose records are packed one by one, by gzip or zstd, or not at all.

A file is read as runs of unpacked bytes. A run ends where a member begins whose first bytes can begin a record, so that
a record that is cut off never takes the next one's bytes; members that go on with a record (BGZF) are one run. Behind
damage, the next member is searched for by its magic and by what it unpacks to. In all, no more is read twice than the
file is long: a file made to be costly is not.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import BinaryIO

from curate.readers.zstd_frames import SKIPPABLE, ZSTD, FileBytes, FrameError, read_dictionary, unpack_frame

GZIP = b"\x1f\x8b\x08"
_PIECE = 1 << 18
_FIRST = 1 << 16
"""A member of so many packed and unpacked bytes (as all of bgzip's are) gives none before its checksum was right."""

_BLOCK = 1 << 20
_PEEKED = 16

Unpack = Callable[[FileBytes, int, int], Generator[bytes, None, int]]
"""From a file, where a member begins in it, and how many bytes a piece may have: the unpacked bytes in pieces, then
where the member ends. Raises FrameError."""


@dataclass
class Run:
    """Unpacked bytes that follow one another, from `offset` of the file, where a member begins if it `is_packed`.

    Known at the end are `length`, of the unpacked bytes, and `damage`: what is wrong with those that would have
    followed, and whether it is that the file `is_cut` off. `verified`: how many bytes are of members that were whole.
    """

    archive: Archive
    offset: int
    is_packed: bool
    length: int | None = None
    damage: str | None = None
    is_cut: bool = False
    verified: int = 0
    next_run: int | None = None
    _pieces: Iterator[bytes] = field(default_factory=lambda: iter(()))
    position: int = 0

    def __post_init__(self) -> None:
        self.rewind(0)
        if not self.is_packed:
            self.length = self.archive.size - self.offset

    def read(self) -> bytes:
        """The next bytes; none at the end."""
        piece = next(self._pieces, b"")
        self.position += len(piece)
        if not piece:
            self.length = self.position
        return piece

    def rewind(self, position: int) -> None:
        """Go to a position of the unpacked bytes, where reading goes on."""
        self.position = position
        if not self.is_packed:
            self._pieces = self.archive.plain_pieces(self.offset + position)
            return
        self._pieces = self.archive.packed_pieces(self)
        while position > 0:
            piece = next(self._pieces, b"")
            if len(piece) > position:
                self._pieces = chain((piece[position:],), self._pieces)
            position = max(0, position - len(piece)) if piece else 0


class Archive:
    """A file of records, each of which begins with `begins`."""

    def __init__(self, file: BinaryIO, begins: bytes) -> None:
        self._file, self._begins = FileBytes(file), begins
        self.size = self._file.size
        self._twice = self.size
        self._go_on = False  # whether members were seen that go on with a record
        self._magic, self._unpack = self._packing()

    def runs(self) -> Iterator[Run]:
        """Read the runs of unpacked bytes, in order; each is read to its end before the next one comes."""
        at: int | None = 0 if self.size else None
        while at is not None:
            run = Run(self, at, self._unpack is not None)
            yield run
            while run.read():
                pass
            at = run.next_run

    def may_rewind(self, run: Run) -> bool:
        """Whether a run may be read again, up to where reading stands."""
        return not run.is_packed or self._read_twice(self._file.at - run.offset)

    def _read_twice(self, nbytes: int) -> bool:
        """Whether so many bytes of the file may be read once more; from then on they count."""
        allowed = nbytes <= self._twice
        self._twice -= nbytes if allowed else 0
        return allowed

    def plain_pieces(self, at: int) -> Iterator[bytes]:
        """The bytes of a file that is not packed, from `at` on."""
        while piece := self._file.read(at, _BLOCK):
            at += len(piece)
            yield piece

    def packed_pieces(self, run: Run) -> Iterator[bytes]:
        """The unpacked bytes of a run; at its end, what is wrong there, and where the next one begins."""
        assert self._unpack is not None
        at = run.offset
        if not self._is_member(at):
            run.next_run = self._find_member(at + 1)
            run.damage = f"{(run.next_run or self.size) - at} bytes that are no compressed record"
            run.is_cut = self._magic.startswith(self._file.read(at, len(self._magic)))
            return
        while True:
            begin = at
            try:
                at = yield from self._unpack(self._file, begin, _PIECE)
            except FrameError as err:
                if run.damage is None:  # read again, it ends where it ended before
                    run.damage, run.is_cut = str(err), err.is_cut
                    run.next_run = self._find_behind(begin, err.at)
                return
            run.verified = run.position
            at = self._skip_padding(at)
            if at >= self.size:
                return
            if not self._is_member(at) or (peeked := self._peek(at)) is None or peeked.startswith(self._begins):
                run.next_run = at
                return
            self._go_on = self._go_on or bool(peeked)

    def _packing(self) -> tuple[bytes, Unpack | None]:
        head = self._file.read(0, _BLOCK)
        zstd = ZSTD, functools.partial(unpack_frame, dictionary=read_dictionary(self._file))
        if head.startswith(ZSTD) or head[1:4] == SKIPPABLE:
            return zstd
        if head.startswith(GZIP):
            return GZIP, _inflate
        for magic, unpack in ((GZIP, _inflate), zstd) if self._begins not in head else ():
            self._magic, self._unpack = magic, unpack
            if self._find_member(0) is not None:  # the first member alone is damaged
                return magic, unpack
        return b"", None

    def _is_member(self, at: int) -> bool:
        head = self._file.read(at, 4)
        return head.startswith(self._magic) or (self._magic == ZSTD and head[1:] == SKIPPABLE)

    def _peek(self, at: int) -> bytes | None:
        """The first bytes that a member unpacks to; None where it cannot be unpacked."""
        assert self._unpack is not None
        found = b""
        try:
            for piece in self._unpack(self._file, at, _PEEKED):
                found += piece
                if len(found) >= _PEEKED:
                    break
        except FrameError:
            return found or None
        return found

    def _skip_padding(self, at: int) -> int:
        """Behind zeros that fill a file up to its end; tapes and block devices are read so."""
        end = at
        if self._file.read(at, 1) != b"\0":
            return at
        while (block := self._file.read(end, _BLOCK)) and not block.strip(b"\0"):
            end += len(block)
        return at if block else end

    def _find_behind(self, begin: int, at: int) -> int | None:
        """The next member behind one that is damaged: it may have taken others for its own bytes before that showed."""
        again = at - begin - 1
        return self._find_member(begin + 1 if again > 0 and self._read_twice(again) else max(at, begin + 1))

    def _find_member(self, at: int) -> int | None:
        while len(block := self._file.read(at, _BLOCK)) >= len(self._magic):
            found = -1
            while (found := block.find(self._magic, found + 1)) >= 0:
                peeked = self._peek(at + found)
                if peeked and (self._go_on or peeked.lstrip(b"\r\n").startswith(self._begins)):
                    return at + found
            at += len(block) - len(self._magic) + 1
        return None


def _inflate(file: FileBytes, at: int, most: int) -> Generator[bytes, None, int]:
    begin, member, block = at, zlib.decompressobj(31), _FIRST
    while packed := file.read(at, block):
        block = min(4 * block, _BLOCK)  # most members are small
        while packed:
            try:
                piece = member.decompress(packed, most)
            except zlib.error as err:
                raise FrameError(f"the gzip member at byte {begin} is damaged: {err}", at + len(packed)) from None
            if piece:
                yield piece
            rest = member.unused_data if member.eof else member.unconsumed_tail
            at += len(packed) - len(rest)
            if member.eof:
                return at
            packed = rest
    raise FrameError(f"the file ends within the gzip member at byte {begin}", at, is_cut=True)
