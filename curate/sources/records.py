"""Interleaved documents that are ready (OBELICS, MMC4): each record kept as it came, as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from curate import strict_json
from curate.document.interchange import page_url
from curate.download import Downloader
from curate.readers import tables
from curate.recipe.source import Records
from curate.sample import fingerprint, uid_of
from curate.sources.rows import (
    Row,
    fail_row,
    folder_identity,
    is_bad,
    row_meta,
    table_identity,
    table_remarks,
    table_rows,
    unreadable_row,
    with_body,
)


def identity(source: Records) -> Any:
    """The table's hash, and what the folder of its images holds."""
    return [table_identity(source), _images(source)]


def _images(source: Records) -> Any:
    return folder_identity(Path(source.folder)) if source.folder else None


def plan_rows(source: Records) -> Iterator[Row | str]:
    """Plan a row for each record; the record stands in `text` until it is taken in."""
    columns = tuple(dict.fromkeys((*source.columns, *source.keep)))
    name = source.path or source.huggingface
    yield from table_remarks(source.path, columns, source.quoting)
    for number, row in enumerate(table_rows(source, columns)):
        if isinstance(row, tables.BadRow):
            yield unreadable_row("interleaved", row)
            continue
        chosen = {c: row[c] for c in source.columns}
        record = strict_json.dumps(chosen)
        uid = uid_of("interleaved", "record", record)
        origin = page_url(chosen) or f"{str(name).rsplit('/', 1)[-1]}#{number}"
        yield {"uid": uid, "origin": origin, "text": record, "meta": row_meta(row, source.keep)}


def companion_files(source: Records) -> Callable[[list[Row]], Any]:
    """The identity of the folder of images: those that a record shows are known when it is read."""
    all_of_it = fingerprint(_images(source))
    return lambda rows: all_of_it


def load_rows(source: Records, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """Give rows their records as bytes."""
    for row in rows:
        if is_bad(row):
            yield fail_row(row, row["error"], row["detail"])
        else:
            yield with_body(row | {"text": ""}, row["text"].encode(), "json")
