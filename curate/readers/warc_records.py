"""Cut a web archive into records (WARC 0.17 to 1.1, ISO 28500): each whole, or a fault in its place.

A record is whole where its Content-Length leads to a record's end: blank lines, the next record, or the end. What is
not is a fault, and reading goes on at the next record that can be found: the next compressed member, or a line that
begins one. Files are taken as they are written: lines that end in a newline alone, blank lines too few or too many,
many records in one member. Memory is bounded by the largest record that the limit allows.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from curate.readers.members import Archive, Run

MAX_HEADER_BYTES = 1 << 20

_BEGINS = b"WARC/"
_RECORD = re.compile(rb"(?<![^\r\n])WARC/\d+\.\d+[ \t]*\r?\n[\w-]+[ \t]*:")
_LONGEST_BEGIN = 128
_VERSION = re.compile(rb"WARC/\d+\.\d+[ \t]*(?:\r?\n|$)")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_FOLDED = re.compile(rb"\r?\n[ \t]+")
_NOT_BLANK = re.compile(rb"[^\r\n]")
_ONCE = ("warc-type", "warc-record-id", "content-length")
_BLANK = b"\r\n\r\n"
_COMPACT = 1 << 20


@dataclass(frozen=True)
class WarcRecord:
    """A record: its type and fields by names in small letters, and its block, of which a longer one has only the
    beginning (`length` is what it should be). `offset` is the place in the file, of the member where it is packed."""

    kind: str
    fields: Mapping[str, bytes]
    block: bytes
    length: int
    offset: int

    @property
    def url(self) -> str:
        """WARC-Target-URI; bytes that are no UTF-8 are escaped, as in any URL."""
        value = self.fields.get("warc-target-uri", b"").strip(b"<> ")
        try:
            return value.decode()
        except UnicodeDecodeError:
            return re.sub(rb"[\x80-\xff]", lambda found: b"%%%02X" % ord(found[0]), value).decode()

    def text(self, field: str) -> str | None:
        """A field's text, where there is one."""
        value = self.fields.get(field)
        return None if value is None else header_text(value)


@dataclass(frozen=True)
class WarcFault:
    """A fault of a web archive by its name, where it lies in the file, and the page's address if that is known.

    truncated_record: it ends before its end. corrupt_warc: bytes that are no whole record. Of a record that is whole:
    record_too_large, segmented_record, bad_encoding, bad_record.
    """

    error: str
    detail: str
    offset: int
    url: str | None = None


def read_records(source: Path | BinaryIO, max_record_bytes: int) -> Iterator[WarcRecord | WarcFault]:
    """Read the records of a file, and the faults among them, in order."""
    opened = source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source)
    with opened as file:
        archive = Archive(file, _BEGINS)
        for run in archive.runs():
            yield from _RunReader(archive, run, max_record_bytes).records()


def header_text(value: bytes) -> str:
    """A header's value as text: UTF-8, or else Latin-1, as HTTP had it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def parse_fields(lines: bytes) -> list[tuple[str, bytes]]:
    """Parse header lines, folded ones with them: names in small letters, and values."""
    found = (line.partition(b":") for line in _FOLDED.sub(b" ", lines).splitlines())
    return [(header_text(name).strip().lower(), value.strip()) for name, colon, value in found if colon]


class _RunReader:
    """The records of one run of unpacked bytes, of which a window is held."""

    def __init__(self, archive: Archive, run: Run, max_record_bytes: int) -> None:
        self._archive, self._run, self._most = archive, run, max_record_bytes
        self._held = bytearray()
        self._begin = 0  # where in the run the bytes held begin
        self._at = 0

    def records(self) -> Iterator[WarcRecord | WarcFault]:
        """Read them; damage at the run's end is the fault of the record that it cuts, or one of its own."""
        told = False
        while self._skip_blank():
            self._drop()
            found = self._record()
            told = isinstance(found, WarcFault)
            yield found
            if told:
                self._find_record()
        if self._run.damage is not None and not told:
            error = "truncated_record" if self._run.is_cut else "corrupt_warc"
            yield WarcFault(error, self._run.damage, self._run.offset)

    def _record(self) -> WarcRecord | WarcFault:
        begin = self._begin + self._at
        offset = self._run.offset + (0 if self._run.is_packed else begin)
        where = f" (at byte {begin} of what the member holds)" if self._run.is_packed and begin else ""
        try:
            fields = self._header()
            length = _length_of(fields)
        except _BadRecordError as err:
            return WarcFault(err.error, f"{err}{where}", offset)
        block_begin = self._begin + self._at
        block, there = self._block(length)
        record = WarcRecord(header_text(fields["warc-type"]).lower(), fields, block, length, offset)
        wrong = self._what_is_wrong(length, there)
        if wrong is None:
            return record
        self._go_to(block_begin)
        return WarcFault(wrong[0], f"{wrong[1]}{where}", offset, record.url or None)

    def _header(self) -> dict[str, bytes]:
        """The fields of the header that begins here; goes behind it."""
        if not self._starts_record():
            raise self._no_record("corrupt_warc", f"{self._shown()} where a record should begin")
        searched = self._at
        while (end := _HEADER_END.search(self._held, searched)) is None:
            if len(self._held) - self._at > MAX_HEADER_BYTES:
                raise self._no_record("corrupt_warc", f"a record's header without an end in {MAX_HEADER_BYTES} bytes")
            searched = max(self._at, len(self._held) - 3)
            if not self._fill():
                raise self._no_record("truncated_record", f"within a record's header: {self._end()}")
        lines = bytes(self._held[self._at : end.start()])
        if not _VERSION.match(lines) or b"\0" in lines:
            raise self._no_record("corrupt_warc", f"{self._shown()} where a record should begin")
        fields = parse_fields(lines)
        names = [name for name, _ in fields]
        if any(names.count(name) > 1 for name in _ONCE):
            raise self._no_record("corrupt_warc", "a record's header that runs into another's")
        self._at = end.end()
        return dict(fields)

    def _block(self, length: int) -> tuple[bytes, int]:
        """The block, or the beginning of one that is too long, and how many bytes of it are there; goes behind it."""
        begin = self._begin + self._at
        if self._run.length is not None and begin + length > self._run.length:
            return b"", self._run.length - begin
        wanted = min(length, self._most)
        while len(self._held) - self._at < wanted:
            if not self._fill():
                return b"", len(self._held) - self._at
        if length > self._most:
            block = bytes(self._held[self._at : self._at + min(wanted, MAX_HEADER_BYTES)])
            self._go_to(begin + length)
            return block, self._begin + self._at - begin
        at, self._at = self._at, self._at + length
        # Nothing is copied for a length that leads nowhere: a file could be made of them.
        return (bytes(self._held[at : self._at]) if self._ends_here() else b""), length

    def _what_is_wrong(self, length: int, there: int) -> tuple[str, str] | None:
        if there < length:
            return "truncated_record", f"{there} bytes of {length}: {self._end()}"
        if not self._ends_here():
            return "corrupt_warc", f"behind its {length} bytes comes {self._shown()}, which is no record"
        end = self._begin + self._at
        if not self._skip_blank() and self._run.damage is not None and end > self._run.verified:
            # The record is not known to be whole before its member is: a checksum comes last.
            return "truncated_record", f"{length} bytes of {length}, but {self._run.damage}"
        return None

    def _ends_here(self) -> bool:
        """Whether blank lines, a record, or the end come next."""
        while len(self._held) - self._at < len(_BLANK) + len(_BEGINS) and self._fill():
            pass
        next_bytes = bytes(self._held[self._at : self._at + len(_BLANK) + len(_BEGINS)])
        ends = len(next_bytes) - len(next_bytes.lstrip(b"\r\n"))
        return next_bytes[:ends].count(b"\n") > 1 or _BEGINS.startswith(next_bytes[ends : ends + len(_BEGINS)])

    def _starts_record(self) -> bool:
        while len(self._held) - self._at < len(_BEGINS) and self._fill():
            pass
        there = self._held[self._at : self._at + len(_BEGINS)]
        return _BEGINS.startswith(bytes(there))  # the file may end within these

    def _no_record(self, error: str, detail: str) -> _BadRecordError:
        self._at += 1  # the next one is searched for behind it
        return _BadRecordError(error, detail)

    def _end(self) -> str:
        return self._run.damage or "there the file, or the compressed member, ends"

    def _shown(self) -> str:
        return repr(bytes(self._held[self._at : self._at + 16]))

    def _skip_blank(self) -> bool:
        """Go to the next byte that ends no line; whether there is one."""
        while (found := _NOT_BLANK.search(self._held, self._at)) is None:
            self._at = len(self._held)
            self._drop()
            if not self._fill():
                return False
        self._at = found.start()
        return True

    def _find_record(self) -> None:
        """Go to the next line that begins a record, or to the end."""
        while (found := _RECORD.search(self._held, self._at)) is None:
            self._at = max(self._at, len(self._held) - _LONGEST_BEGIN)
            self._drop()
            if not self._fill():
                self._at = len(self._held)
                return
        self._at = found.start()

    def _go_to(self, position: int) -> None:
        """Go to a position of the run: back, if it is held or may be read again, or on, as far as there is more."""
        if self._begin <= position <= self._begin + len(self._held):
            self._at = position - self._begin
        elif not self._run.is_packed or (position < self._begin and self._archive.may_rewind(self._run)):
            self._run.rewind(position)
            self._held.clear()
            self._begin, self._at = position, 0
        elif position > self._begin:
            self._at = len(self._held)
            while self._begin + self._at < position and self._fill():
                self._at = min(position - self._begin, len(self._held))
                self._drop()
        else:
            self._at = 0

    def _fill(self) -> bool:
        piece = self._run.read()
        self._held += piece
        return bool(piece)

    def _drop(self) -> None:
        if self._at >= _COMPACT:
            del self._held[: self._at]
            self._begin += self._at
            self._at = 0


class _BadRecordError(ValueError):
    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error


def _length_of(fields: Mapping[str, bytes]) -> int:
    value = fields.get("content-length", b"")
    if "warc-type" not in fields or not re.fullmatch(rb"\d{1,18}", value):
        said = f"Content-Length is {value[:40]!r}" if "warc-type" in fields else "no WARC-Type"
        raise _BadRecordError("corrupt_warc", f"a record's header with {said}")
    return int(value)
