"""Read the structure of image files block by block: frames, canvas, and whether the end is there.

No pixel is decoded here and every walk ends in time that is linear in the file, whatever the file claims.
"""

import io
import re
import struct
import zlib
from dataclasses import dataclass

from PIL import TiffImagePlugin

_FRAMES = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = 0xC2
_SCAN = 0xDA
_NEEDED = (0xC4, 0xDB, 0xDD, 0xFE)
"""Huffman and quantisation tables, the restart interval, and comments."""


_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
"""A marker that ends a scan or has a body: none of stuffing, restarts, start of image."""
_END = 0xD9

_PNG_ASIDE = (b"tRNS", b"eXIf", b"acTL")
_PNG_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND", *_PNG_ASIDE, b"fcTL", b"fdAT")


@dataclass(frozen=True)
class JpegFrame:
    """An ordinary JPEG's size as stored, in pixels; `bare` means that its header holds nothing else that may matter.

    `scanned_once`: the first scan holds the whole picture, and a decoder reads no other.
    """

    width: int
    height: int
    bare: bool
    scanned_once: bool


def jpeg_frame(data: bytes) -> JpegFrame | None:
    """Read the header of an ordinary JPEG: 8 bits, grey or three colours, Huffman codes (T.81, annex B).

    None for others, and for odd structure. It is `bare` without APPn segments other than JFIF's, which may hold an
    orientation, a second picture, or damage for which Pillow refuses the file.
    """
    at, bare, frame, whole = 2, True, None, b""
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SCAN:
            return JpegFrame(*frame, bare, data[at + 4 : at + 5] == whole) if frame else None
        if length < 2 or (marker in _FRAMES and frame):
            return None
        if marker in _FRAMES:
            segment = data[at + 4 : at + 2 + length]
            frame = _ordinary(segment)
            if frame is None:
                return None
            whole = segment[5:6] if marker != _PROGRESSIVE else b""
        elif 0xE0 <= marker <= 0xEF:
            bare &= marker == 0xE0 and length >= 16 and data.startswith(b"JFIF\0", at + 4)
        elif marker not in _NEEDED:
            return None
        at += 2 + length
    return None


def _ordinary(segment: bytes) -> tuple[int, int] | None:
    """(width, height) of a frame's header of 8 bits and one or three components, each in place."""
    if len(segment) < 6 or segment[0] != 8 or segment[5] not in (1, 3) or len(segment) != 6 + 3 * segment[5]:
        return None
    height, width = struct.unpack_from(">HH", segment, 1)
    return width, height


def jpeg_scans(data: bytes) -> int:
    """Scans of a JPEG up to its end marker, found as a decoder finds them (T.81, B.1.1.2): past whatever is no marker.

    A decoder goes over the picture once for each: a file of kilobytes can ask for that a thousand times.
    """
    scans, at = 0, 0
    while found := _MARKER.search(data, at):
        at, marker = found.end(), data[found.start(1)]
        if marker == _END:
            break
        scans += marker == _SCAN
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return scans


def without_notes(data: bytes) -> bytes:
    """The chunks of a PNG that its picture, its turn and its frames are made of (PNG, third edition, section 5.6).

    What stands beside (profiles, texts, dates) may be of any size, or damaged, and a decoder would give up for it. From
    the first chunk that is none, all is left as it is.
    """
    kept, from_, at = [], 0, 8
    while at + 12 <= len(data) and (name := data[at + 4 : at + 8]).isalpha():
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        if name not in _PNG_NEEDED or (name in _PNG_ASIDE and not _is_sound(data[at:end], data[25])):
            kept.append(data[from_:at])
            from_ = end
        at = end
    return b"".join((*kept, data[from_:])) if kept else data


def _is_sound(chunk: bytes, colour_type: int) -> bool:
    """Whether a chunk is what was written, and one transparent colour has the values that the colour type asks for."""
    name, asked = chunk[4:8], {0: 2, 2: 6}.get(colour_type)
    fits = name != b"tRNS" or asked in (None, len(chunk) - 12)
    return fits and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def gif_frames(data: bytes, bound: int) -> int:
    """Images in a GIF, 1 to `bound` (GIF89a, appendix A); a cut tail ends the count."""
    frames, at = 0, 13 + _colour_table(data, 10)
    while frames < bound and at < len(data):
        kind = data[at]
        if kind == 0x2C:
            frames += 1
            at = _after_sub_blocks(data, at + 11 + _colour_table(data, at + 9))
        elif kind == 0x21:
            at = _after_sub_blocks(data, at + 2)
        else:
            break
    return max(1, frames)


def tiff_pages(data: bytes, bound: int) -> int:
    """Pages of a TIFF or BigTIFF, 1 to `bound` (TIFF 6.0, section 2); a loop or a wild offset ends the count."""
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    count_code, entry, link_code, at = ("Q", 20, "Q", 8) if big else ("H", 12, "I", 4)
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack_from(order + link_code, data, at)
        while offset and offset not in seen and len(seen) < bound:
            (entries,) = struct.unpack_from(order + count_code, data, offset)
            seen.add(offset)
            link_at = offset + struct.calcsize(count_code) + entry * entries
            (offset,) = struct.unpack_from(order + link_code, data, link_at)
    except (struct.error, OverflowError):
        pass
    return max(1, len(seen))


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP's canvas from its first chunk (RFC 9649, sections 2.5 to 2.7); None if cut or odd."""
    chunk = data[12:16]
    if chunk == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L" and len(data) >= 25:
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def is_cut_short(data: bytes, name: str) -> bool:
    """Whether a file of format `name` that failed to decode lacks its end (a guess: ask only after a failure)."""
    tail = data[-64:].rstrip(b"\0\r\n ")
    if name == "JPEG":
        return not tail.endswith(b"\xff\xd9")
    if name == "PNG":
        return b"IEND" not in data[-64:]
    if name == "GIF":
        return not tail.endswith(b";")
    if name == "WEBP":
        return len(data) < 30 or int.from_bytes(data[4:8], "little") + 8 > len(data)
    if name == "BMP":
        return len(data) < 26 or int.from_bytes(data[2:6], "little") > len(data)
    if name == "AVIF":
        return _boxes_end(data) > len(data)
    return _tiff_end(data) > len(data)


def _colour_table(data: bytes, at: int) -> int:
    flags = data[at] if at < len(data) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1


def _boxes_end(data: bytes) -> int:
    """Where the chain of ISO base media boxes says that the file ends."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        at = len(data) if size < 8 else at + size
    return at + 8 if at < len(data) else at


def _tiff_end(data: bytes) -> int:
    """Where the last strip or tile of the first page ends; past the file's end if the directory itself does."""
    try:
        tags = TiffImagePlugin.TiffImageFile(io.BytesIO(data)).tag_v2
        offsets, sizes = (
            (tags.get(273) or tags.get(324) or ()),
            (tags.get(279) or tags.get(325) or ()),
        )
        ends = [int(offset) + int(size) for offset, size in zip(offsets, sizes, strict=False)]
        return max(ends, default=len(data))
    except Exception:  # noqa: BLE001 - hostile bytes make the parser raise nearly anything
        return len(data) + 1
