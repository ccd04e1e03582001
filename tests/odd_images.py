"""Odd image files, each with the name by which it is refused, or None: one list for all who open strangers' images."""

from __future__ import annotations

import gzip
import io
import struct
import zlib

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
KINDS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""By EXIF orientation, how an upright picture is stored."""


def photo(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Smooth coloured noise, the way photographs compress."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def quarters(mode: str = "RGB") -> Image.Image:
    """40 x 20: red top left, green top right, blue bottom left, white bottom right."""
    image = Image.new("RGB", (40, 20), WHITE)
    image.paste(RED, (0, 0, 20, 10))
    image.paste(GREEN, (20, 0, 40, 10))
    image.paste(BLUE, (0, 10, 20, 20))
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    """An EXIF block of one tag."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def chunk(name: bytes, body: bytes, crc: int | None = None) -> bytes:
    """A chunk of a PNG."""
    return (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) if crc is None else crc)
    )


def png(width: int, height: int, bits: int = 8, colour: int = 0, rows: bytes = b"", more: bytes = b"") -> bytes:
    """A PNG written by hand, so that its header can lie; `more` are chunks before the pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rescanned(jpeg: bytes, times: int) -> bytes:
    """A JPEG whose last scan is there so many times more."""
    last, end = jpeg.rindex(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    return jpeg[:end] + jpeg[last:end] * times + jpeg[end:]


def tiff(size: tuple[int, int], *tags: tuple[int, int], pixels: bytes = b"") -> bytes:
    """A little-endian TIFF written by hand: grey of 8 bits in one strip, uncompressed, unless `tags` say otherwise."""
    width, height = size
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 278: height, 279: len(pixels)} | dict(tags)
    entries.setdefault(324 if 322 in entries else 273, 14 + 12 * (len(entries) + 1))
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + pixels


def webp_canvas(width: int, height: int) -> bytes:
    """A WebP that is a canvas and nothing on it."""
    body = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def segments(*bodies: tuple[int, bytes]) -> bytes:
    """JPEG segments: marker and body."""
    return b"".join(bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body for marker, body in bodies)


def with_segments(jpeg: bytes, *bodies: tuple[int, bytes]) -> bytes:
    """A JPEG with these segments at its beginning."""
    return jpeg[:2] + segments(*bodies) + jpeg[2:]


def late_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG whose EXIF stands behind 130 kB of other blocks, the first an APP1 of the most that fits."""
    far = (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000))
    return with_segments(jpeg, far, (0xE2, bytes(65_000)), (0xE1, exif(orientation).tobytes()))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG with these chunks behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


PHOTO = saved(photo(160, 120), "JPEG", quality=90)
FRAME = PHOTO.index(b"\xff\xc0")
EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 20
%%EndComments
0 0 20 20 rectfill
%%EOF
"""
ANIMATED: dict[str, object] = {"save_all": True, "append_images": [photo(40, 20, seed) for seed in range(3)]}
RAMP = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
RGB_16 = (b"\0" + struct.pack(">3H", 65535, 32768, 4369) * 4) * 4
HALF_CLEAR = Image.merge("RGBA", (*photo().split(), Image.linear_gradient("L").resize((64, 48))))
PALETTE = quarters().quantize(8)
SPOT = Image.new("L", (64, 64), 0)
SPOT.paste(255, (16, 16, 48, 40))

ACCEPTED = {
    **{f"{kind}": saved(photo(), kind) for kind in KINDS},
    **{f"{kind} turned {n}": saved(quarters(), kind, exif=exif(n)) for kind in KINDS[:2] for n in TURNED_BACK},
    **{f"{kind} turned": saved(quarters(), kind, exif=exif(6)) for kind in ("WEBP", "TIFF", "AVIF")},
    "JPEG turned, late": late_orientation(PHOTO, 6),
    "JPEG turned by XMP": with_segments(
        PHOTO, (0xE1, b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation="6"></x:xmpmeta>')
    ),
    "JPEG turned twice": with_segments(PHOTO, (0xE1, exif(6).tobytes()), (0xE1, exif(3).tobytes())),
    "JPEG with broken EXIF": with_segments(PHOTO, (0xE1, b"Exif\0\0" + b"\xff" * 40)),
    "JPEG with EXIF that is cut": with_segments(PHOTO, (0xE1, b"Exif\0\0MM\0*\0\0\0\x08")),
    "JPEG with fill bytes": PHOTO[:2] + b"\xff\xff\xff" + PHOTO[2:],
    "JPEG, grey": saved(photo().convert("L"), "JPEG"),
    "JPEG, CMYK": saved(photo().convert("CMYK"), "JPEG", quality=95),
    "JPEG, CMYK, turned": saved(photo().convert("CMYK"), "JPEG", quality=95, exif=exif(8)),
    "JPEG, progressive": saved(photo(), "JPEG", progressive=True),
    "JPEG, 4:4:4": saved(photo(), "JPEG", subsampling=0),
    "JPEG, RGB": saved(photo(), "JPEG", keep_rgb=True),
    "JPEG of one pixel": saved(photo(1, 1), "JPEG"),
    "JPEG with bytes behind it": PHOTO + b"\0" * 5000 + b"junk",
    "JPEG with an extra byte between segments": PHOTO[:FRAME] + b"\0" + PHOTO[FRAME:],
    "JPEG with damage within": PHOTO[:-400] + bytes(200) + PHOTO[-200:],
    "JPEG, said to be arithmetic": PHOTO.replace(b"\xff\xc0", b"\xff\xc9", 1),
    "JPEG with a preview": saved(quarters(), "MPO", save_all=True, append_images=[photo(8, 8)]),
    "JPEG in two": PHOTO + PHOTO,
    "JPEG of 30 scans": rescanned(saved(photo(), "JPEG", progressive=True), 20),
    "PNG, 16-bit grey": saved(Image.fromarray(RAMP), "PNG"),
    "PNG, 16-bit grey, one of them clear": saved(Image.fromarray(RAMP), "PNG", transparency=257),
    "PNG, 16-bit colour": png(4, 4, bits=16, colour=2, rows=RGB_16),
    "PNG, black and white": saved(photo().convert("1"), "PNG"),
    "PNG, palette": saved(PALETTE, "PNG"),
    "PNG, palette, one colour clear": saved(PALETTE, "PNG", transparency=PALETTE.getpixel((3, 3))),
    "PNG, palette, half clear": saved(PALETTE, "PNG", transparency=bytes(range(0, 256, 32))),
    "PNG, one colour clear": saved(quarters(), "PNG", transparency=RED),
    "PNG, half clear": saved(HALF_CLEAR, "PNG"),
    "PNG, grey, half clear": saved(HALF_CLEAR.convert("LA"), "PNG"),
    "PNG, 2-bit grey, one of them clear": png(4, 1, bits=2, rows=b"\0\x1b", more=chunk(b"tRNS", b"\0\1")),
    "PNG, 16-bit colour, one of them clear": png(
        4, 4, bits=16, colour=2, rows=RGB_16, more=chunk(b"tRNS", struct.pack(">3H", 65535, 32768, 4369))
    ),
    "PNG, a white drawing on nothing": saved(Image.merge("LA", [Image.new("L", (64, 64), 255), SPOT]), "PNG"),
    "PNG with a profile of 2 MB": with_chunks(
        saved(photo(), "PNG"), chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2_000_000)))
    ),
    "PNG with a note that is damaged": with_chunks(saved(photo(), "PNG"), chunk(b"tEXt", b"a\0bc", crc=0)),
    "PNG with bytes behind it": saved(photo(), "PNG") + b"junk" * 50,
    "TIFF, 16-bit grey": saved(Image.fromarray(RAMP), "TIFF"),
    "TIFF, wide grey in 16 bits": saved(Image.new("I", (8, 8), 40_000), "TIFF"),
    "TIFF, CMYK": saved(photo().convert("CMYK"), "TIFF"),
    "TIFF, palette, half clear": saved(HALF_CLEAR.convert("PA"), "TIFF"),
    "TIFF, fax": saved(photo().convert("1"), "TIFF", compression="group4"),
    "TIFF, turned, deflated": saved(quarters(), "TIFF", exif=exif(5), compression="tiff_adobe_deflate"),
    "WEBP, half clear": saved(HALF_CLEAR, "WEBP", lossless=True),
    "GIF, one colour clear": saved(PALETTE, "GIF", transparency=PALETTE.getpixel((3, 3))),
    **{f"{kind}, animated": saved(quarters(), kind, **ANIMATED) for kind in ("GIF", "WEBP", "PNG", "AVIF", "TIFF")},
}
"""What is opened by all."""

REFUSED = {
    "nothing": (b"", "empty_file"),
    "zeros": (b"\0" * 1000, "not_an_image"),
    "blanks": (b"   \n", "not_an_image"),
    "JSON": (b'{"error": "not found"}', "not_an_image"),
    "RSS": (b"<?xml version='1.0'?><rss></rss>", "not_an_image"),
    "PCX": (saved(photo(), "PCX"), "not_an_image"),
    "PPM": (saved(photo(), "PPM"), "not_an_image"),
    "TGA": (saved(photo(), "TGA"), "not_an_image"),
    "JPEG after a newline": (b"\n" + PHOTO, "not_an_image"),
    "page": (b"<!DOCTYPE html><html><body>404</body></html>", "html_instead_of_image"),
    "page with a mark": (b"\xef\xbb\xbf\r\n <html lang=en><svg ></svg></html>", "html_instead_of_image"),
    "page as XML": (b"<?xml version='1.0'?><!DOCTYPE html PUBLIC ''><html xmlns='x'>", "html_instead_of_image"),
    "page of two bytes": ("<html><body>wide</body></html>".encode("utf-16"), "html_instead_of_image"),
    "page with a comment": (b"<!-- hello --><HTML><BODY BGCOLOR=red>", "html_instead_of_image"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'><title>x</title></svg>", "unsupported_format"),
    "SVG as XML": (b"<?xml version='1.0'?>\n<!DOCTYPE svg PUBLIC ''>\n<svg width='1'>", "unsupported_format"),
    "SVG, gzipped": (gzip.compress(b"<svg/>", mtime=0), "unsupported_format"),
    "EPS": (EPS, "unsupported_format"),
    "PDF": (b"%PDF-1.7\n", "unsupported_format"),
    "PSD": (b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(300), "unsupported_format"),
    "ICO": (saved(photo(), "ICO", sizes=[(16, 16)]), "unsupported_format"),
    "JPEG 2000": (saved(photo(), "JPEG2000"), "unsupported_format"),
    "JPEG XL": (b"\xff\x0a" + bytes(50), "unsupported_format"),
    "HEIF": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported_format"),
    "TIFF, float": (saved(Image.new("F", (8, 8), 0.5), "TIFF"), "unsupported_format"),
    "TIFF, 32 bits": (saved(Image.new("I", (8, 8), 1 << 20), "TIFF"), "unsupported_format"),
    "JPEG magic": (b"\xff\xd8\xff", "truncated_image"),
    "PNG magic": (b"\x89PNG\r\n\x1a\n", "truncated_image"),
    "WEBP magic": (b"RIFF", "truncated_image"),
    "GIF magic": (b"GIF89a", "truncated_image"),
    "BMP magic": (b"BM", "truncated_image"),
    "TIFF magic": (b"II*\0", "truncated_image"),
    **{
        f"{kind} cut at {share}": (data[: max(12, int(len(data) * share))], "truncated_image")
        for kind, data in ((kind, saved(photo(160, 120), kind)) for kind in KINDS)
        for share in (0.02, 0.3, 0.7, 0.95)
    },
    "JPEG, progressive, cut": (saved(photo(320, 240), "JPEG", progressive=True, quality=95)[:-300], "truncated_image"),
    "JPEG without its end marker": (PHOTO[:-2], "truncated_image"),
    "JPEG, turned, cut": (late_orientation(PHOTO, 6)[:-300], "truncated_image"),
    "JPEG of 12 bits": (PHOTO[: FRAME + 4] + b"\x0c" + PHOTO[FRAME + 5 :], "unsupported_format"),
    "JPEG, said to be lossless": (PHOTO.replace(b"\xff\xc0", b"\xff\xc3", 1), "decode_error"),
    "JPEG of no height": (PHOTO[: FRAME + 5] + b"\0\0" + PHOTO[FRAME + 7 :], "decode_error"),
    "JPEG with a short JFIF": (PHOTO[:2] + segments((0xE0, b"JFIF\0")) + PHOTO[20:], "decode_error"),
    "JPEG of 120 scans and 36 megapixels": (
        rescanned(saved(Image.new("L", (6000, 6000), 128), "JPEG", progressive=True, quality=30), 120),
        "image_too_costly",
    ),
    "JPEG of 5,000 scans": (rescanned(saved(photo(), "JPEG", progressive=True), 5000), "image_too_costly"),
    "TIFF, a tile too large": (tiff((10, 10), (322, 20_000), (323, 20_000), (325, 0)), "image_too_large"),
    "PNG of no width": (png(0, 1, rows=b"\0"), "decode_error"),
    "PNG, too large": (png(50_000, 50_000), "image_too_large"),
    "PNG, a side too long": (png(30_001, 1), "image_too_large"),
    "PNG, too many pixels": (png(10_000, 10_000), "image_too_large"),
    "PNG, as large as can be said": (png(2**31 - 1, 2**31 - 1), "image_too_large"),
    "WEBP, too large": (webp_canvas(16_384, 16_384), "image_too_large"),
    "GIF, too large": (
        b"GIF89a\xff\xff\xff\xff\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0;",
        "image_too_large",
    ),
    "JPEG, too large": (
        PHOTO[: FRAME + 5] + struct.pack(">HH", 65_000, 65_000) + PHOTO[FRAME + 9 :],
        "image_too_large",
    ),
    "JPEG, a side too long": (
        PHOTO[: FRAME + 5] + struct.pack(">HH", 8, 30_001) + PHOTO[FRAME + 9 :],
        "image_too_large",
    ),
    "JPEG, whole, a side too long": (saved(Image.new("L", (30_001, 1)), "JPEG"), "image_too_large"),
    "JPEG, a little too large": (
        PHOTO[: FRAME + 5] + struct.pack(">HH", 9000, 9950) + PHOTO[FRAME + 9 :],
        "image_too_large",
    ),
}
"""What is refused by all, and the error's name."""
