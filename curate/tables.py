"""Tables as strangers wrote them: csv, tsv, jsonl and parquet, compressed or not, read in a stream.

A row that cannot be read is not lost and stops nothing: it comes out as a `BadRow` with a named error. A table
that cannot be opened, or without a wanted column, is a TableError that says what to do.
"""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.settings import nearest, unknown

MAX_ROW_BYTES = 16 << 20
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_COMPRESSED = (".gz", ".zst", ".bz2")


class TableError(ValueError):
    """A table that cannot be used at all."""


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read: the error's name, what was wrong, and the row as far as it goes."""

    error: str
    detail: str
    raw: str


Row = dict[str, Any]


def expand(pattern: str) -> list[Path]:
    """The files that a path or glob names, sorted. Raises TableError when there are none."""
    paths = sorted(Path(p) for p in glob.glob(pattern, recursive=True) if Path(p).is_file())
    if not paths:
        folder = Path(pattern).parent
        near = nearest(Path(pattern).name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""
        raise TableError(f"{pattern}: no such file{near}")
    return paths


def read(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    """The rows of one table as dicts of `columns`, in order, in flat memory. Raises TableError."""
    stem = path.name
    for suffix in _COMPRESSED:
        stem = stem.removesuffix(suffix)
    kind = Path(stem).suffix
    if kind not in _SUFFIXES:
        raise TableError(f"{path}: {unknown('kind of table', kind or '(no suffix)', _SUFFIXES)}")
    if kind == ".parquet":
        return _read_parquet(path, columns)
    if kind in (".csv", ".tsv"):
        return _read_csv(path, columns, "\t" if kind == ".tsv" else ",")
    return _read_jsonl(path, columns)


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as err:
        raise TableError(f"{path}: not a readable Parquet file: {err}") from None
    with file:
        _require(columns, file.schema_arrow.names, path)
        try:
            for batch in file.iter_batches(batch_size=4096, columns=list(dict.fromkeys(columns))):
                yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as err:
            raise TableError(f"{path}: damaged: {err}; write the file again") from None


def _read_csv(path: Path, columns: Sequence[str], delimiter: str) -> Iterator[Row | BadRow]:
    csv.field_size_limit(MAX_ROW_BYTES)
    with _text(path) as file:
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader, None)
        if header is None:
            raise TableError(f"{path}: empty; the first line must name the columns")
        _require(columns, header, path)
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as err:
                yield BadRow("bad_row", f"{path.name}:{reader.line_num}: {err}", f"line {reader.line_num}")
                continue
            if not values:
                continue
            raw = delimiter.join(values)
            if len(values) != len(header):
                detail = f"{path.name}:{reader.line_num}: {len(values)} fields, the header has {len(header)}"
                yield BadRow("bad_row", detail, printable(raw))
            else:
                yield _decoded(dict(zip(header, values, strict=True)), columns, f"{path.name}:{reader.line_num}", raw)


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
                yield BadRow("bad_row", f"{where}: longer than {MAX_ROW_BYTES} characters", printable(line))
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as err:
                yield BadRow("bad_row", f"{where}: not JSON: {err}", printable(line))
                continue
            if not isinstance(value, dict):
                yield BadRow("bad_row", f"{where}: a JSON {type(value).__name__}, expected an object", printable(line))
                continue
            seen.update(value)
            good += 1
            yield _decoded({c: value.get(c) for c in columns}, columns, where, line)
    if good:
        _require(columns, sorted(seen), path)


def _decoded(row: Row, columns: Sequence[str], where: str, raw: str) -> Row | BadRow:
    wanted = {name: row[name] for name in columns}
    try:
        json.dumps(wanted, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        return BadRow("bad_encoding", f"{where}: not UTF-8", printable(raw))
    return wanted


def _text(path: Path) -> io.TextIOWrapper:
    try:
        # Undecodable bytes survive as surrogates, so that one bad row is named and the others are read.
        stream = pa.input_stream(str(path), compression="detect")
        return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    except (OSError, pa.ArrowException) as err:
        raise TableError(f"{path}: cannot be opened: {err}") from None


def printable(text: str, most: int = 2000) -> str:
    """Text that can be stored as UTF-8, cut to `most` characters."""
    return text[:most].encode("utf-8", "replace").decode("utf-8")


def _require(columns: Sequence[str], found: Sequence[str], path: Path) -> None:
    for name in columns:
        if name not in found:
            raise TableError(f"{path}: {unknown('column', name, found)}")
