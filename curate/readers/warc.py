"""Read web archives a record at a time: HTML pages of a WARC, image links of a WAT.

Files are read as crawlers write them: plain, gzip or zstd a record, bodies chunked or compressed, or said to be so and
not. What cannot be read is a `WarcFault` in its place and reading goes on (`curate.readers.warc_records`). Memory is
bounded by the largest record that the limits allow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from curate.html.images import resolve_link
from curate.readers.codings import CodingError, UnpackedTooLargeError, undo_codings
from curate.readers.opt_out import RESERVATION
from curate.readers.warc_records import WarcFault, WarcRecord, header_text, parse_fields, read_records

_HTML = re.compile(r"\s*(text/html|application/xhtml\+xml)\b", re.I)
_NOTICES = ("x-robots-tag", RESERVATION)
_LINK = re.compile(r"IMG@/(src|data-src)", re.I)

_STATUS = re.compile(rb"HTTP/\d+(?:\.\d+)?[ \t]+(\d{3})")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"[ \t]*[0-9a-fA-F]{1,8}[ \t]*(?:;[^\r\n]*)?\r?\n")
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_HEAD = 1024


@dataclass(frozen=True)
class WarcPage:
    """A page as a crawler got it. `date` is the record's (ISO 8601), `content_type` HTTP's header, `offset` the place
    in the file, of the compressed record where it is compressed, `notices` HTTP's headers that speak of the page's use
    (`x_robots_tag`, `tdm_reservation`), those that there are, `truncated` why the crawler cut it off (WARC-Truncated:
    length, time, disconnect, ...), null of a whole one."""

    url: str
    date: str
    content_type: str | None
    data: bytes
    offset: int
    notices: Mapping[str, list[str]] = field(default_factory=dict)
    truncated: str | None = None


@dataclass(frozen=True)
class WatImage:
    """An `<img>` of a page: its absolute URL and its `alt` text (null where it has none)."""

    url: str
    alt: str | None
    page: str
    date: str


@dataclass(frozen=True)
class HttpResponse:
    """An answer of HTTP, as a response record holds it: status, header lines in order, and the body as it was sent."""

    status: int
    lines: list[tuple[str, bytes]]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's values, joined as HTTP allows; null where there is none."""
        values = [header_text(value) for key, value in self.lines if key == name]
        return ", ".join(values) if values else None


def read_pages(source: Path | BinaryIO, max_record_bytes: int = 8 << 20) -> Iterator[WarcPage | WarcFault]:
    """Read the HTML pages among a WARC file's responses with status 200, in order; what is no page is passed over."""
    for record in read_records(source, max_record_bytes):
        if isinstance(record, WarcFault):
            yield record
        elif record.kind == "resource":
            if _HTML.match(record.text("content-type") or ""):
                yield _page(record, HttpResponse(200, [], record.block), record.text("content-type"), max_record_bytes)
        elif record.kind == "response" and (response := parse_response(record.block)):
            content_type = response.header("content-type")
            if response.status == 200 and _HTML.match(content_type or "text/html"):
                yield _page(record, response, content_type, max_record_bytes)
        elif record.kind == "response" and (record.text("content-type") or "").startswith("application/http"):
            yield _fault("bad_record", f"begins with {record.block[:16]!r}, which is no HTTP", record)


def parse_response(block: bytes) -> HttpResponse | None:
    """Parse HTTP's response; None for what is none."""
    status = _STATUS.match(block)
    if status is None:
        return None
    end = _HEADER_END.search(block)
    lines = parse_fields(block[: end.start()] if end else block)
    return HttpResponse(int(status[1]), lines, block[end.end() :] if end else b"")


def read_image_links(source: Path | BinaryIO, max_record_bytes: int = 8 << 20) -> Iterator[WatImage | WarcFault]:
    """Read the images that the pages of a WAT file link to (metadata records of Common Crawl), in order."""
    for record in read_records(source, max_record_bytes):
        if isinstance(record, WarcFault):
            yield record
        elif record.kind == "metadata":
            if len(record.block) < record.length:
                yield _too_large(record, max_record_bytes)
                continue
            try:
                yield from _images(json.loads(record.block), record)
            except (ValueError, RecursionError) as err:
                yield _fault("bad_record", f"no JSON: {err}", record)


def _page(record: WarcRecord, response: HttpResponse, content_type: str | None, most: int) -> WarcPage | WarcFault:
    if len(record.block) < record.length:
        return _too_large(record, most)
    if "warc-segment-number" in record.fields:
        return _fault("segmented_record", "the first of several records that hold one page", record)
    truncated = record.text("warc-truncated")
    try:
        body = undo_codings(response.body, response.header("transfer-encoding"), most, _is_not_chunked)
        body = undo_codings(body, response.header("content-encoding"), most, _is_page)
    except UnpackedTooLargeError as err:
        return _fault("record_too_large", f"unpacked: {err}", record)
    except CodingError as err:
        return _fault("truncated_record" if truncated else "bad_encoding", str(err), record)
    date = record.text("warc-date") or ""
    return WarcPage(record.url, date, content_type, body, record.offset, _notices(response), truncated)


def _is_not_chunked(body: bytes) -> bool:
    """Whether a crawler had put the chunks together before it wrote them down."""
    return _CHUNK.match(body) is None


def _is_page(body: bytes) -> bool:
    """Whether bytes are plainly a page's: markup first, or text with markup in it."""
    head = body[:_HEAD]
    mark = next((mark for mark in _MARKS if head.startswith(mark)), b"")
    return head[len(mark) :].lstrip(b"\0 \t\r\n\f").startswith(b"<") or (b"<" in head and not _BINARY.search(head))


def _notices(response: HttpResponse) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in response.lines:
        if name in _NOTICES:
            found.setdefault(name.replace("-", "_"), []).append(header_text(value))
    return found


def _images(found: Any, record: WarcRecord) -> Iterator[WatImage]:
    page, date = record.url, record.text("warc-date") or ""
    metadata: Any = found
    for name in ("Envelope", "Payload-Metadata", "HTTP-Response-Metadata", "HTML-Metadata"):
        metadata = metadata.get(name) if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict):
        return
    head, links = metadata.get("Head"), metadata.get("Links")
    base = head.get("Base") if isinstance(head, dict) else None
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, dict) or not _LINK.fullmatch(str(link.get("path"))):
            continue
        url = resolve_link(_string(link.get("url")), page, base if isinstance(base, str) else None, 0)
        if url is not None:
            yield WatImage(url, " ".join(_string(link.get("alt")).split()) or None, page, date)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _too_large(record: WarcRecord, most: int) -> WarcFault:
    return _fault("record_too_large", f"{record.length} bytes, limit {most}", record)


def _fault(error: str, detail: str, record: WarcRecord) -> WarcFault:
    return WarcFault(error, detail, record.offset, record.url or None)
