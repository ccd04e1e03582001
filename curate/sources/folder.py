"""Folders of images, each with a caption beside it or in one table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from curate import strict_json
from curate.download import Downloader, sniff
from curate.image.files import IMAGE_SUFFIXES
from curate.readers import tables
from curate.readers.files import UnreadableError, is_inside, read_file
from curate.recipe.source import Folder
from curate.sample import uid_of
from curate.sources.rows import (
    MAX_TEXT_BYTES,
    Row,
    expand,
    fail_row,
    field_text,
    file_stat_if_any,
    folder_identity,
    hash_files,
    list_files,
    row_meta,
    unreadable_row,
    with_body,
)

SIDECARS = (".txt", ".json")
"""What a caption beside an image ends in; the first that is there is read."""


def identity(source: Folder) -> Any:
    """The tables' names and hashes, and every file's name, size and time."""
    return [hash_files(source.captions) if source.captions else None, folder_identity(Path(source.path))]


def plan_rows(source: Folder) -> Iterator[Row]:
    """Plan a row for each image, or for each row of the table."""
    if source.captions is None:
        yield from list_files("caption", Path(source.path), IMAGE_SUFFIXES)
        return
    for path in expand(source.captions):
        for row in tables.read(path, (source.image, source.text, *source.keep)):
            if isinstance(row, tables.BadRow):
                yield unreadable_row("caption", row)
            else:
                text, meta = field_text(row[source.text]), row_meta(row, source.keep)
                yield {"origin": field_text(row[source.image]), "text": text, "meta": meta}


def companion_files(source: Folder) -> Callable[[list[Row]], Any]:
    """The images of rows and, without a table, the files beside them: size and time of each."""

    def files(rows: list[Row]) -> Any:
        images = [os.path.join(source.path, row["origin"]) for row in rows if not row.get("error")]
        sidecars = [] if source.captions else [Path(image).with_suffix(s) for image in images for s in SIDECARS]
        return [*map(file_stat_if_any, images), *map(file_stat_if_any, sidecars)]

    return files


def load_rows(source: Folder, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """Load the images of rows."""
    return (_read(source, row) for row in rows)


def _read(source: Folder, row: Row) -> Row:
    if row["error"] is not None:
        return fail_row(row, row["error"], row["detail"])
    try:
        body = read_file(source.path, row["origin"])
        text, meta = row["text"], row["meta"]
        if source.captions is None:
            text, meta = _read_sidecar(Path(source.path, row["origin"]), source)
        return image_row(row["origin"], text, meta, body)
    except UnreadableError as err:
        uid = uid_of("caption", row["origin"], row["text"] or "")
        return fail_row(row | {"uid": uid}, err.error, err.detail)


def image_row(origin: str, text: str, meta: str, body: bytes) -> Row:
    """Make the row of an image and its caption, if the bytes are an image's."""
    row: Row = {"origin": origin, "text": text, "meta": meta}
    ext, error = sniff(body)
    row = with_body(row, body, ext or "")
    row["uid"] = uid_of("caption", origin, row["sha256"], text)
    if error is not None:
        return fail_row(row | {"ext": None}, error if body else "empty_file", "the bytes are of no known image format")
    return row


def _read_sidecar(image: Path, source: Folder) -> tuple[str, str]:
    """The caption and meta beside an image. Raises UnreadableError."""
    where = "look at the .txt or .json beside the image"
    path = next((path for path in map(image.with_suffix, SIDECARS) if path.is_file()), None)
    if path is None:
        raise UnreadableError("missing_caption", where)
    if not is_inside(path, source.path):
        raise UnreadableError("unsafe_name", where)
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise UnreadableError("text_too_large", where)
    return read_caption(path.read_bytes(), path.suffix == ".json", source.text, source.keep, where)


def read_caption(data: bytes, is_json: bool, key: str, keep: Sequence[str], where: str) -> tuple[str, str]:
    """Read the caption and meta that a text file, or a key of a JSON file, holds. Raises UnreadableError."""
    try:
        text = data.decode("utf-8")
        if not is_json:
            return text.rstrip("\r\n"), "{}"
        fields = json.loads(text)
        if not isinstance(fields, dict) or key not in fields:
            raise UnreadableError("missing_caption", where)
        kept = json.dumps({k: fields.get(k) for k in keep}, ensure_ascii=False, sort_keys=True)
        (found := field_text(fields[key])).encode("utf-8")
        return found, strict_json.mend_text(kept)
    except UnicodeError:
        raise UnreadableError("bad_encoding", where) from None
    except (ValueError, RecursionError):
        raise UnreadableError("bad_json", where) from None
