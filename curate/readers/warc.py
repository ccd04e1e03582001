"""Read web archives a record at a time: HTML pages of a WARC, image links of a WAT.

Files are read as crawlers write them: plain, gzip or zstd a record, bodies chunked or compressed, or said to be so and
not. A record that cannot be read is a `WarcFault` in its place and reading goes on; a file that is damaged ends with
one. Memory is bounded by the largest record that the limits allow.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from fastwarc.stream_io import BrotliReader, ChunkedReader
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from curate.html.images import resolve_link
from curate.readers.opt_out import RESERVATION

MAX_LINKS = 10_000
"""The most image links that are taken from one page of a WAT file."""

_HTML = re.compile(r"\s*(text/html|application/xhtml\+xml)\b", re.I)
_NOTICES = ("x-robots-tag", RESERVATION)
_CHUNK = re.compile(rb"\s*[0-9a-fA-F]{1,8}[ \t]*(;[^\r\n]*)?\r?\n")
_LINK = re.compile(r"IMG@/(src|data-src)", re.I)


@dataclass(frozen=True)
class WarcPage:
    """A page as a crawler got it. `date` is the record's (ISO 8601), `content_type` HTTP's header, `offset` the place
    in the file, of the compressed record where it is compressed, `notices` HTTP's headers that speak of the page's use
    (`x_robots_tag`, `tdm_reservation`), those that there are."""

    url: str
    date: str
    content_type: str | None
    data: bytes
    offset: int
    notices: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class WatImage:
    """An `<img>` of a page: its absolute URL and its `alt` text (null where it has none)."""

    url: str
    alt: str | None
    page: str
    date: str


@dataclass(frozen=True)
class WarcFault:
    """A record that could not be read: record_too_large, truncated_record, bad_encoding, bad_record; or corrupt_warc,
    after which nothing more comes."""

    error: str
    detail: str
    offset: int
    url: str | None = None


def read_pages(source: Path | BinaryIO, max_record_bytes: int = 8 << 20) -> Iterator[WarcPage | WarcFault]:
    """Read the HTML pages among a WARC file's responses with status 200, in order; what is no page is passed over."""
    for record in _records(source, WarcRecordType.response | WarcRecordType.resource):
        if isinstance(record, WarcFault):
            yield record
        elif _is_page(record):
            yield _page(record, max_record_bytes)


def read_image_links(source: Path | BinaryIO, max_record_bytes: int = 8 << 20) -> Iterator[WatImage | WarcFault]:
    """Read the images that the pages of a WAT file link to (metadata records of Common Crawl), in order."""
    for record in _records(source, WarcRecordType.metadata):
        if isinstance(record, WarcFault):
            yield record
            continue
        body = _body(record, max_record_bytes)
        if isinstance(body, WarcFault):
            yield body
            continue
        try:
            yield from _images(json.loads(body), record)
        except (ValueError, RecursionError) as err:
            yield _fault("bad_record", f"no JSON: {err}", record)


def _records(source: Path | BinaryIO, kinds: WarcRecordType) -> Iterator[WarcRecord | WarcFault]:
    offset = 0
    try:
        with source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source) as stream:
            for record in ArchiveIterator(stream, record_types=kinds, auto_decode="none"):
                offset = record.stream_pos
                yield record
    except OSError as err:
        yield WarcFault("corrupt_warc", f"after the record at {offset}: {err}", offset)


def _is_page(record: WarcRecord) -> bool:
    if record.record_type == WarcRecordType.resource:
        return bool(_HTML.match(record.headers.get("Content-Type") or ""))
    if not record.is_http_parsed or record.http_headers.status_code != 200:
        return False
    return bool(_HTML.match(record.http_headers.get("Content-Type") or "text/html"))


def _page(record: WarcRecord, max_record_bytes: int) -> WarcPage | WarcFault:
    body = _body(record, max_record_bytes)
    headers = record.http_headers if record.is_http_parsed else record.headers
    if record.is_http_parsed and isinstance(body, bytes):
        try:
            body = _plain(body, headers.get("Transfer-Encoding"), headers.get("Content-Encoding"), max_record_bytes)
        except (OSError, zlib.error) as err:
            return _fault("bad_encoding", str(err), record)
        if len(body) > max_record_bytes:
            return _fault("record_too_large", f"unpacked, limit {max_record_bytes} bytes", record)
    if isinstance(body, WarcFault):
        return body
    date, content_type = record.headers.get("WARC-Date") or "", headers.get("Content-Type")
    return WarcPage(_url(record), date, content_type, body, record.stream_pos, _notices(record))


def _notices(record: WarcRecord) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in record.http_headers.items() if record.is_http_parsed else ():
        if name.lower() in _NOTICES:
            found.setdefault(name.lower().replace("-", "_"), []).append(value)
    return found


def _body(record: WarcRecord, most: int) -> bytes | WarcFault:
    length = record.content_length
    if length > most:
        return _fault("record_too_large", f"{length} bytes, limit {most}", record)
    body = record.reader.read(length) if length else b""
    if len(body) < length:
        return _fault("truncated_record", f"{len(body)} bytes of {length}", record)
    return body


def _plain(body: bytes, transfer: str | None, content: str | None, most: int) -> bytes:
    """The body without its encodings, at most one byte more than `most`; crawlers often have undone them already."""
    if "chunked" in (transfer or "").lower() and _CHUNK.match(body):
        body = ChunkedReader(io.BytesIO(body)).read(most + 1)
    encodings = [each.strip() for each in (content or "").lower().split(",")]
    if {"gzip", "x-gzip", "deflate"} & set(encodings) and body.lstrip()[:1] != b"<":
        bits = 47 if body[:1] in (b"\x1f", b"\x78") else -15  # `deflate` is sent with and without zlib's header
        unpacker = zlib.decompressobj(bits)
        body = unpacker.decompress(body, most + 1)
        if len(body) <= most and not unpacker.eof:
            raise zlib.error("the compressed body is cut off")
        return body
    if "br" in encodings and body.lstrip()[:1] != b"<":
        return BrotliReader(io.BytesIO(body)).read(most + 1)
    return body


def _images(found: Any, record: WarcRecord) -> Iterator[WatImage]:
    page, date = _url(record), record.headers.get("WARC-Date") or ""
    metadata: Any = found
    for name in ("Envelope", "Payload-Metadata", "HTTP-Response-Metadata", "HTML-Metadata"):
        metadata = metadata.get(name) if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict):
        return
    head, links = metadata.get("Head"), metadata.get("Links")
    base = head.get("Base") if isinstance(head, dict) else None
    for link in links[:MAX_LINKS] if isinstance(links, list) else ():
        if not isinstance(link, dict) or not _LINK.fullmatch(str(link.get("path"))):
            continue
        url = resolve_link(str(link.get("url") or ""), page, base if isinstance(base, str) else None, 0)
        if url is not None:
            alt = " ".join(str(link.get("alt") or "").split())
            yield WatImage(url, alt or None, page, date)


def _url(record: WarcRecord) -> str:
    return (record.headers.get("WARC-Target-URI") or "").strip("<> ")


def _fault(error: str, detail: str, record: WarcRecord) -> WarcFault:
    return WarcFault(error, detail, record.stream_pos, _url(record) or None)
