"""Stream documents of plain text: tables with a text column, and text files, compressed or not.

A text file is one document, or many with a separator between them (`"\\n%\\n"`: fortune files; `"\\n\\n"`: paragraphs).
A document that cannot be read is not lost and stops nothing: it comes out as a `BadRow` with a named error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.readers import tables
from curate.readers.rows import MARK, PointerError
from curate.readers.tables import BadRow, Row, TableError
from curate.readers.text_files import open_bytes, without_compression
from curate.settings import unknown_message

MAX_DOCUMENT_BYTES = 16 << 20
TEXT_SUFFIXES = (".txt", ".text", ".md", "")
TABLE_SUFFIXES = (".jsonl", ".ndjson", ".parquet", ".csv", ".tsv")
_BLOCK = 1 << 20


def kind_of(path: Path, is_split: bool = False) -> str:
    """The suffix that says what a file holds, one for compression aside.

    A file that a separator parts is text unless it is a table, whatever its name. Raises TableError for other kinds.
    """
    kind = Path(without_compression(path.name)).suffix.lower()
    if not is_split and kind not in (*TEXT_SUFFIXES, *TABLE_SUFFIXES):
        allowed = [suffix or "no suffix" for suffix in (*TEXT_SUFFIXES, *TABLE_SUFFIXES)]
        raise TableError(f"{path}: {unknown_message('kind of text file', kind, allowed)}")
    return kind


def read(
    path: Path,
    *,
    text: str = "text",
    keep: Sequence[str] = (),
    split: str | None = None,
    quoting: bool | None = None,
    name: str = "",
) -> Iterator[Row | BadRow]:
    """Read the documents of one file in flat memory: {"text", "origin", "meta"}, in order. Raises TableError.

    `origin` is `name` (by default the file's), with `#` and a number counted from 1 where a file holds many. Tables:
    `text` is their column of documents, `keep` are columns for `meta`, `quoting` as `tables` has it. Text files:
    `split` parts documents; what is nothing but space between two separators is no document. Lines end in a plain
    newline, as all ops expect. Errors by name: missing_text, empty_text, text_too_large, bad_encoding, lfs_pointer,
    damaged_file, and those of `tables`.
    """
    name = name or path.name
    if kind_of(path, split is not None) in TABLE_SUFFIXES:
        return _from_table(tables.read(path, (text, *keep), quoting), name, text, keep)
    return _from_text(path, name, split)


def _from_table(rows: Iterator[Row | BadRow], name: str, text: str, keep: Sequence[str]) -> Iterator[Row | BadRow]:
    for number, row in enumerate(rows, start=1):
        origin = f"{name}#{number}"
        if isinstance(row, BadRow):
            yield row
        elif not isinstance(row[text], str):
            yield BadRow("missing_text", f"{origin}: column {text!r} holds {_shown(row[text])}", "")
        else:
            yield _document(row[text], origin, {column: row[column] for column in keep})


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}, expected a text"


def _from_text(path: Path, name: str, split: str | None) -> Iterator[Row | BadRow]:
    number = 0
    try:
        with open_bytes(path) as stream:
            for piece in _pieces(_blocks(stream), split):
                if piece is not None and split is not None and not piece.strip():
                    continue
                number += 1
                yield _decoded(piece, f"{name}#{number}" if split is not None else name)
    except PointerError as err:
        yield BadRow("lfs_pointer", str(err), "")
    except (OSError, pa.ArrowException, TableError) as err:
        yield BadRow("damaged_file", f"{name}: damaged or cut short after {number} documents: {err}", "")


def _blocks(stream: Any) -> Iterator[bytes]:
    """The bytes of a file, lines ended by a newline alone, without UTF-8's mark."""
    first = True
    while block := bytes(stream.read(_BLOCK)):
        if block.endswith(b"\r"):
            block += bytes(stream.read(1))
        yield (block.removeprefix(b"\xef\xbb\xbf") if first else block).replace(b"\r\n", b"\n")
        first = False


def _pieces(blocks: Iterator[bytes], split: str | None) -> Iterator[bytes | None]:
    """What lies between separators; None for a piece that is too large, of which no more than a block is held."""
    separator = split.encode() if split else None
    buffered, too_large = b"", False
    for block in blocks:
        buffered += block
        if separator is not None:
            *whole, buffered = buffered.split(separator)
            for piece in whole:
                yield None if too_large or len(piece) > MAX_DOCUMENT_BYTES else piece
                too_large = False
        if len(buffered) > MAX_DOCUMENT_BYTES:
            buffered, too_large = buffered[-len(separator or b"-") :], True
    yield None if too_large else buffered


def _decoded(piece: bytes | None, origin: str) -> Row | BadRow:
    if piece is None:
        return BadRow("text_too_large", f"{origin}: more than {MAX_DOCUMENT_BYTES} bytes", "")
    try:
        text = piece.decode()
    except UnicodeDecodeError as err:
        detail = f"{origin}: not UTF-8 at byte {err.start}: write it anew as UTF-8"
        return BadRow("bad_encoding", detail, tables.excerpt(piece[:2000].decode("utf-8", "replace")))
    return _document(text, origin, {})


def _document(text: str, origin: str, meta: Row) -> Row | BadRow:
    text = text.removeprefix(MARK).replace("\r\n", "\n").strip("\n")
    if not text.strip():
        return BadRow("empty_text", f"{origin}: nothing but space", "")
    if len(text) > MAX_DOCUMENT_BYTES:
        return BadRow("text_too_large", f"{origin}: more than {MAX_DOCUMENT_BYTES} characters", "")
    return {"text": text, "origin": origin, "meta": meta}
