"""Bodies and heads as servers send them: codings that are true, false or no codings, and heads without end."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pyarrow as pa
import pytest
from fetching import fetch, settings
from hostile import JPEG, Site, head

from curate.download import Downloader
from curate.engine.remedies import REMEDIES, remedy

PAGE = b"<!doctype html><html><body>" + b"<p>words of a page</p>" * 200 + b"</body></html>"


def packed(codec: str, data: bytes) -> bytes:
    return bytes(pa.compress(data, codec, asbytes=True))


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        *((word, JPEG) for word in ("aws-chunked", "binary", "UTF-8", "none", "identity", "image/jpeg", "gzip", "br")),
        ("gzip", gzip.compress(JPEG[:200]) + gzip.compress(JPEG[200:])),
        ("gzip, gzip", gzip.compress(gzip.compress(JPEG))),
        ("deflate", zlib.compress(JPEG)),
        ("br", packed("brotli", JPEG)),
        ("zstd", packed("zstd", JPEG[:200]) + packed("zstd", JPEG[200:])),
        ("aws-chunked,gzip", gzip.compress(JPEG)),
    ],
)
def test_intact_picture_is_taken_whatever_coding_is_said_of_it(site: Site, coding: str, body: bytes) -> None:
    site.pages["/a"] = ("200 OK", ("Content-Type: image/jpeg", f"Content-Encoding: {coding}"), body)
    (row,) = fetch(site.url("/a"))
    assert (row.error, row.detail, row.body) == (None, "", JPEG)


def test_two_headers_of_codings_count_as_one_list(site: Site) -> None:
    said = ("Content-Encoding: gzip", "Content-Encoding: br")
    site.pages["/a"] = ("200 OK", said, packed("brotli", gzip.compress(JPEG)))
    assert fetch(site.url("/a"))[0].body == JPEG


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate"])
def test_page_is_unpacked_and_one_that_is_cut_is_no_page(site: Site, coding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding)
    body = pack(PAGE) if pack else packed({"br": "brotli"}.get(coding, coding), PAGE)
    said = ("Content-Type: text/html", f"Content-Encoding: {coding}")
    site.pages |= {"/a": ("200 OK", said, body), "/cut": ("200 OK", said, body[:-10]), "/false": ("200 OK", said, PAGE)}
    with Downloader(settings(), wants="page") as downloader:
        whole, cut, false = downloader.fetch((path, site.url(path)) for path in ("/a", "/cut", "/false"))
    assert (whole.body, cut.error, false.body) == (PAGE, "bad_encoding", PAGE)


@pytest.mark.parametrize(
    ("coding", "body", "error"),
    [
        ("gzip", gzip.compress(JPEG)[:-20], "bad_encoding"),
        ("compress", b"\x1f\x9d\x90 lzw", "bad_encoding"),
        ("binary", b"<html>gone</html>", "html_instead_of_image"),
        ("gzip", gzip.compress(b"<html>gone</html>"), "html_instead_of_image"),
        ("gzip", gzip.compress(b"sorry"), "not_an_image"),
        ("zstd", packed("zstd", bytes(1 << 24)), "body_too_large"),
        ("br", packed("brotli", bytes(1 << 24)), "body_too_large"),
        ("gzip", b"", "empty_body"),
    ],
)
def test_body_that_is_no_picture_without_its_codings_is_named(site: Site, coding: str, body: bytes, error: str) -> None:
    site.pages["/a"] = ("200 OK", (f"Content-Encoding: {coding}",), body)
    (row,) = fetch(site.url("/a"), max_bytes=1 << 20)
    assert (row.error, row.http_status) == (error, 200)


def test_remedy_of_a_false_coding_speaks_of_the_server_and_not_of_tables() -> None:
    assert "Content-Encoding" in remedy("bad_encoding", "failed_to_download")
    assert "iconv" not in remedy("bad_encoding", "failed_to_download")
    assert "iconv" in remedy("bad_encoding")
    assert "headers_too_large" in REMEDIES


async def _one_line(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 1_000_000 + b"\r\nContent-Length: 3\r\n\r\nabc")


async def _without_end(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-A: " + b"a" * 1000 + b"\r\n")
        await writer.drain()


async def _interim(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    writer.write((b"HTTP/1.1 103 Early Hints\r\nX-A: " + b"a" * 1000 + b"\r\n\r\n") * 500)
    writer.write(head("200 OK", len(JPEG)) + JPEG)


def test_headers_of_a_megabyte_are_named_for_what_they_are_and_asked_for_once(site: Site) -> None:
    lines = tuple(f"X-{n}: {'a' * 1000}" for n in range(1000))
    site.pages |= {
        "/line": _one_line,
        "/lines": ("200 OK", lines, JPEG),
        "/refusal": ("503 Busy", lines, b""),
        "/count": ("200 OK", tuple(f"X-{n}: a" for n in range(30_000)), JPEG),
        "/without-end": _without_end,
        "/interim": _interim,
        "/location": ("302 Found", (f"Location: /ok?{'a' * 150_000}",), b""),
    }
    for row in fetch(*map(site.url, site.pages), retries=2):
        assert (row.error, row.attempts) == ("headers_too_large", 1), row.url
    site.pages["/long"] = ("200 OK", lines[:200], JPEG)
    assert fetch(site.url("/long"))[0].body == JPEG


def test_interim_head_before_a_broken_connection_is_no_answer(site: Site) -> None:
    async def early(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await writer.drain()
        raise ConnectionError

    site.pages["/early"] = early
    (row,) = fetch(site.url("/early"))
    assert (row.error, row.http_status) == ("connection_reset", None)
