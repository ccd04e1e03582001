"""Web archives (ISO 28500): the pages that crawlers saved, and the image links that Common Crawl's WAT files list.

Records are strangers': each is read up to a limit and decoded by itself, so that a broken one costs no other. Where the
file itself is damaged, reading ends with a named fault; what came before it stands.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

MAX_PAGE_BYTES = 32 << 20
MAX_WAT_BYTES = 32 << 20
MAX_HEADER_BYTES = 64 << 10
HTML_TYPES = ("text/html", "application/xhtml+xml")
_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 47}


@dataclass(frozen=True)
class Saved:
    """A page as it was served: `body` decoded of its transfer and content encodings, `error` where that cannot be."""

    url: str
    date: str
    content_type: str
    body: bytes = b""
    error: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Damage:
    """The file cannot be read beyond this byte."""

    offset: int
    detail: str


@dataclass(frozen=True)
class ImageLink:
    """An image that a page shows, with the text that stands for it."""

    url: str
    alt: str
    page: str


def pages(path: Path) -> Iterator[Saved | Damage]:
    """The HTML responses of a WARC file, in order; other responses are no pages and are passed over.

    Errors of a page: http_404 and so on, page_too_large, truncated_body (the crawler broke off), bad_encoding.
    """
    from fastwarc.warc import WarcRecordType

    for record in _records(path, WarcRecordType.response):
        if isinstance(record, Damage):
            yield record
        elif record.http_content_type in HTML_TYPES:
            yield _page(record)


def image_links(path: Path) -> Iterator[ImageLink | Damage]:
    """The images with a text in its `alt` that a WAT file lists (LAION's pairs; Schuhmann et al. 2021)."""
    from fastwarc.warc import WarcRecordType

    for record in _records(path, WarcRecordType.metadata):
        if isinstance(record, Damage):
            yield record
        elif (data := record.reader.read(MAX_WAT_BYTES + 1)) and len(data) <= MAX_WAT_BYTES:
            yield from _links(data)


def _records(path: Path, kind: Any) -> Iterator[Any]:
    """The records of a kind, or the damage that ends the file."""
    from fastwarc.warc import ArchiveIterator

    offset = 0
    try:
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=kind, max_header_len=MAX_HEADER_BYTES, fsspec_args=False):
                offset = record.stream_pos
                yield record
    except (OSError, ValueError) as err:
        yield Damage(offset, f"after byte {offset}: {err}")


def _page(record: Any) -> Saved:
    headers, said = record.headers, record.http_headers
    date = record.record_date.strftime("%Y-%m-%dT%H:%M:%SZ") if record.record_date else ""
    charset = f"; charset={record.http_charset}" if record.http_charset else ""
    page = Saved(headers.get("WARC-Target-URI") or "", date, f"{record.http_content_type}{charset}")
    if not 200 <= (said.status_code or 0) < 300:
        return _failed(page, f"http_{said.status_code}", "the archive holds no page but an answer")
    if headers.get("WARC-Truncated"):
        return _failed(page, "truncated_body", f"WARC-Truncated: {headers.get('WARC-Truncated')}")
    data = record.reader.read(MAX_PAGE_BYTES + 1)
    if len(data) > MAX_PAGE_BYTES:
        return _failed(page, "page_too_large", f"more than {MAX_PAGE_BYTES} bytes")
    try:
        body = _decoded(data, said.get("Transfer-Encoding") or "", said.get("Content-Encoding") or "")
    except (OSError, ValueError, zlib.error) as err:
        return _failed(page, "bad_encoding", str(err))
    if len(body) > MAX_PAGE_BYTES:
        return _failed(page, "page_too_large", f"more than {MAX_PAGE_BYTES} bytes")
    return Saved(page.url, page.date, page.content_type, body)


def _failed(page: Saved, error: str, detail: str) -> Saved:
    return Saved(page.url, page.date, page.content_type, error=error, detail=detail)


def _decoded(data: bytes, transfer: str, content: str) -> bytes:
    """The body; at most one byte more than the limit of a page. Many crawlers undo encodings and leave the header."""
    from fastwarc.stream_io import BrotliReader, ChunkedReader

    if "chunked" in transfer.lower() and _is_chunked(data):
        data = ChunkedReader(io.BytesIO(data)).read(MAX_PAGE_BYTES + 1)
    for coding in reversed([c.strip().lower() for c in content.split(",") if c.strip()]):
        if coding in _WBITS and data[:1] in (b"\x1f", b"\x78", b"\x08"):
            data = zlib.decompressobj(_WBITS[coding]).decompress(data, MAX_PAGE_BYTES + 1)
        elif coding == "br" and data.lstrip()[:1] != b"<":
            data = BrotliReader(io.BytesIO(data)).read(MAX_PAGE_BYTES + 1)
        elif coding not in (*_WBITS, "br", "identity"):
            raise ValueError(f"Content-Encoding: {coding[:50]}")
    return data


def _is_chunked(data: bytes) -> bool:
    size = data[:20].partition(b"\r\n")[0].partition(b";")[0].strip()
    return bool(size) and all(c in b"0123456789abcdefABCDEF" for c in size)


def _links(data: bytes) -> Iterator[ImageLink]:
    """The image links of one WAT record; one that is not what it should be has none."""
    try:
        envelope = json.loads(data)["Envelope"]
        page = str(envelope["WARC-Header-Metadata"]["WARC-Target-URI"])
        html = envelope["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]
        base = urljoin(page, str(html.get("Head", {}).get("Base", "")))
        links = list(html["Links"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    for link in links:
        if not isinstance(link, dict) or link.get("path") != "IMG@/src":
            continue
        url, alt = link.get("url"), link.get("alt")
        if isinstance(url, str) and isinstance(alt, str) and url.strip() and alt.strip():
            try:
                yield ImageLink(urljoin(base, url.strip()), alt.strip(), page)
            except ValueError:  # no URL at all, a broken IPv6 address for one
                continue
