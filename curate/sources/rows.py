"""Rows on their way into the pool, and what every source needs to make them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from curate import strict_json
from curate.commit import file_sha256
from curate.extras import require
from curate.pool.layout import ROWS
from curate.readers import tables
from curate.readers.rows import MARK, row_of
from curate.recipe.source import ImageRows, Table
from curate.sample import uid_of
from curate.settings import seen_from_here
from curate.shards import ShardWriter

MAX_TEXT_BYTES = 16 << 20

PLACE = ("tar", "ext", "offset", "nbytes", "sha256")
"""The columns of a row that say where its bytes lie and what they are."""

Row = dict[str, Any]
"""A pool row in the making (`curate.pool.layout.ROWS`), and `body`: its bytes. A row with `shares` lies where the row
before it lies: the pages of one file. One with `files`, images by name with their format and digest, has them laid
down before it; its body is what it makes of their places."""

SUCCESS = {"status": "success", "error": None}


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
    """A table's field as text, without a byte order mark before it. Raises NotTextError for a list or an object."""
    if isinstance(value, str):
        return value.removeprefix(MARK)
    if isinstance(value, (list, dict)):
        raise strict_json.NotTextError(f"a {type(value).__name__}, expected a text")
    return "" if value is None else json.dumps(value)


def row_meta(row: Row, keep: Sequence[str]) -> str:
    """The columns to keep, as JSON."""
    return strict_json.dumps({k: row[k] for k in keep})


def field_of(row: Row, column: str) -> str | tables.BadRow:
    """The text in a column of a row, or the row's failure."""
    try:
        return field_text(row[column])
    except strict_json.NotTextError as err:
        shown = tables.excerpt(strict_json.dumps(row))
        return tables.BadRow("not_text", f"column {column!r} holds {err}", shown)


def caption_row(row: tables.Row | tables.BadRow, image: str, text: str, keep: Sequence[str]) -> Row:
    """Plan the row of an image's place and its caption, which stand in two columns of a table."""
    if isinstance(row, tables.BadRow):
        return unreadable_row("caption", row)
    place, caption = field_of(row, image), field_of(row, text)
    for found in (place, caption):
        if isinstance(found, tables.BadRow):
            return unreadable_row("caption", found)
    return {"origin": place, "text": caption, "meta": row_meta(row, keep)}


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
            yield from tables.read(path, columns, source.quoting)
        return
    require("source.huggingface", "datasets")
    import datasets

    assert source.huggingface is not None
    stream = datasets.load_dataset(source.huggingface, split=source.split, streaming=True)
    for number, row in enumerate(stream, 1):
        missing = [c for c in columns if c not in row]
        if missing:
            raise tables.MissingColumnError(source.huggingface, missing[0], row)
        yield row_of(row, columns, f"{source.huggingface}#{number}")


def table_remarks(pattern: str | Path | None, columns: Sequence[str], quoting: bool | None) -> Iterator[str]:
    """Say how the files of a pattern are read where their names do not tell."""
    for path in expand(str(pattern)) if pattern is not None else ():
        yield from tables.remarks(path, columns, quoting)


def table_identity(source: Table | ImageRows) -> Any:
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


def walk_files(root: Path) -> list[str]:
    """Walk what lies below a folder: sorted relative paths of files, and of folders that are not entered.

    These are links to folders, by which files would come twice or from elsewhere, and folders that may not be read.
    """
    files, linked, shut = _walk(root)
    return sorted([*files, *linked, *shut])


def _walk(root: Path) -> tuple[list[str], list[str], list[str]]:
    """The files below a folder, the links to folders, and the folders that may not be read."""
    if not root.is_dir():
        raise SourceError(f"source.path: {root}: no such folder{seen_from_here(root)}")
    files, linked, shut = list[str](), list[str](), list[str]()

    def skip(err: OSError) -> None:
        shut.append(Path(os.fsdecode(err.filename)).relative_to(root).as_posix())

    for folder, inner, names in os.walk(root, onerror=skip):
        at = Path(folder).relative_to(root).as_posix()
        before = "" if at == "." else f"{at}/"
        files += [before + name for name in names]
        linked += [before + name for name in inner if os.path.islink(os.path.join(folder, name))]
    if "." in shut:
        raise SourceError(f"source.path: {root}: this folder may not be read; look at its rights")
    return files, linked, shut


def folder_identity(root: Path) -> Any:
    """The identity of a folder: every file's name, size and time, where links to folders lead, and what is shut."""
    files, linked, shut = _walk(root)
    led = [[name, os.readlink(root / name)] for name in sorted(linked)]
    known = [[[name, *(file_stat_if_any(root / name) or ())] for name in sorted(files)], led]
    return [*known, sorted(shut)] if shut else known


def plan_files(kind: str, root: Path, wanted: Callable[[str], bool], others: list[str]) -> Iterator[Row]:
    """Plan a row for each file of a folder that is wanted, by its path in it; the others' names join `others`."""
    for name in walk_files(root):
        if wanted(name):
            yield check_name(kind, name) or {"origin": name}
        else:
            others.append(name)


def others_remark(what: str, names: Sequence[str]) -> str:
    """Say of files that are no samples how many there are and what the first are called."""
    shown = ", ".join(tables.excerpt(name) for name in names[:3])
    return f"{len(names)} file{'s'[: len(names) != 1]} {what}: {shown}{', ...' * (len(names) > 3)}"


def check_name(kind: str, name: str) -> Row | None:
    """Make the failed row of a file whose name cannot be told; None where it can."""
    shown = strict_json.mend_text(name)
    if shown == name:
        return None
    return unreadable_row(kind, tables.BadRow("bad_encoding", f"{shown}: the file's name is not UTF-8", ""))


def store_bodies(found: Iterable[Row], tar: Path) -> list[Row]:
    """Write the bytes of the rows that have some into one tar; the rows, without bytes, say where they lie."""
    rows: list[Row] = []
    place: dict[str, Row] = {}
    last: Row | None = None
    with ExitStack() as stack:
        writer: ShardWriter | None = None
        for row in found:
            body, files = row.pop("body", None), row.pop("files", {})
            kept = {name: row.get(name) for name in ROWS.names}
            if row.pop("shares", False):
                assert last is not None, "the first page of a file brings its bytes"
                kept |= {name: last[name] for name in PLACE}
            elif row["status"] == "success" and body is not None:
                # The rows say where every body lies and what it hashes to: an index would add nothing to that.
                writer = writer or stack.enter_context(ShardWriter(tar, indexed=False))
                if (uid := row["uid"]) not in place:
                    if callable(body):
                        names = (f"{uid}-{number}" for number in itertools.count())
                        body = body({n: _store(writer, tar, next(names), *file) for n, file in files.items()})
                        row["sha256"] = hashlib.sha256(body).hexdigest()
                    place[uid] = _store(writer, tar, uid, row["ext"], body, row["sha256"])
                last = kept = kept | place[uid]
            rows.append(kept)
    return rows


def _store(writer: ShardWriter, tar: Path, name: str, ext: str, data: bytes, sha256: str) -> Row:
    (part,) = writer.add(name, {ext: data})
    return {"tar": tar.name, "ext": ext, "offset": part.offset, "nbytes": part.size, "sha256": sha256}
