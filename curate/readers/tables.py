"""Stream tables as strangers wrote them: csv, tsv, jsonl, JSON lists and parquet, compressed or not.

A row that cannot be read is not lost and stops nothing: it comes out as a `BadRow` with a named error. A table
that cannot be opened, or without a wanted column, is a TableError that says what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import lfs
from curate.readers import delimited
from curate.readers.coco import is_coco, read_coco
from curate.readers.patterns import expand
from curate.readers.rows import (
    MARK,
    MAX_ROW_BYTES,
    BadRow,
    MissingColumnError,
    PointerError,
    Row,
    TableError,
    excerpt,
    is_utf8,
    require_columns,
    row_of,
)
from curate.readers.text_files import open_text, text_encoding, without_compression
from curate.settings import unknown_message

__all__ = ["BadRow", "MissingColumnError", "Row", "TableError", "excerpt", "expand", "read", "read_objects", "remarks"]

BATCH_BYTES = 32 << 20
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_DELIMITED = (".csv", ".tsv")
_GAP = re.compile(r"[\s,\[]*")
_READ_CHARACTERS = 1 << 20


def read(path: Path, columns: Sequence[str], quoting: bool | None = None) -> Iterator[Row | BadRow]:
    """Read one table in flat memory: its rows as dicts of `columns`, in order. Raises TableError.

    Values are what JSON can hold (`curate.strict_json`). `quoting`: whether quotes around a field of csv and tsv are no
    part of it; None where the file's own lines shall tell.
    """
    kind = _kind(path)
    if kind == ".parquet":
        return _read_parquet(path, columns)
    if kind in _DELIMITED:
        return delimited.read(path, columns, quoting)
    if kind == ".json":
        return read_coco(path, columns) if is_coco(path) else _read_json(path, columns)
    return _read_jsonl(path, columns)


def remarks(path: Path, columns: Sequence[str], quoting: bool | None = None) -> list[str]:
    """Say how a table is read where its name does not tell: quotes, separators, characters. Raises TableError."""
    kind = _kind(path)
    if kind == ".parquet":
        return []
    found = delimited.find_dialect(path, columns, quoting).why if kind in _DELIMITED else ""
    encoding = text_encoding(path)
    said = [found] if found else []
    said += [f"its characters are {encoding.upper()}"] if encoding != "utf-8-sig" else []
    return [f"{path.name}: {'; '.join(said)}"] if said else []


def _kind(path: Path) -> str:
    kind = Path(without_compression(path.name)).suffix.lower()
    if kind not in _SUFFIXES:
        raise TableError(f"{path}: {unknown_message('kind of table', kind or '(no suffix)', _SUFFIXES)}")
    return kind


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    number = 0
    try:
        with _parquet(path) as file:
            require_columns(columns, file.schema_arrow.names, path)
            are_plain = all(_is_plain(file.schema_arrow.field(name).type) for name in columns)
            for group in range(file.num_row_groups):
                rows = _rows_at_once(file.metadata.row_group(group))
                for batch in file.iter_batches(rows, row_groups=[group], columns=list(dict.fromkeys(columns))):
                    for values in _values(batch):
                        number += 1
                        where = f"{path.name}#{number}"
                        if isinstance(values, BadRow):
                            yield BadRow(values.error, f"{where}: {values.detail}", "")
                        else:
                            yield values if are_plain else row_of(values, columns, where)
    except (OSError, pa.ArrowException) as err:
        raise TableError(f"{path}: damaged or cut short: {err}; write the file again") from None


def _is_plain(kind: pa.DataType) -> bool:
    """Whether all values of a type are texts, whole numbers or truths, which JSON can hold as they are."""
    return any(
        is_one(kind)
        for is_one in (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    )


def _parquet(path: Path) -> pq.ParquetFile:
    with path.open("rb") as file:
        if lfs.is_lfs_pointer(file.read(1024)):
            raise PointerError(f"{path}: {lfs.REMEDY}")
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as err:
        raise TableError(f"{path}: not a readable Parquet file: {err}") from None


def _rows_at_once(group: pq.RowGroupMetaData) -> int:
    """Rows of a row group that are held together: fewer where they are large (as far as its metadata tell)."""
    return max(1, min(4096, BATCH_BYTES * int(group.num_rows) // max(1, int(group.total_byte_size))))


def _values(batch: pa.RecordBatch) -> Iterator[Row | BadRow]:
    """The rows of a batch; where a value of it is none that Python has, each row by itself."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):  # text that is no UTF-8 (a ValueError), a date beyond the year 9999
        yield from (_row_alone(batch.slice(n, 1)) for n in range(batch.num_rows))


def _row_alone(row: pa.RecordBatch) -> Row | BadRow:
    found: Row = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            found[name] = column[0].as_py()
        except UnicodeDecodeError as err:
            return BadRow("bad_encoding", f"not UTF-8: {err.object!r:.200}", "")
        except (ValueError, OverflowError):
            try:
                found[name] = pc.cast(column, pa.string())[0].as_py()
            except pa.ArrowException as err:
                return BadRow("bad_row", f"column {name!r}: {err}", "")
    return found


def _read_jsonl(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    seen: set[str] = set()
    number = good = 0
    with open_text(path) as file:
        while line := file.readline(MAX_ROW_BYTES):
            number += 1
            where = f"{path.name}:{number}"
            if len(line) >= MAX_ROW_BYTES and not line.endswith("\n"):
                while (rest := file.readline(MAX_ROW_BYTES)) and not rest.endswith("\n"):
                    pass
                yield BadRow("bad_row", f"{where}: longer than {MAX_ROW_BYTES} characters", excerpt(line))
                continue
            line = line.removeprefix(MARK)  # of a file that was joined to this one
            if not line.strip():
                continue
            value = _object(line, where)
            if isinstance(value, BadRow):
                yield value
                continue
            seen.update(value)
            good += 1
            yield _checked(value, columns, where, line)
    if good:
        require_columns(columns, sorted(seen), path)


def _object(line: str, where: str) -> Row | BadRow:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as err:
        return BadRow("bad_row", f"{where}: not JSON: {err}", excerpt(line))
    return value if isinstance(value, dict) else _no_object(value, where, line)


def _no_object(value: Any, where: str, raw: str) -> BadRow:
    return BadRow("bad_row", f"{where}: a JSON {type(value).__name__}, expected an object", excerpt(raw))


def _checked(value: Row, columns: Sequence[str], where: str, raw: str) -> Row | BadRow:
    """The row of a JSON object, whose text `raw` tells bytes that are no UTF-8 from half a character spelt out."""
    if not is_utf8(raw) and not is_utf8(json.dumps({c: value.get(c) for c in columns}, ensure_ascii=False)):
        return BadRow("bad_encoding", f"{where}: not UTF-8", excerpt(raw))
    return row_of(value, columns, where, raw)


def _read_json(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    seen: set[str] = set()
    for where, value, raw in _entries(path):
        if isinstance(value, BadRow):
            yield value
        else:
            seen.update(value)
            yield _checked(value, columns, where, raw)
    if seen:
        require_columns(columns, sorted(seen), path)


def read_objects(path: Path) -> Iterator[Row | BadRow]:
    """Read the objects of a file that is one JSON list, one after another, the list never held. Raises TableError."""
    for where, value, raw in _entries(path):
        yield value if isinstance(value, BadRow) else _checked(value, list(value), where, raw)


def _entries(path: Path) -> Iterator[tuple[str, Row | BadRow, str]]:
    """Each entry of a JSON list: its place, the object, and its text. Raises TableError."""
    decoder = json.JSONDecoder()
    waiting, at, number = "", 0, 0
    with open_text(path) as file:
        while True:
            at = _GAP.match(waiting, at).end()  # type: ignore[union-attr]
            try:
                value, end = decoder.raw_decode(waiting, at)
            except (ValueError, RecursionError) as err:
                more = file.read(_READ_CHARACTERS) if len(waiting) - at < MAX_ROW_BYTES else ""
                if not more and waiting[at:].strip("] \t\r\n"):
                    raise TableError(f"{path}: damaged or cut short after entry {number}: {err}; is it JSON?") from None
                if not more:
                    return
                waiting, at = waiting[at:] + more, 0
                continue
            where, raw = f"{path.name}#{number}", waiting[at:end]
            yield where, value if isinstance(value, dict) else _no_object(value, where, str(value)), raw
            at = end
            number += 1
