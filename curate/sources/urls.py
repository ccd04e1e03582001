"""Tables of image URLs and captions: fetched, and what the servers answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from curate import strict_json
from curate.download import Downloader, Fetched
from curate.readers import tables
from curate.readers.rows import MARK
from curate.recipe.source import UrlTable
from curate.sample import uid_of
from curate.sources.rows import (
    Row,
    caption_row,
    fail_row,
    is_bad,
    table_identity,
    table_remarks,
    table_rows,
    unreadable_row,
)

identity = table_identity


def plan_rows(source: UrlTable) -> Iterator[Row | str]:
    """Plan a row for each row of the table."""
    columns = (source.url, source.text, *source.keep)
    yield from table_remarks(source.path, columns, source.quoting)
    for row in table_rows(source, columns):
        url = row if isinstance(row, tables.BadRow) else check_url(row, source.url)
        if isinstance(row, tables.BadRow) or isinstance(url, tables.BadRow):
            assert isinstance(url, tables.BadRow)
            yield unreadable_row("caption", url)
            continue
        planned = caption_row(row, source.url, source.text, source.keep)
        yield planned if planned.get("error") else planned | {"uid": uid_of("caption", url, planned["text"])}


def check_url(row: Row, column: str) -> str | tables.BadRow:
    """Check the URL in a column: the URL, or the failed row."""
    url = row[column].removeprefix(MARK) if isinstance(row[column], str) else ""
    if url.strip() and "\ufffd" not in url:
        return url
    shown = tables.excerpt(strict_json.dumps(row))
    if url.strip():  # asked as it stands, another picture than the table's might come
        return tables.BadRow("bad_encoding", f"column {column!r}: a character of the URL was lost", shown)
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
