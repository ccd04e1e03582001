"""Bodies of a web archive's answers: every coding that they bear is undone, and none that a crawler had undone."""

from __future__ import annotations

import gzip
import io
import zlib

import pyarrow as pa
import pytest
from warcs import answer, record

from curate.readers.warc import WarcFault, WarcPage, read_pages

PAGE = b"<html><body><p>The tide table hangs in the porch." + b" Low water is at six." * 40
HALF = len(PAGE) // 2


def brotli(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="brotli", asbytes=True))


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def chunked(data: bytes, size: int = 100) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def read(body: bytes, *headers: str, most: int = 1 << 20, **fields: str) -> WarcPage | WarcFault:
    (found,) = read_pages(io.BytesIO(record(answer(body, "200 OK", "text/html", *headers), **fields)), most)
    return found


def page_of(body: bytes, *headers: str) -> bytes:
    found = read(body, *headers)
    assert isinstance(found, WarcPage), found
    return found.data


@pytest.mark.parametrize(
    ("named", "body"),
    [
        ("gzip", gzip.compress(PAGE)),
        ("x-gzip", gzip.compress(PAGE)),
        ("GZip", gzip.compress(PAGE[:HALF]) + gzip.compress(b"") + gzip.compress(PAGE[HALF:])),
        ("gzip, gzip", gzip.compress(gzip.compress(PAGE))),
        ("gzip, identity", gzip.compress(PAGE)),
        ("deflate", zlib.compress(PAGE)),
        ("deflate", deflate(PAGE)),
        ("br", brotli(PAGE)),
        ("zstd", zstd(PAGE)),
        ("zstd", zstd(PAGE[:HALF]) + zstd(PAGE[HALF:])),
        ("deflate, gzip, br", brotli(gzip.compress(zlib.compress(PAGE)))),
        ("gzip", PAGE),
        ("zstd", PAGE),
        ("br", b"\xef\xbb\xbf" + PAGE),
        ("gzip, gzip", gzip.compress(PAGE)),
        ("UTF-8", PAGE),
        ("text/html", PAGE),
        ("binary", gzip.compress(PAGE)[:0] + PAGE),
        ("br", gzip.compress(PAGE)),
    ],
)
def test_every_coding_that_a_body_bears_is_undone_and_no_other(named: str, body: bytes) -> None:
    for headers in ((f"Content-Encoding: {named}",), tuple(f"Content-Encoding: {one}" for one in named.split(","))):
        assert page_of(body, *headers).removeprefix(b"\xef\xbb\xbf") == PAGE
    assert page_of(chunked(body), f"Content-Encoding: {named}", "Transfer-Encoding: chunked").endswith(PAGE)


def test_chunks_are_put_together_once() -> None:
    assert page_of(chunked(PAGE), "Transfer-Encoding: chunked") == PAGE
    assert page_of(PAGE, "Transfer-Encoding: chunked") == PAGE
    assert page_of(chunked(PAGE).replace(b"\r\n0\r\n", b"\r\n0;x=y\r\n"), "transfer-encoding: Chunked") == PAGE
    assert page_of(chunked(gzip.compress(PAGE)), "Transfer-Encoding: gzip, chunked") == PAGE
    assert page_of(gzip.compress(PAGE), "Transfer-Encoding: chunked", "Content-Encoding: gzip") == PAGE


def test_half_of_a_body_is_no_page() -> None:
    """Neither the packed bytes nor the lengths of chunks are published as a page's text."""
    for body, header in (
        (gzip.compress(PAGE)[:-9], "Content-Encoding: gzip"),
        (gzip.compress(PAGE[:HALF]) + gzip.compress(PAGE[HALF:])[:-9], "Content-Encoding: gzip"),
        (brotli(PAGE)[:-9], "Content-Encoding: br"),
        (zstd(PAGE)[:-9], "Content-Encoding: zstd"),
        (chunked(PAGE)[:-200], "Transfer-Encoding: chunked"),
        (b"\x1f\x8bnothing", "Content-Encoding: gzip"),
        (zstd(PAGE), "Content-Encoding: lzma"),
    ):
        found = read(body, header)
        assert isinstance(found, WarcFault) and found.error == "bad_encoding", (header, found)
        assert found.url and found.detail


def test_body_that_unpacks_beyond_the_limit_is_told_by_name() -> None:
    for named, body in (("gzip", gzip.compress(bytes(9_000_000))), ("zstd", zstd(bytes(9_000_000)))):
        found = read(body, f"Content-Encoding: {named}")
        assert isinstance(found, WarcFault) and found.error == "record_too_large"


def test_page_that_the_crawler_cut_off_says_so() -> None:
    cut = {"WARC-Truncated": "length"}
    found = read(PAGE[:HALF], **cut)
    assert isinstance(found, WarcPage) and (found.data, found.truncated) == (PAGE[:HALF], "length")
    broken = read(gzip.compress(PAGE)[:-9], "Content-Encoding: gzip", **cut)
    assert isinstance(broken, WarcFault) and broken.error == "truncated_record"
    whole = read(PAGE)
    assert isinstance(whole, WarcPage) and whole.truncated is None


def test_headers_come_whole_however_long_folded_or_written() -> None:
    bots = ", ".join(f"somebot-{n:03}: nosnippet" for n in range(5000))
    found = read(PAGE, f"X-Robots-Tag: {bots}", "X-Robots-Tag:\r\n noai")
    assert isinstance(found, WarcPage) and found.notices == {"x_robots_tag": [bots, "noai"]}
    block = b"HTTP/2 200\nContent-Type: text/html; charset=latin1; x=\xe9\n\n" + PAGE
    (found,) = read_pages(io.BytesIO(record(block)))
    assert isinstance(found, WarcPage) and (found.data, found.content_type) == (PAGE, "text/html; charset=latin1; x=é")


def test_address_comes_whole_with_its_bytes_escaped() -> None:
    long = "http://example.org/?" + "x" * 5000 + "&end"
    found = read(PAGE, url=f"<{long}>")
    assert isinstance(found, WarcPage) and found.url == long
    odd = record(answer(PAGE), url="http://example.org/caf#").replace(b"caf#", b"caf\xe9")
    (found,) = read_pages(io.BytesIO(odd))
    assert isinstance(found, WarcPage) and found.url == "http://example.org/caf%E9"
