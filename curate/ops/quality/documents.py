"""Measure the parts of documents: what an image's URL says, which images a page shows again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pyarrow as pa

from curate.document.segments import Segment, image_urls
from curate.ops.spec import Columns, op
from curate.pool.blob import Blob

URL_WORDS = ("logo", "button", "icon", "plugin", "widget", "porn", "xxx", "sex")
"""OBELICS's list; MMC4 and MM1 have the first five."""


@op(reads="url", writes={"url_word": pa.string()}, version=1, batch_size=1024)
def url_words(urls: Sequence[str], *, words: tuple[str, ...] = URL_WORDS) -> Columns:
    """The first of `words` that the URL of a document's image holds, in any case; null where it holds none.

    With `over: images`, before any is fetched: `keep_images: {url_word: {is: null}}` is OBELICS's, MMC4's and MM1's
    rule. An image that stands in the page itself (a `data:` URL) has none: base64 spells every word some time.
    """
    lower = [word.lower() for word in words]
    return {"url_word": [_word(url, lower) for url in urls]}


def _word(url: str, words: Sequence[str]) -> str | None:
    if url[:5].lower() == "data:":
        return None
    return next((word for word in words if word in url.lower()), None)


@op(
    reads="document",
    writes={"url_repeated": pa.list_(pa.bool_())},
    version=1,
    batch_size=256,
    parts={"url_repeated": "images"},
)
def repeated_urls(documents: Sequence[list[Segment]]) -> Columns:
    """Tell images whose URL is that of one before them in the document. Of those with one URL MM1 keeps the first."""
    return {"url_repeated": [_repeated(image_urls(document)) for document in documents]}


@op(
    reads="images",
    writes={"bytes_repeated": pa.list_(pa.bool_())},
    version=1,
    batch_size=256,
    parts={"bytes_repeated": "images"},
)
def repeated_bytes(images: Sequence[list[Blob]]) -> Columns:
    """Tell images with the bytes of one before them in the document; null where absent. MM1 keeps the first."""
    return {"bytes_repeated": [_repeated([blob.sha256 for blob in blobs]) for blobs in images]}


def _repeated(keys: Sequence[Hashable]) -> list[bool | None]:
    """Whether each key came before; null stays null."""
    seen: set[Hashable] = set()
    found: list[bool | None] = []
    for key in keys:
        found.append(None if key is None else key in seen)
        seen.add(key)
    return found
