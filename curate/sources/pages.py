"""Tables of web pages: fetched by their URLs, or with their HTML beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from curate.download import Downloader
from curate.readers import tables
from curate.recipe.source import Pages
from curate.sample import uid_of
from curate.sources import urls
from curate.sources.rows import Row, as_meta, as_text, bad_row, expand, failed, hashed, is_bad, with_body


def identity(source: Pages) -> Any:
    """The files' names and hashes."""
    return hashed(source.path)


def rows(source: Pages) -> Iterator[Row]:
    """A planned row for each page; its HTML, where the table has it, stands in `text` until it is taken in."""
    columns = (source.url, *([source.html] if source.html else []), *source.keep)
    for path in expand(source.path):
        for row in tables.read(path, columns):
            url = row if isinstance(row, tables.BadRow) else urls.usable_url(row, source.url)
            if isinstance(row, tables.BadRow) or isinstance(url, tables.BadRow):
                assert isinstance(url, tables.BadRow)
                yield bad_row("interleaved", url)
                continue
            html = as_text(row[source.html]) if source.html else ""
            uid = uid_of("interleaved", url, html)
            yield {"uid": uid, "origin": url, "text": html, "meta": as_meta(row, source.keep)}


def take(source: Pages, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """The rows with their pages."""
    if source.html is None:
        return urls.take(source, rows, downloader)
    return (_given(row) for row in rows)


def _given(row: Row) -> Row:
    if is_bad(row):
        return failed(row, row["error"], row["detail"])
    body = row["text"].encode()
    if not body:
        return failed(row, "empty_page", "the table has no HTML in this row")
    return with_body(row | {"text": ""}, body, "html")
