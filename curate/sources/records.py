"""Interleaved documents that are ready (OBELICS, MMC4): each record kept as it came, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from curate.document.interchange import page_url
from curate.download import Downloader
from curate.readers import tables
from curate.recipe.source import Records
from curate.sample import fingerprint, uid_of
from curate.sources.rows import (
    Row,
    as_meta,
    bad_row,
    failed,
    is_bad,
    table_identity,
    table_rows,
    walk_identity,
    with_body,
)


def identity(source: Records) -> Any:
    """The table's hash, and what the folder of its images holds."""
    return [table_identity(source), _images(source)]


def _images(source: Records) -> Any:
    return walk_identity(Path(source.folder)) if source.folder else None


def rows(source: Records) -> Iterator[Row]:
    """A planned row for each record; the record stands in `text` until it is taken in."""
    columns = tuple(dict.fromkeys((*source.columns, *source.keep)))
    name = source.path or source.huggingface
    for number, row in enumerate(table_rows(source, columns)):
        if isinstance(row, tables.BadRow):
            yield bad_row("interleaved", row)
            continue
        said = {c: row[c] for c in source.columns}
        record = json.dumps(said, ensure_ascii=False, sort_keys=True, default=str)
        uid = uid_of("interleaved", "record", record)
        origin = page_url(said) or f"{str(name).rsplit('/', 1)[-1]}#{number}"
        yield {"uid": uid, "origin": origin, "text": record, "meta": as_meta(row, source.keep)}


def beside(source: Records) -> Callable[[list[Row]], Any]:
    """All of the folder of images: which of them a record shows is known when it is read."""
    all_of_it = fingerprint(_images(source))
    return lambda rows: all_of_it


def take(source: Records, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """The rows with their records as bytes."""
    for row in rows:
        if is_bad(row):
            yield failed(row, row["error"], row["detail"])
        else:
            yield with_body(row | {"text": ""}, row["text"].encode(), "json")
