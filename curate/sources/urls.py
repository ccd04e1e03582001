"""Tables of image URLs and captions: fetched, and what the servers answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from curate.download import Downloader, Fetched
from curate.readers import tables
from curate.recipe.source import UrlTable
from curate.sample import uid_of
from curate.sources.rows import Row, fail_row, field_text, is_bad, row_meta, table_identity, table_rows, unreadable_row

identity = table_identity


def plan_rows(source: UrlTable) -> Iterator[Row]:
    """Plan a row for each row of the table."""
    for row in table_rows(source, (source.url, source.text, *source.keep)):
        if isinstance(row, tables.BadRow):
            yield unreadable_row("caption", row)
            continue
        url = check_url(row, source.url)
        if isinstance(url, tables.BadRow):
            yield unreadable_row("caption", url)
            continue
        text = field_text(row[source.text])
        yield {"uid": uid_of("caption", url, text), "origin": url, "text": text, "meta": row_meta(row, source.keep)}


def check_url(row: Row, column: str) -> str | tables.BadRow:
    """Check the URL in a column: the URL, or the failed row."""
    url = row[column]
    if isinstance(url, str) and url.strip():
        return url
    shown = tables.excerpt(json.dumps(row, default=str, ensure_ascii=False))
    return tables.BadRow("missing_url", f"column {column!r} is empty", shown)


def load_rows(source: Any, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """Fetch the bytes of rows, in order; a row that the plan already failed is passed on."""
    assert downloader is not None
    fetched = downloader.fetch((r["uid"], r["origin"]) for r in rows if not is_bad(r))
    for row in rows:
        yield fail_row(row, row["error"], row["detail"]) if is_bad(row) else _with_answer(row, next(fetched))


def _with_answer(row: Row, got: Fetched) -> Row:
    assert got.key == row["uid"], "answers come in the order of the questions"
    return row | {
        "status": got.status, "error": got.error, "detail": got.detail or None, "ext": got.ext, "body": got.body,
        "sha256": got.sha256, "http_status": got.http_status, "final_url": got.final_url, "attempts": got.attempts,
        "original_width": got.original_width, "original_height": got.original_height, "content_type": got.content_type,
    }  # fmt: skip
