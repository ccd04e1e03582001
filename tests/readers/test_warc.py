"""Web archives: every page comes as it was crawled, and a damaged record costs no other."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from fastwarc.stream_io import BrotliWriter

from curate.html import parse
from curate.readers.warc import WarcFault, WarcPage, WatImage, read_image_links, read_pages

PAGE = b"<p>The tide table hangs in the porch."
DATE = "2024-01-02T03:04:05Z"


def record(kind: str, url: str, block: bytes, content_type: str) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000001>\r\n"
        f"WARC-Date: {DATE}\r\nWARC-Target-URI: {url}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def response(url: str, body: bytes = PAGE, headers: str = "Content-Type: text/html", status: str = "200 OK") -> bytes:
    block = f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body
    return record("response", url, block, "application/http; msgtype=response")


def read(data: bytes, most: int = 1 << 20) -> list[WarcPage | WarcFault]:
    return list(read_pages(io.BytesIO(data), most))


def errors(found: list[Any]) -> list[str]:
    return [each.error if isinstance(each, WarcFault) else "" for each in found]


def test_page_comes_with_its_address_date_and_type() -> None:
    (found,) = read(response("https://a.example/1", headers="Content-Type: text/html; charset=koi8-r"))
    assert found == WarcPage("https://a.example/1", DATE, "text/html; charset=koi8-r", PAGE, 0)


def test_headers_about_the_page_s_use_come_with_it() -> None:
    """What the headers say of the page's use comes with it."""
    headers = "Content-Type: text/html\r\nX-Robots-Tag: otherbot: noindex\r\nx-robots-tag: noai\r\nTDM-Reservation: 1"
    (found,) = read(response("https://a.example/1", headers=headers))
    assert isinstance(found, WarcPage)
    assert found.notices == {"x_robots_tag": ["otherbot: noindex", "noai"], "tdm_reservation": ["1"]}


def test_header_s_charset_reads_the_page() -> None:
    word = "прилив"
    data = response("https://a.example/1", f"<p>{word}".encode("koi8-r"), "Content-Type: text/html; charset=koi8-r")
    (found,) = read(data)
    assert isinstance(found, WarcPage)
    assert parse(found.data, found.url, found.content_type).segments[0]["text"] == word


def test_compressed_archives_read_the_same_and_pages_know_their_place(tmp_path: Path) -> None:
    """Compressed archives read the same from a file and each page knows its place."""
    first, second = (gzip.compress(response(f"https://a.example/{n}")) for n in (1, 2))
    (path := tmp_path / "x.warc.gz").write_bytes(first + second)
    found = [each for each in read_pages(path) if isinstance(each, WarcPage)]
    assert [(each.url, each.offset) for each in found] == [
        ("https://a.example/1", 0),
        ("https://a.example/2", len(first)),
    ]


def test_page_is_only_html_that_was_found() -> None:
    """Only HTML that was found is a page."""
    data = (
        record("warcinfo", "", b"software: x\r\n", "application/warc-fields")
        + record("request", "https://a.example/1", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request")
        + response("https://a.example/1", status="404 Not Found")
        + response("https://a.example/2", b"\xff\xd8", "Content-Type: image/jpeg")
        + response("https://a.example/3", headers="Content-Type: application/xhtml+xml")
        + record("resource", "https://a.example/4", PAGE, "text/html")
        + record("resource", "https://a.example/5", b"a,b", "text/csv")
    )
    assert [each.url for each in read(data)] == ["https://a.example/3", "https://a.example/4"]


def brotli(data: bytes) -> bytes:
    out = io.BytesIO()
    with BrotliWriter(out) as writer:
        writer.write(data)
        writer.finish()
    return out.getvalue()


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Encoding: gzip", gzip.compress(PAGE, mtime=0)),
        ("Content-Encoding: deflate", zlib.compress(PAGE)),
        ("Content-Encoding: deflate", zlib.compress(PAGE)[2:-4]),
        ("Content-Encoding: br", brotli(PAGE)),
        ("Transfer-Encoding: chunked", b"25\r\n" + PAGE + b"\r\n0\r\n\r\n"),
        ("Content-Encoding: gzip", PAGE),  # undone by the crawler, which kept the header
        ("Content-Encoding: br", PAGE),
        ("Transfer-Encoding: chunked", PAGE),
    ],
)
def test_body_is_unpacked_whether_or_not_the_crawler_had_done_it(header: str, body: bytes) -> None:
    (found,) = read(response("https://a.example/1", body, f"Content-Type: text/html\r\n{header}"))
    assert isinstance(found, WarcPage)
    assert found.data == PAGE


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (response("https://a.example/1", b"\x1f\x8bnothing", "Content-Encoding: gzip"), "bad_encoding"),
        (response("https://a.example/1", gzip.compress(PAGE)[:-12], "Content-Encoding: gzip"), "bad_encoding"),
        (response("https://a.example/1", b"nothing at all", "Content-Encoding: br"), "bad_encoding"),
        (response("https://a.example/1", b"x" * 3000), "record_too_large"),
        (
            response("https://a.example/1", gzip.compress(b"x" * 9_000_000), "Content-Encoding: gzip"),
            "record_too_large",
        ),
    ],
)
def test_record_that_cannot_be_read_is_named_and_the_next_one_comes(bad: bytes, error: str) -> None:
    most = 2000 if error == "record_too_large" and len(bad) < 9000 else 1 << 20
    found = read(bad + response("https://a.example/2"), most)
    assert errors(found) == [error, ""]
    assert [each.url for each in found] == ["https://a.example/1", "https://a.example/2"]


def test_compressed_bomb_costs_no_memory() -> None:
    bomb = gzip.compress(response("https://a.example/1", b"\0" * 50_000_000))
    assert errors(read(bomb + gzip.compress(response("https://a.example/2")))) == ["record_too_large", ""]


@pytest.mark.parametrize("cut", [5, 30, 120])
@pytest.mark.parametrize("compressed", [False, True])
def test_cut_file_gives_all_that_is_whole_and_never_half_a_page(cut: int, compressed: bool) -> None:
    """A file that was cut off gives all that is whole and never half a page."""
    pack = gzip.compress if compressed else bytes
    first, second = (pack(response(f"https://a.example/{n}")) for n in (1, 2))
    found = read((first + second)[:-cut])
    assert found[0] == WarcPage("https://a.example/1", DATE, "text/html", PAGE, 0)
    assert all(each.data == PAGE for each in found if isinstance(each, WarcPage))


@pytest.mark.parametrize("data", [b"hello " * 100, response("https://a.example/1") + b"garbage" * 30, b"\x1f\x8b" * 50])
def test_damaged_file_says_so_and_ends(data: bytes) -> None:
    assert errors(read(data))[-1] == "corrupt_warc"


def test_empty_file_has_no_pages() -> None:
    assert read(b"") == []


# WAT


def wat(page: str, links: list[Any], head: Any = None) -> bytes:
    html = {"Head": head or {}, "Links": links}
    found = {"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": html}}}}
    return record("metadata", page, json.dumps(found).encode(), "application/json")


def test_images_of_a_wat_file_come_with_alt_text_and_absolute() -> None:
    data = wat(
        "https://a.example/x/",
        [
            {"path": "A@/href", "url": "/no", "text": "no"},
            {"path": "IMG@/src", "url": "boat.jpg", "alt": " a red\n boat"},
            {"path": "IMG@/src", "url": "//cdn.example/t.png"},
            {"path": "IMG@/src", "url": "javascript:x"},
            {"path": "IMG@/src"},
            "nonsense",
        ],
    )
    assert list(read_image_links(io.BytesIO(gzip.compress(data)))) == [
        WatImage("https://a.example/x/boat.jpg", "a red boat", "https://a.example/x/", DATE),
        WatImage("https://cdn.example/t.png", None, "https://a.example/x/", DATE),
    ]


def test_page_s_base_moves_its_links() -> None:
    data = wat("https://a.example/", [{"path": "IMG@/src", "url": "b.jpg"}], {"Base": "https://img.example/"})
    assert [each.url for each in read_image_links(io.BytesIO(data))] == ["https://img.example/b.jpg"]


@pytest.mark.parametrize("body", [b"{", b"[" * 200_000, b'"x"', b"[]", b'{"Envelope": 3}'])
def test_record_without_the_expected_json_costs_no_other(body: bytes) -> None:
    bad = record("metadata", "https://a.example/1", body, "application/json")
    good = wat("https://a.example/2", [{"path": "IMG@/src", "url": "b.jpg"}])
    found = list(read_image_links(io.BytesIO(bad + good)))
    assert found[-1] == WatImage("https://a.example/b.jpg", None, "https://a.example/2", DATE)
    assert all(each.error == "bad_record" for each in found[:-1] if isinstance(each, WarcFault))
