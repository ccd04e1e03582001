"""Undo the codings of a body that HTTP's `Content-Encoding` lists: bytes to bytes, within a bound.

RFC 9110 (8.4) with gzip (RFC 1952), deflate (in zlib's wrapper, RFC 1950, or in none, RFC 1951), br (RFC 7932), zstd
(RFC 8878), and the pieces of `chunked` (RFC 9112, 7.1), of which `aws-chunked` is a form. Servers put words there that
are no codings (a charset, the media type, `binary`), and name codings that were undone on the way or never done.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

import pyarrow as pa

MAX_CODINGS = 8
"""Codings that one body may carry; more is an attack."""

MAX_PIECES = 1 << 16
"""Members, or chunks, that one body may consist of."""

_BLOCK = 1 << 16
_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_NONE = frozenset(("", "identity", "none"))
_PIECE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")


class CodingError(ValueError):
    """A body that its codings cannot be undone of; the message says which one, and what was found."""


class UnpackedTooLargeError(ValueError):
    """A body that is larger than the bound when its codings are undone."""


def undo_codings(body: bytes, listed: str | None, most: int, is_plain: Callable[[bytes], bool]) -> bytes:
    """Undo all codings that a header lists, the last first; of each, all members or frames.

    A word that is no coding, and a coding that the bytes do not bear, is passed over where `is_plain` then says that
    the bytes are what the caller looks for. Raises CodingError where it does not, UnpackedTooLargeError when any of
    the codings gives more than `most` bytes.
    """
    names = [name.partition(";")[0].strip("\"' \t") for name in (listed or "").lower().split(",")]
    names = [name for name in reversed(names) if name not in _NONE]
    if len(names) > MAX_CODINGS:
        raise CodingError(f"{len(names)} codings; at most {MAX_CODINGS} are undone")
    passed_over = None
    for name in names if body else ():
        try:
            body = _undo(name, body, most)
        except CodingError as err:
            passed_over = passed_over or err
    if passed_over is not None and not is_plain(body):
        raise passed_over
    return body


def _undo(name: str, body: bytes, most: int) -> bytes:
    undo = _DECODERS.get(name)
    if undo is None:
        raise CodingError(f"{name[:40]!r} is no coding that is known here; the bytes start with {body[:8]!r}")
    if body.startswith((_GZIP, _ZSTD)):  # by what it is, where its name says another
        undo = _inflate if body.startswith(_GZIP) else _unzstd
    try:
        plain = undo(body, most)
    except (zlib.error, OSError, ValueError) as err:
        raise CodingError(f"said to be {name}, and is not, or is cut off: {err}") from None
    if len(plain) > most:
        raise UnpackedTooLargeError(f"more than {most} bytes when its {name} is undone")
    return plain


def _inflate(body: bytes, most: int) -> bytes:
    """All members of gzip or zlib; what follows the last and is no member is passed over, as browsers do."""
    plain: list[bytes] = []
    size = at = 0
    for _ in range(MAX_PIECES):
        member = zlib.decompressobj(47)
        while not member.eof and at < len(body):
            # In blocks, since what follows a member is copied each time.
            block = body[at : at + _BLOCK]
            plain.append(member.decompress(block, most + 1 - size))
            size += len(plain[-1])
            if size > most:
                return b"".join(plain)
            at += len(block) - len(member.unused_data)
        if not member.eof:
            raise zlib.error("the end is missing")
        if not body.startswith(_GZIP, at):
            return b"".join(plain)
    raise ValueError(f"more than {MAX_PIECES} members")


def _inflate_raw(body: bytes, most: int) -> bytes:
    """`deflate` is sent with zlib's wrapper and without."""
    try:
        return _inflate(body, most)
    except zlib.error:
        stream = zlib.decompressobj(-15)
        plain = stream.decompress(body, most + 1)
        if len(plain) <= most and not stream.eof:
            raise
        return plain


def _unzstd(body: bytes, most: int) -> bytes:
    return _read(body, most, "zstd")


def _unbrotli(body: bytes, most: int) -> bytes:
    return _read(body, most, "brotli")


def _read(body: bytes, most: int, codec: str) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(body), codec) as stream:
        return bytes(stream.read(most + 1))


def _unchunk(body: bytes, most: int) -> bytes:
    """The data of all chunks up to the empty one, which must be there."""
    pieces: list[bytes] = []
    at = 0
    for _ in range(MAX_PIECES):
        found = _PIECE.match(body, at)
        if found is None:
            raise ValueError(f"no chunk's length at byte {at}")
        length, at = int(found[1], 16), found.end()
        if not length:
            return b"".join(pieces)
        pieces.append(body[at : at + length])
        if len(pieces[-1]) < length:
            raise ValueError(f"{len(pieces[-1])} bytes of a chunk of {length}")
        at += length
        at += len(b"\r\n") if body.startswith(b"\r\n", at) else body.startswith(b"\n", at)
    raise ValueError(f"more than {MAX_PIECES} chunks")


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _inflate_raw,
    "br": _unbrotli,
    "zstd": _unzstd,
    "chunked": _unchunk,
    "aws-chunked": _unchunk,
}
