"""Tables of web pages: fetched by their URLs, or with their HTML beside.

A table holds a page's characters, and what its `<meta>` says of the bytes that they once were is true no longer: they
are kept as UTF-8 with its byte order mark, which goes before all that a page says of itself.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from curate import strict_json
from curate.download import Downloader
from curate.readers import tables
from curate.recipe.source import Pages
from curate.sample import uid_of
from curate.sources import urls
from curate.sources.rows import (
    Row,
    expand,
    fail_row,
    field_of,
    hash_files,
    is_bad,
    row_meta,
    table_remarks,
    unreadable_row,
    with_body,
)


def identity(source: Pages) -> Any:
    """The files' names and hashes."""
    return hash_files(source.path)


def plan_rows(source: Pages) -> Iterator[Row | str]:
    """Plan a row for each page; its HTML, where the table has it, stands in `text` until it is taken in."""
    columns = (source.url, *([source.html] if source.html else []), *source.keep)
    yield from table_remarks(source.path, columns, source.quoting)
    for path in expand(source.path):
        for row in tables.read(path, columns, source.quoting):
            url = row if isinstance(row, tables.BadRow) else urls.check_url(row, source.url)
            if isinstance(row, tables.BadRow) or isinstance(url, tables.BadRow):
                assert isinstance(url, tables.BadRow)
                yield unreadable_row("interleaved", url)
                continue
            html = field_of(row, source.html) if source.html else ""
            if isinstance(html, tables.BadRow):
                yield unreadable_row("interleaved", html)
                continue
            uid = uid_of("interleaved", url, html)
            yield {"uid": uid, "origin": url, "text": html, "meta": row_meta(row, source.keep)}


def load_rows(source: Pages, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """Fetch the pages of rows, or take them from the table."""
    if source.html is None:
        return (_with_header(source, row) for row in urls.load_rows(source, rows, downloader))
    return (_html_of(row) for row in rows)


def _with_header(source: Pages, row: Row) -> Row:
    """The row, with HTTP's Content-Type in its meta, unless the table has a column of that name to keep."""
    told = row.get("content_type")
    if told is None or "content_type" in source.keep:
        return row
    return row | {"meta": strict_json.dumps(json.loads(row["meta"]) | {"content_type": told})}


def _html_of(row: Row) -> Row:
    if is_bad(row):
        return fail_row(row, row["error"], row["detail"])
    if not row["text"]:
        return fail_row(row, "empty_page", "the table has no HTML in this row")
    return with_body(row | {"text": ""}, codecs.BOM_UTF8 + row["text"].encode(), "html")
