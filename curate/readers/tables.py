"""Stream tables as strangers wrote them: csv, tsv, jsonl, JSON lists and parquet, compressed or not.

A row that cannot be read is not lost and stops nothing: it comes out as a `BadRow` with a named error. A table
that cannot be opened, or without a wanted column, is a TableError that says what to do.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.settings import nearest_hint, seen_from_here, unknown_message

MAX_ROW_BYTES = 16 << 20
BATCH_BYTES = 32 << 20
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_GAP = re.compile(r"[\s,\[]*")
_READ_CHARACTERS = 1 << 20
_COMPRESSED = (".gz", ".zst", ".bz2")
_GLOBBED = (*_SUFFIXES, *_COMPRESSED, ".tar", ".txt", ".md", ".warc", ".wat")


class TableError(ValueError):
    """A table that cannot be used at all."""


class MissingColumnError(TableError):
    """A table without a wanted column: where, which, and those that it has."""

    def __init__(self, where: Path | str, column: str, found: Iterable[str]) -> None:
        self.where, self.column, self.found = where, column, sorted(found)
        super().__init__(f"{where}: {unknown_message('column', column, self.found)}")


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read: the error's name, what was wrong, and the row as far as it goes."""

    error: str
    detail: str
    raw: str


Row = dict[str, Any]


def expand(pattern: str) -> list[Path]:
    """Expand a path or glob to the files that it names, sorted. Raises TableError when there are none."""
    paths = sorted(Path(p) for p in glob.glob(pattern, recursive=True) if Path(p).is_file())
    if not paths and Path(pattern).is_dir():
        suffixes = Counter(sorted(p.suffix for p in Path(pattern).iterdir() if p.suffix in _GLOBBED))
        usual = next((suffix for suffix, _ in suffixes.most_common(1)), ".jsonl")
        raise TableError(f"{pattern}: a folder; name its files by a glob, {Path(pattern) / f'*{usual}'} for example")
    if not paths:
        folder = Path(pattern).parent
        near = nearest_hint(Path(pattern).name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""
        raise TableError(f"{pattern}: no such file{near}{seen_from_here(pattern)}")
    return paths


def read(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    """Read one table in flat memory: its rows as dicts of `columns`, in order. Raises TableError."""
    stem = path.name
    for suffix in _COMPRESSED:
        stem = stem.removesuffix(suffix)
    kind = Path(stem).suffix
    if kind not in _SUFFIXES:
        raise TableError(f"{path}: {unknown_message('kind of table', kind or '(no suffix)', _SUFFIXES)}")
    if kind == ".parquet":
        rows = _read_parquet(path, columns)
    elif kind in (".csv", ".tsv"):
        rows = _read_csv(path, columns, "\t" if kind == ".tsv" else ",")
    elif kind == ".json":
        rows = _read_json(path, columns)
    else:
        rows = _read_jsonl(path, columns)
    return _undamaged(path, rows)


def _undamaged(path: Path, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
    try:
        yield from rows
    except (OSError, pa.ArrowException) as err:
        raise TableError(f"{path}: damaged or cut short: {err}; write the file again") from None


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as err:
        raise TableError(f"{path}: not a readable Parquet file: {err}") from None
    with file:
        _require(columns, file.schema_arrow.names, path)
        for group in range(file.num_row_groups):
            rows = _rows_at_once(file.metadata.row_group(group))
            for batch in file.iter_batches(rows, row_groups=[group], columns=list(dict.fromkeys(columns))):
                try:
                    yield from batch.to_pylist()
                except UnicodeDecodeError:
                    yield from (_parquet_row(batch.slice(n, 1), path) for n in range(batch.num_rows))


def _rows_at_once(group: pq.RowGroupMetaData) -> int:
    """Rows of a row group that are held together: fewer where they are large (as far as its metadata tell)."""
    return max(1, min(4096, BATCH_BYTES * int(group.num_rows) // max(1, int(group.total_byte_size))))


def _parquet_row(row: pa.RecordBatch, path: Path) -> Row | BadRow:
    try:
        return dict(row.to_pylist()[0])
    except UnicodeDecodeError as err:
        return BadRow("bad_encoding", f"{path.name}: not UTF-8: {err.object!r:.200}", "")


class _Lines:
    """Lines that can be read again: an open quote swallows the lines below it, which are then parsed without it."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file, self._again = file, list[str]()
        self.taken: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._file.readline(MAX_ROW_BYTES)
        if not line:
            raise StopIteration
        self.taken.append(line)
        self.number += 1
        return line

    def give_back(self) -> None:
        """Read all lines taken but the first again."""
        self._again += reversed(self.taken[1:])
        self.number -= len(self.taken) - 1


def _read_csv(path: Path, columns: Sequence[str], delimiter: str) -> Iterator[Row | BadRow]:
    csv.field_size_limit(MAX_ROW_BYTES)
    with _text(path) as file:
        lines = _Lines(file)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next(reader, None)
        except csv.Error as err:
            raise TableError(f"{path}: the first line must name the columns: {err}") from None
        if header is None:
            raise TableError(f"{path}: empty; the first line must name the columns")
        _require(columns, header, path)
        while True:
            lines.taken.clear()
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as err:
                lines.give_back()
                detail = f"{path.name}:{lines.number}: {err}; is a quote left open, or not doubled?"
                yield BadRow("bad_row", detail, make_printable(lines.taken[0]))
                continue
            if not values:
                continue
            where, raw = f"{path.name}:{lines.number}", delimiter.join(values)
            if len(values) != len(header):
                detail = f"{where}: {len(values)} fields, the header has {len(header)}"
                yield BadRow("bad_row", detail, make_printable(raw))
            else:
                yield _decoded(dict(zip(header, values, strict=True)), columns, where, raw)


def _read_jsonl(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    seen: set[str] = set()
    number = good = 0
    with _text(path) as file:
        while line := file.readline(MAX_ROW_BYTES):
            number += 1
            where = f"{path.name}:{number}"
            if not line.strip():
                continue
            if len(line) >= MAX_ROW_BYTES and not line.endswith("\n"):
                while (rest := file.readline(MAX_ROW_BYTES)) and not rest.endswith("\n"):
                    pass
                yield BadRow("bad_row", f"{where}: longer than {MAX_ROW_BYTES} characters", make_printable(line))
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as err:
                yield BadRow("bad_row", f"{where}: not JSON: {err}", make_printable(line))
                continue
            if not isinstance(value, dict):
                yield BadRow(
                    "bad_row", f"{where}: a JSON {type(value).__name__}, expected an object", make_printable(line)
                )
                continue
            seen.update(value)
            good += 1
            yield _decoded({c: value.get(c) for c in columns}, columns, where, line)
    if good:
        _require(columns, sorted(seen), path)


def _read_json(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    seen: set[str] = set()
    for number, value in enumerate(read_objects(path)):
        if isinstance(value, BadRow):
            yield value
            continue
        seen.update(value)
        raw = json.dumps(value, ensure_ascii=False)
        yield _decoded({c: value.get(c) for c in columns}, columns, f"{path.name}#{number}", raw)
    if seen:
        _require(columns, sorted(seen), path)


def read_objects(path: Path) -> Iterator[Row | BadRow]:
    """Read the objects of a file that is one JSON list, one after another, the list never held. Raises TableError."""
    decoder = json.JSONDecoder()
    waiting, at, number = "", 0, 0
    with _text(path) as file:
        while True:
            at = _GAP.match(waiting, at).end()  # type: ignore[union-attr]
            try:
                value, at = decoder.raw_decode(waiting, at)
            except (ValueError, RecursionError) as err:
                more = file.read(_READ_CHARACTERS) if len(waiting) - at < MAX_ROW_BYTES else ""
                if not more and waiting[at:].strip("] \t\r\n"):
                    raise TableError(f"{path}: damaged or cut short after entry {number}: {err}; is it JSON?") from None
                if not more:
                    return
                waiting, at = waiting[at:] + more, 0
                continue
            number += 1
            where = f"{path.name}#{number - 1}: a JSON {type(value).__name__}, expected an object"
            yield value if isinstance(value, dict) else BadRow("bad_row", where, make_printable(str(value)))


def _decoded(row: Row, columns: Sequence[str], where: str, raw: str) -> Row | BadRow:
    wanted = {name: row[name] for name in columns}
    try:
        json.dumps(wanted, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        return BadRow("bad_encoding", f"{where}: not UTF-8", make_printable(raw))
    return wanted


def _text(path: Path) -> io.TextIOWrapper:
    try:
        # Undecodable bytes survive as surrogates, so that one bad row is named and the others are read.
        stream = pa.input_stream(str(path), compression="detect")
        return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    except (OSError, pa.ArrowException) as err:
        raise TableError(f"{path}: cannot be opened: {err}") from None


def make_printable(text: str, most: int = 2000) -> str:
    """Make text that can be stored as UTF-8, cut to `most` characters."""
    return text[:most].encode("utf-8", "replace").decode("utf-8")


def _require(columns: Sequence[str], found: Sequence[str], path: Path) -> None:
    for name in columns:
        if name not in found:
            raise MissingColumnError(path, name, found)
