"""Codings of bodies: each that is listed is undone, whole; false labels are seen through; bombs stay within bounds."""

from __future__ import annotations

import gzip
import random
import time
import zlib
from collections.abc import Callable

import pyarrow as pa
import pytest

from curate.readers.codings import CodingError, UnpackedTooLargeError, undo_codings

PLAIN = b"\xff\xd8\xff" + random.Random(5).randbytes(50_000) + b"the end" * 5000
MOST = 1 << 20


def is_jpeg(body: bytes) -> bool:
    return body.startswith(b"\xff\xd8\xff")


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def brotli(data: bytes) -> bytes:
    return bytes(pa.compress(data, "brotli", asbytes=True))


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def members(pack: Callable[[bytes], bytes]) -> bytes:
    return b"".join(pack(PLAIN[at : at + 20_000]) for at in range(0, len(PLAIN), 20_000))


def chunks(data: bytes, signature: str = "") -> bytes:
    pieces = [data[at : at + 8192] for at in range(0, len(data), 8192)] + [b""]
    return b"".join(f"{len(piece):x}{signature}\r\n".encode() + piece + b"\r\n" for piece in pieces)


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


@pytest.mark.parametrize(
    ("listed", "body"),
    [
        ("gzip", gzip.compress(PLAIN)),
        ("X-GZIP", gzip.compress(PLAIN)),
        ("gzip", members(gzip.compress)),
        ("gzip", gzip.compress(PLAIN) + gzip.compress(b"")),
        ("gzip", gzip.compress(b"") + gzip.compress(PLAIN)),
        ("gzip", gzip.compress(PLAIN) + bytes(512)),
        ("gzip", gzip.compress(PLAIN) + b"\r\n"),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", raw(PLAIN)),
        ("br", brotli(PLAIN)),
        ("br", members(brotli)),
        ("zstd", zstd(PLAIN)),
        ("zstd", members(zstd)),
        ("zstd", SKIPPABLE + zstd(PLAIN)),
        ("gzip, gzip", gzip.compress(gzip.compress(PLAIN))),
        ("deflate,br ,  gzip", gzip.compress(brotli(zlib.compress(PLAIN)))),
        ("identity, zstd", zstd(PLAIN)),
        ("gzip;q=1.0", gzip.compress(PLAIN)),
        ('"gzip"', gzip.compress(PLAIN)),
        ("aws-chunked", chunks(PLAIN, ";chunk-signature=" + "0" * 64)),
        ("aws-chunked", chunks(PLAIN)[:-2] + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"),
        ("gzip,aws-chunked", chunks(gzip.compress(PLAIN))),
    ],
)
def test_every_coding_that_is_listed_is_undone_with_all_its_members(listed: str, body: bytes) -> None:
    assert undo_codings(body, listed, MOST, lambda body: False) == PLAIN


@pytest.mark.parametrize(
    "listed",
    [None, "", "identity", "none", "aws-chunked", "binary", "UTF-8", "utf-8, 8bit", "image/jpeg", "gzip", "x-gzip",
     "deflate", "br", "zstd", "gzip, br", "compress", "no such thing"],
)  # fmt: skip
def test_bytes_that_are_plainly_what_is_wanted_are_taken_whatever_is_said_of_them(listed: str | None) -> None:
    assert undo_codings(PLAIN, listed, MOST, is_jpeg) == PLAIN


@pytest.mark.parametrize(
    ("listed", "body"),
    [
        ("gzip, br", gzip.compress(PLAIN)),
        ("br, gzip", gzip.compress(PLAIN)),
        ("gzip, gzip", gzip.compress(PLAIN)),
        ("aws-chunked,gzip", gzip.compress(PLAIN)),
        ("gzip,aws-chunked", gzip.compress(PLAIN)),
        ("binary, gzip", gzip.compress(PLAIN)),
        ("deflate", gzip.compress(PLAIN)),
        ("gzip", zlib.compress(PLAIN)),
        ("br", gzip.compress(PLAIN)),
        ("gzip", zstd(PLAIN)),
    ],
)
def test_coding_that_is_said_and_not_borne_hides_none_that_is(listed: str, body: bytes) -> None:
    assert undo_codings(body, listed, MOST, is_jpeg) == PLAIN


@pytest.mark.parametrize(
    ("listed", "body", "said"),
    [
        ("gzip", gzip.compress(PLAIN)[:-4], "gzip"),
        ("gzip", gzip.compress(PLAIN) + gzip.compress(PLAIN)[:-9], "gzip"),
        ("gzip", gzip.compress(PLAIN)[:-8] + bytes(8), "gzip"),
        ("deflate", zlib.compress(PLAIN)[:500], "deflate"),
        ("deflate", raw(PLAIN)[:500], "deflate"),
        ("br", brotli(PLAIN)[:500], "br"),
        ("zstd", zstd(PLAIN)[:500], "zstd"),
        ("zstd", zstd(PLAIN) + zstd(PLAIN)[:500], "zstd"),
        ("aws-chunked", chunks(PLAIN)[:500], "aws-chunked"),
        ("gzip", b"sorry", "gzip"),
        ("compress", b"\x1f\x9d\x90 lzw", "compress"),
        ("binary", b"sorry", "binary"),
        ("gzip," * 9, PLAIN, "9 codings"),
    ],
)
def test_body_that_is_cut_or_of_no_known_coding_is_refused_by_its_name(listed: str, body: bytes, said: str) -> None:
    with pytest.raises(CodingError, match=said):
        undo_codings(body, listed, MOST, lambda body: False)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw, brotli, zstd])
def test_body_that_unpacks_beyond_the_bound_is_refused_and_one_at_the_bound_is_not(pack: Callable[..., bytes]) -> None:
    listed = {gzip.compress: "gzip", brotli: "br", zstd: "zstd"}.get(pack, "deflate")
    assert undo_codings(pack(PLAIN), listed, len(PLAIN), is_jpeg) == PLAIN
    with pytest.raises(UnpackedTooLargeError, match=listed):
        undo_codings(pack(PLAIN), listed, len(PLAIN) - 1, is_jpeg)
    with pytest.raises(UnpackedTooLargeError, match=listed):
        undo_codings(pack(bytes(1 << 26)), listed, MOST, is_jpeg)


def test_bombs_of_many_members_or_many_layers_end_soon() -> None:
    start = time.process_time()
    for listed, body in (
        ("gzip", gzip.compress(b"") * 200_000),
        ("aws-chunked", b"1\r\na\r\n" * 300_000),
        ("gzip, gzip, gzip", gzip.compress(gzip.compress(gzip.compress(bytes(1 << 26), 9), 9), 9)),
    ):
        with pytest.raises((CodingError, UnpackedTooLargeError)):
            undo_codings(body, listed, MOST, lambda body: False)
    assert time.process_time() - start < 8


def test_empty_body_is_empty_whatever_is_said_of_it() -> None:
    assert undo_codings(b"", "gzip", MOST, lambda body: False) == b""
