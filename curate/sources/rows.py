"""Rows on their way into the pool, and what every source needs to make them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from curate.commit import file_sha256
from curate.extras import require
from curate.pool.layout import ROWS
from curate.readers import tables
from curate.recipe.source import Table
from curate.sample import uid_of
from curate.settings import seen_from_here
from curate.shards import Part, ShardWriter

MAX_TEXT_BYTES = 16 << 20

PLACE = ("tar", "ext", "offset", "nbytes", "sha256")
"""The columns of a row that say where its bytes lie and what they are."""

Row = dict[str, Any]
"""A pool row in the making (`curate.pool.layout.ROWS`), and `body`: its bytes. A row with `shares` lies where the row
before it lies: the pages of one file."""


class SourceError(ValueError):
    """A source that cannot be used at all: missing, empty, or without the column that the recipe names."""


def fail_row(row: Row, error: str, detail: str | None, status: str = "failed_to_read") -> Row:
    """End a row by a named error."""
    return row | {"status": status, "error": error, "detail": detail}


def unreadable_row(kind: str, row: tables.BadRow) -> Row:
    """Make the failed row of what a table could not tell."""
    uid = uid_of(kind, "bad row", row.detail, row.raw)
    return {"uid": uid, "origin": row.detail, "text": row.raw, "meta": "{}", "error": row.error, "detail": row.detail}


def is_bad(row: Row) -> bool:
    """Whether the plan failed this row already."""
    return row["error"] is not None and row.get("status") is None


def with_body(row: Row, body: bytes, ext: str) -> Row:
    """Give a row its bytes."""
    digest = hashlib.sha256(body).hexdigest()
    return row | {"status": "success", "error": None, "ext": ext, "body": body, "sha256": digest}


def field_text(value: Any) -> str:
    """A table's field as text."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def row_meta(row: Row, keep: Sequence[str]) -> str:
    """The columns to keep, as JSON."""
    return json.dumps({k: row[k] for k in keep}, ensure_ascii=False, sort_keys=True, default=str)


def expand(pattern: str) -> list[Path]:
    """Expand a path or a glob to files. Raises SourceError when there are none."""
    try:
        return tables.expand(pattern)
    except tables.TableError as err:
        raise SourceError(str(err)) from None


def table_rows(source: Table, columns: Sequence[str]) -> Iterator[tables.Row | tables.BadRow]:
    """Read the rows of a source's files or of its Hugging Face dataset."""
    if source.path is not None:
        for path in expand(source.path):
            yield from tables.read(path, columns)
        return
    require("source.huggingface", "datasets")
    import datasets

    assert source.huggingface is not None
    for row in datasets.load_dataset(source.huggingface, split=source.split, streaming=True):
        missing = [c for c in columns if c not in row]
        if missing:
            raise tables.MissingColumnError(source.huggingface, missing[0], row)
        yield {c: row[c] for c in columns}


def table_identity(source: Table) -> Any:
    """The identity of a table: its files' names and hashes; of a dataset that is a folder, what lies in it."""
    if source.path is not None:
        return hash_files(source.path)
    assert source.huggingface is not None
    folder = Path(source.huggingface)
    return [source.huggingface, source.split, folder_identity(folder) if folder.is_dir() else None]


def hash_files(pattern: str) -> Any:
    """Hash the files of a glob: name and SHA-256 of each."""
    return [[p.name, file_sha256(p)] for p in expand(pattern)]


def file_stat(path: Path | str) -> tuple[int, int]:
    """Size and time of change of a file, or of what a link leads to: what names it without reading it."""
    try:
        found = os.stat(path)
    except OSError:  # a link that leads nowhere, or in a circle
        found = os.lstat(path)
    return found.st_size, found.st_mtime_ns


def file_stat_if_any(path: Path | str) -> tuple[int, int] | None:
    """The same of a path that a stranger wrote; None where there is nothing."""
    try:
        return file_stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in it
        return None


def walk_files(root: Path, suffixes: Sequence[str] | None = None) -> list[str]:
    """Walk the files below a folder: sorted relative paths; those with one of these suffixes, or all."""
    if not root.is_dir():
        raise SourceError(f"source.path: {root}: no such folder{seen_from_here(root)}")
    found = [Path(folder, name).relative_to(root).as_posix() for folder, _, names in os.walk(root) for name in names]
    return sorted(n for n in found if suffixes is None or n.rsplit(".", 1)[-1].lower() in suffixes)


def folder_identity(root: Path) -> Any:
    """The identity of a folder: every file's name, size and time, and where links to folders lead."""
    links = [path for folder, names, _ in os.walk(root) for name in names if (path := Path(folder, name)).is_symlink()]
    led = sorted([path.relative_to(root).as_posix(), os.readlink(path)] for path in links)
    return [[[name, *file_stat(root / name)] for name in walk_files(root)], led]


def list_files(kind: str, root: Path, suffixes: Sequence[str]) -> Iterator[Row]:
    """Plan a row for each file of a folder."""
    for name in walk_files(root, suffixes):
        yield check_name(kind, name) or {"origin": name}


def check_name(kind: str, name: str) -> Row | None:
    """Make the failed row of a file whose name cannot be told; None where it can."""
    shown = tables.make_printable(name, len(name))
    if shown == name:
        return None
    return unreadable_row(kind, tables.BadRow("bad_encoding", f"{shown}: the file's name is not UTF-8", ""))


def store_bodies(found: Iterable[Row], tar: Path) -> list[Row]:
    """Write the bytes of the rows that have some into one tar; the rows, without bytes, say where they lie."""
    rows: list[Row] = []
    place: dict[str, Part] = {}
    last: Row | None = None
    with ExitStack() as stack:
        writer: ShardWriter | None = None
        for row in found:
            body = row.pop("body", None)
            kept = {name: row.get(name) for name in ROWS.names}
            if row.pop("shares", False):
                assert last is not None, "the first page of a file brings its bytes"
                kept |= {name: last[name] for name in PLACE}
            elif row["status"] == "success" and body is not None:
                # The rows say where every body lies and what it hashes to: an index would add nothing to that.
                writer = writer or stack.enter_context(ShardWriter(tar, indexed=False))
                if row["uid"] not in place:
                    (place[row["uid"]],) = writer.add(row["uid"], {row["ext"]: body})
                part = place[row["uid"]]
                last = kept = kept | {"tar": tar.name, "offset": part.offset, "nbytes": part.size}
            rows.append(kept)
    return rows
