"""Which pixels are transparent, and what lies below them: PNG's one colour, palettes, alpha of all kinds."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from odd_images import BLUE, GREEN, WHITE, chunk, png, quarters, saved, tiff
from PIL import Image, ImageDraw

from curate.image.files import decode
from curate.image.scaled import scaled_image, scaled_pixels


def pixels(data: bytes) -> list[tuple[int, ...]]:
    """The first row of what is decoded."""
    found = decode(data)
    assert found.image is not None, (found.error, found.detail)
    return [found.image.getpixel((x, 0)) for x in range(found.image.width)]  # type: ignore[misc]


def grey(*levels: int) -> list[tuple[int, ...]]:
    return [(level,) * 3 for level in levels]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_parts_lie_on_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    kind = "TIFF" if mode == "PA" else "PNG"
    found = decode(saved(image.convert(mode), kind))
    assert found.image is not None
    assert (found.image.getpixel((1, 4)), found.image.getpixel((6, 4))) == (
        (0, 0, 0),
        WHITE,
    )


def test_half_transparent_black_is_grey() -> None:
    found = decode(saved(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG"))
    assert found.image is not None and found.image.getpixel((0, 0)) == (127, 127, 127)


def test_palettes_with_and_without_transparency() -> None:
    palette = quarters().quantize(8)
    red = palette.getpixel((3, 3))
    for kind in ("PNG", "GIF"):
        opaque, clear = decode(saved(palette, kind)).image, decode(saved(palette, kind, transparency=red)).image
        assert opaque is not None and clear is not None
        assert opaque.getpixel((3, 3)) == (255, 0, 0)
        assert [clear.getpixel(at) for at in ((3, 3), (36, 3), (3, 16))] == [WHITE, GREEN, BLUE]


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (7, 7, 7)), ("1", 0), ("I;16", 7)])
def test_png_with_one_transparent_colour_shows_white_there(mode: str, colour: int | tuple[int, ...]) -> None:
    image = Image.new(mode, (6, 6), colour)
    found = decode(saved(image, "PNG", transparency=colour))
    assert found.image is not None and found.image.getpixel((2, 2)) == WHITE


@pytest.mark.parametrize(
    ("bits", "row", "colour", "shown"),
    [
        (1, b"\x40", 0, (255, 255)),
        (1, b"\x40", 1, (0, 255)),
        (2, b"\x1b", 1, (0, 255, 170, 255)),
        (2, b"\x1b", 0xFF01, (0, 255, 170, 255)),  # bits that the samples have not are no part of the colour
        (4, b"\x8f\x30", 8, (255, 255, 51, 0)),
        (8, b"\x80\x10", 0x80, (255, 16)),
        (16, struct.pack(">3H", 0x8000, 0x80FF, 0x00FF), 0x80FF, (128, 255, 1)),
    ],
)
def test_one_grey_of_a_png_is_transparent_at_the_depth_of_its_samples(
    bits: int, row: bytes, colour: int, shown: tuple[int, ...]
) -> None:
    data = png(len(shown), 1, bits=bits, rows=b"\0" + row, more=chunk(b"tRNS", struct.pack(">H", colour)))
    assert pixels(data) == grey(*shown)


def test_one_colour_of_16_bits_is_transparent_where_both_its_bytes_agree() -> None:
    colours = [(0x11AA, 0x22BB, 0x33CC), (0x11AB, 0x22BB, 0x33CC), (0xAA00, 0xBB00, 0xCC00)]
    row = b"\0" + b"".join(struct.pack(">3H", *colour) for colour in colours)
    data = png(3, 1, bits=16, colour=2, rows=row, more=chunk(b"tRNS", struct.pack(">3H", *colours[0])))
    assert pixels(data) == [WHITE, (0x11, 0x22, 0x33), (0xAA, 0xBB, 0xCC)]


def test_one_colour_of_8_bits_is_transparent() -> None:
    row = b"\0" + bytes([1, 2, 3, 1, 2, 4])
    data = png(2, 1, colour=2, rows=row, more=chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert pixels(data) == [WHITE, (1, 2, 4)]


def test_grey_of_a_tiff_is_read_by_its_depth_and_by_which_end_is_white() -> None:
    row = struct.pack("<2H", 0, 0xC800)
    assert pixels(tiff((2, 1), (258, 16), pixels=row)) == grey(0, 199)
    assert pixels(tiff((2, 1), (258, 16), (262, 0), pixels=row)) == grey(255, 56)
    assert pixels(tiff((2, 1), (262, 0), pixels=b"\0\xc8")) == grey(255, 55)
    assert pixels(tiff((2, 1), (258, 12), pixels=b"\x00\x0f\xff")) == grey(0, 255)


def test_samples_that_are_not_known_are_an_unsupported_format_and_no_damage() -> None:
    assert decode(tiff((2, 1), (258, 5), pixels=bytes(9))).error == "unsupported_format"


def heart(colour: tuple[int, int, int], hidden: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """A drawing in one colour on transparency, as icons are."""
    image = Image.new("RGBA", (48, 48), (*hidden, 0))
    ImageDraw.Draw(image).polygon([(24, 44), (4, 16), (14, 4), (24, 12), (34, 4), (44, 16)], (*colour, 255))
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "PNG, palette", "GIF", "PNG, grey", "PNG, one colour"])
def test_white_drawing_lies_on_black_where_it_can_be_seen(kind: str) -> None:
    image = heart((255, 255, 255))
    if kind == "PNG, grey":
        image = image.convert("LA")
    if kind == "PNG, palette":
        image = image.quantize(4)
    if kind == "PNG, one colour":
        data = saved(image.convert("L"), "PNG", transparency=0)
    else:
        data = saved(image, kind.split(",")[0], **({"lossless": True} if kind == "WEBP" else {}))
    found = decode(data).image
    assert found is not None
    assert (found.getpixel((24, 24)), found.getpixel((1, 1))) == ((255, 255, 255), (0, 0, 0))
    assert np.array_equal(scaled_pixels(data, 224), np.asarray(found)), "the trainer sees what the ops see"
    assert scaled_image(data, 224, (9, 9, 9)).getpixel((1, 1)) == (9, 9, 9), "a colour that was asked for is taken"


def test_drawing_that_white_shows_lies_on_white() -> None:
    for colour in ((0, 0, 0), (255, 255, 180), (200, 30, 30), (215, 215, 215)):
        found = decode(saved(heart(colour), "PNG")).image
        assert found is not None and found.getpixel((1, 1)) == WHITE
    for image in (
        Image.new("RGBA", (48, 48), (255, 255, 255, 0)),
        Image.new("RGBA", (48, 48), (255, 255, 255, 128)),
        Image.new("RGBA", (48, 48), (255, 255, 255, 255)),
        heart((255, 255, 255)).resize((12, 12)),  # smaller than any icon: a spacer
    ):
        found = decode(saved(image, "PNG")).image
        assert found is not None and set(found.get_flattened_data()) == {WHITE}
