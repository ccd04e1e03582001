"""Read csv and tsv as they are found: which sign parts the fields, and whether quotes around one are part of it.

RFC 4180 quotes a field that holds a separator, a line end or a quote. Many tables of captions are written without: a
caption that begins with a quote would then swallow the rows below it. The lines tell which it is.
"""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.readers.rows import (
    MARK,
    MAX_ROW_BYTES,
    BadRow,
    Row,
    TableError,
    excerpt,
    is_utf8,
    require_columns,
)
from curate.readers.text_files import open_text, without_compression

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
ENOUGH = 1000
"""Fields that begin with a quote that are looked at, at most, to tell whether quotes are part of the fields."""

MAX_WEIGHED = 1 << 20
"""Characters of a record that quotes may hold together while it is told whether they do."""


@dataclass(frozen=True)
class Dialect:
    """The way a file writes its rows. `why`: what in it says so, where that is not what its name says."""

    delimiter: str
    quoted: bool
    why: str = ""


class _Lines:
    """Lines that can be read again: an open quote swallows the lines below it, which are then parsed without it."""

    def __init__(self, file: io.TextIOWrapper, most: int = MAX_ROW_BYTES) -> None:
        self._file, self._again, self._most = file, list[str](), most
        self.taken: list[str] = []
        self.number = self._held = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = "" if self._held > self._most else self._again.pop() if self._again else self._read()
        if not line:
            raise StopIteration
        self.taken.append(line)
        self._held += len(line)
        self.number += 1
        return line

    def _read(self) -> str:
        # A mark within a file stands where another began before the two were joined.
        return self._file.readline(MAX_ROW_BYTES).removeprefix(MARK)

    def begin(self) -> None:
        """Begin a record."""
        self.taken.clear()
        self._held = 0

    def give_back(self, kept: int = 1) -> None:
        """Read all lines taken but the first ones again."""
        self._again += reversed(self.taken[kept:])
        self.number -= len(self.taken) - kept
        del self.taken[kept:]


def find_dialect(path: Path, columns: Sequence[str], quoting: bool | None = None) -> Dialect:
    """Find how a file writes its rows, looking through it once; `quoting` is what was said of it. Raises TableError."""
    found = path.stat()
    return _dialect(path, (found.st_size, found.st_mtime_ns), tuple(columns), quoting)


@functools.lru_cache(maxsize=256)
def _dialect(path: Path, unchanged: tuple[int, int], columns: tuple[str, ...], quoting: bool | None) -> Dialect:
    own = "\t" if Path(without_compression(path.name)).suffix.lower() == ".tsv" else ","
    with open_text(path) as file:
        lines = _Lines(file, MAX_WEIGHED)
        first = next(lines, None)
        if first is None:
            raise TableError(f"{path}: empty; the first line must name the columns")
        lines.give_back(0)
        names = {sign: _header(lines, sign) for sign in sorted(DELIMITERS, key=lambda sign: sign != own)}
        holding = [sign for sign, header in names.items() if set(columns) <= set(header)]
        delimiter = holding[0] if holding else max(names, key=lambda sign: len(names[sign]))
        why = "" if delimiter == own else f"its fields are parted by {DELIMITERS[delimiter]}"
        if quoting is not None or first.startswith('"'):
            return Dialect(delimiter, quoting is not False, why)
        _skip_header(lines, delimiter)
        weighed = _weigh(lines, delimiter, len(names[delimiter]))
    quoted = weighed.say_quoted(delimiter)
    told = "" if quoted else f"its quotes are part of the fields ({weighed.told()})"
    return Dialect(delimiter, quoted, "; ".join(part for part in (why, told) if part))


def _header(lines: _Lines, delimiter: str) -> list[str]:
    """The names in the first line, which is given back."""
    lines.begin()
    try:
        return next(csv.reader(lines, delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []
    finally:
        lines.give_back(0)
        lines.begin()


def _skip_header(lines: _Lines, delimiter: str) -> None:
    try:
        next(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        lines.give_back()


@dataclass
class _Weighed:
    """What fields that begin with a quote say: how many need it, how many are no quoted field at all."""

    needed: int = 0
    open: int = 0
    needless: int = 0
    needless_with_comma: int = 0
    comma_without: int = 0
    lines: int = 0

    def say_quoted(self, delimiter: str) -> bool:
        """Whether quotes enclose fields.

        Captions hold commas: a csv can hardly be written without quoting, so one field that needs it proves it. Tabs
        they do not: in a tsv quotes are signs like others, unless more fields need them than are spoilt by them. Where
        nothing is proved, quotes around every row's field, or around just those with commas (Excel), enclose them.
        """
        if self.needed or self.open:
            return self.needed > (self.open if delimiter == "\t" else 0)
        if delimiter != "\t" or not self.needless:
            return True
        return self.needless == self.lines or (self.needless == self.needless_with_comma and not self.comma_without)

    def told(self) -> str:
        """The evidence in words."""
        if self.open:
            return f"{self.open} begin with one that does not close, {self.needed} need theirs"
        return f"{self.needless} are enclosed that need not be"


def _weigh(lines: _Lines, delimiter: str, width: int) -> _Weighed:
    found = _Weighed()
    while found.needed + found.open < ENOUGH:
        lines.begin()
        line = next(lines, None)
        if line is None:
            break
        found.lines += 1
        if line.startswith('"') or delimiter + '"' in line:
            lines.give_back(0)
            _weigh_record(lines, delimiter, width, found)
        elif "," in line:
            found.comma_without += 1
    return found


def _weigh_record(lines: _Lines, delimiter: str, width: int, found: _Weighed) -> None:
    """Read a record as if it were quoted, and as if it were not: which of the two is one?"""
    lines.begin()
    try:
        values = next(csv.reader(lines, delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        values = None
        lines.give_back()
    whole = [line.rstrip("\r\n").count(delimiter) == width - 1 for line in lines.taken]
    is_one = values is not None and len(values) == width
    if not is_one or (len(whole) > 1 and width > 1 and all(whole) and _are_alike(lines.taken, delimiter)):
        lines.give_back()
        # The last line without an end may be cut: a quote that is open there proves nothing.
        found.open += whole[0] and lines.taken[0].endswith(("\n", "\r"))
    elif len(whole) > 1 or not whole[0] or '""' in lines.taken[0]:
        found.needed += 1
    else:
        found.needless += 1
        found.needless_with_comma += all("," in value for value in values or () if f'"{value}"' in lines.taken[0])


_KINDS = tuple(map(re.compile, (r"\w+://", r"[-+.\d]+$", r"\S+\.\w{2,5}$", r"\S+$", r"$", r"")))
"""A URL, a number, a file's name, a word, nothing, several words: the first that a field begins with is its kind."""


def _are_alike(lines: Sequence[str], delimiter: str) -> bool:
    """Whether lines have fields of the same kinds: rows they are then, and no lines of one text.

    Fields where the first line's begin with a quote, of which it is asked whose they are, tell nothing.
    """
    first, *others = (line.rstrip("\r\n").split(delimiter) for line in lines)
    compared = [place for place, field in enumerate(first) if not field.startswith('"')]
    kinds = [_kind_of(first[place]) for place in compared]
    return all(kinds == [_kind_of(other[place]) for place in compared] for other in others)


def _kind_of(field: str) -> int:
    return next(number for number, kind in enumerate(_KINDS) if kind.match(field.strip()))


def read(path: Path, columns: Sequence[str], quoting: bool | None = None) -> Iterator[Row | BadRow]:
    """Read the rows of a csv or tsv: dicts of `columns`. Raises TableError."""
    csv.field_size_limit(MAX_ROW_BYTES)
    dialect = find_dialect(path, columns, quoting)
    with open_text(path) as file:
        lines = _Lines(file)
        style: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE
        reader = csv.reader(lines, delimiter=dialect.delimiter, strict=True, quoting=style)
        try:
            header = next(reader)
        except csv.Error as err:
            raise TableError(f"{path}: the first line must name the columns: {err}") from None
        require_columns(columns, header, path)
        while True:
            lines.begin()
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as err:
                lines.give_back()
                detail = f"{path.name}:{lines.number}: {err}; is a quote left open, or not doubled?"
                yield BadRow("bad_row", detail, excerpt(lines.taken[0]))
                continue
            if values:
                where = f"{path.name}:{lines.number}"
                yield _row(values, header, columns, where, dialect.delimiter)


def _row(
    values: Sequence[str], header: Sequence[str], columns: Sequence[str], where: str, delimiter: str
) -> Row | BadRow:
    if len(values) != len(header):
        detail = f"{where}: {len(values)} fields, the header has {len(header)}"
        return BadRow("bad_row", detail, excerpt(delimiter.join(values)))
    named = dict(zip(header, values, strict=True))
    wanted = {name: named[name] for name in columns}
    if not all(map(is_utf8, wanted.values())):
        return BadRow("bad_encoding", f"{where}: not UTF-8", excerpt(delimiter.join(values)))
    return wanted
