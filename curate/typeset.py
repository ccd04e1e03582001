"""Pages drawn from text: wrapped lines in some font on some paper, a little turned, blurred and noisy, every box known.

What a page looks like is drawn from a generator that the caller keys, so that one text gives one page for ever.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from random import Random
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from curate.characters import LEFTWARDS, codes_of, flags_of
from curate.page_words import split

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Background = Literal["plain", "gradient", "blotches"]
Colour = tuple[int, int, int]

_MARGIN: Final = 0.06  # of the page's shorter side, before it is turned
_LINE_HEIGHTS: Final = (1.2, 1.6)  # of the font's size
_MOST_DEGREES: Final = 3.0
_MOST_BLUR_PX: Final = 1.0
_MOST_NOISE: Final = 40.0
_BLOTCHES: Final = 9  # a side, of the grid that they are blown up from
_JOINED_UP: Final = ((0x0900, 0x109F), (0x1780, 0x17FF), (0x1800, 0x18AF))  # of India, south-east Asia and Mongolia
_NARROWEST: Final = 0.35  # of the font's size: letters are wider on average, which bounds what a page can hold
_MISSING: Final = "\U0010ffff"  # in no font, so that it shows what a font draws for what it lacks
_DASHES: Final = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"))


class TypesetError(ValueError):
    """A text that cannot be drawn; `error` is its name: empty_text, needs_shaping, no_glyph."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error = error
        self.detail = detail


@dataclass(frozen=True)
class Style:
    """How a page looks: sizes in pixels, `degrees` anticlockwise, `noise` the most that a pixel is off by.

    `seed` is what its background and noise are drawn from.
    """

    font_px: int
    line_px: int
    ink: Colour
    paper: Colour
    background: Background
    degrees: float
    blur_px: float
    noise: float
    seed: int


@dataclass(frozen=True)
class Sheet:
    """A drawn page.

    `text`: what stands on it, line by line. `words`: N of them, with `boxes` around their ink, N x (x0, y0, x1, y1) in
    fractions of the page, and the numbers of their `lines`. `share`: of the given words, those that found room.
    """

    image: Image.Image
    text: str
    words: list[str]
    boxes: Floats
    lines: list[int]
    share: float


class _Placed(NamedTuple):
    text: str
    x: int
    line: int
    spaced: bool


class Fonts:
    """Typefaces from the bytes of TrueType or OpenType files; without any, Pillow's own (ASCII letters)."""

    def __init__(self, files: Sequence[bytes] = ()) -> None:
        self._files = list(files) or [_bundled()]
        self._known: dict[tuple[int, str], bool] = {}

    def sized(self, number: int, size_px: int) -> ImageFont.FreeTypeFont:
        """A typeface at a size."""
        return _loaded(self._files[number], size_px)

    def fitting(self, text: str) -> tuple[str, list[int]]:
        """The typefaces that have every character of a text, dashes made plain if need be, and the text for them.

        Raises TypesetError no_glyph when there is none.
        """
        for said in (text, text.translate(_DASHES)):
            lacking = [[c for c in sorted(set(said)) if not self._has(n, c)] for n in range(len(self._files))]
            if found := [number for number, missing in enumerate(lacking) if not missing]:
                return said, found
        raise TypesetError("no_glyph", f"no font has all of: {' '.join(min(lacking, key=len)[:20])}")

    def _has(self, number: int, character: str) -> bool:
        if character.isspace():
            return True
        key = number, character
        if key not in self._known:
            font = self.sized(number, 24)
            self._known[key] = bytes(font.getmask(character)) != bytes(font.getmask(_MISSING))
        return self._known[key]


@cache
def _bundled() -> bytes:
    typeface = ImageFont.load_default(24)
    assert isinstance(typeface, ImageFont.FreeTypeFont) and isinstance(typeface.path, BytesIO), "Pillow lacks FreeType"
    return typeface.path.getvalue()


@lru_cache(maxsize=64)
def _loaded(file: bytes, size_px: int) -> ImageFont.FreeTypeFont:
    # The basic layout is the same on every machine; the other needs libraries that may be there or not.
    return ImageFont.truetype(BytesIO(file), size_px, layout_engine=ImageFont.Layout.BASIC)


def drawn_from(chance: Random, font_px: tuple[int, int], wear: float) -> Style:
    """A style by chance: a size from `font_px`, and what time does to a page, as strong as `wear`, 0 to 1."""
    size = chance.randint(*font_px)
    dark, light = (chance.randint(0, 70), chance.randint(0, 70), chance.randint(0, 70)), chance.randint(215, 255)
    tint = [chance.randint(0, 25) for _ in range(3)]
    return Style(
        font_px=size,
        line_px=round(size * chance.uniform(*_LINE_HEIGHTS)),
        ink=dark if wear else (0, 0, 0),
        paper=(light - tint[0], light - tint[1], light - tint[2]) if wear else (255, 255, 255),
        background=chance.choice(("plain", "gradient", "blotches")) if wear else "plain",
        degrees=wear * chance.uniform(-_MOST_DEGREES, _MOST_DEGREES),
        blur_px=wear * chance.uniform(0, _MOST_BLUR_PX),
        noise=wear * chance.uniform(0, _MOST_NOISE),
        seed=chance.getrandbits(64),
    )


def prepared(text: str, style: Style, page_px: tuple[int, int]) -> str:
    """As much of a text as a page could hold. Raises TypesetError empty_text, needs_shaping.

    needs_shaping: scripts that are written from right to left or whose letters change their shape, which Pillow alone
    does not draw as they are written.
    """
    room = page_px[0] * page_px[1] // (_NARROWEST * style.font_px * style.line_px)
    fit = unicodedata.normalize("NFC", text[: math.ceil(room)])
    codes = codes_of(fit)
    if (flags_of(codes) & LEFTWARDS).any() or any(((codes >= a) & (codes <= b)).any() for a, b in _JOINED_UP):
        raise TypesetError("needs_shaping", f"the text begins {fit[:40]!r}")
    if not fit.strip():
        raise TypesetError("empty_text", "nothing to draw")
    return fit


def typeset(text: str, font: ImageFont.FreeTypeFont, style: Style, page_px: tuple[int, int]) -> Sheet:
    """Draw as much of `text` as one page holds; lines of the text begin new lines, empty ones leave one free."""
    width, height = page_px
    turned = math.sin(math.radians(abs(style.degrees)))
    margin = round(_MARGIN * min(page_px) + turned * max(page_px) / 2)
    rows = max(0, (height - 2 * margin) // style.line_px)
    placed = list(_wrapped(text, font, width - 2 * margin, rows))
    mask = Image.new("L", page_px)
    pen = ImageDraw.Draw(mask)
    boxes = np.zeros((len(placed), 4))
    for number, word in enumerate(placed):
        place = (margin + word.x, margin + round((word.line + 0.8) * style.line_px))
        pen.text(place, word.text, fill=255, font=font, anchor="ls")
        boxes[number] = np.array(_ink(word.text, font)) + np.array(place * 2)
    if style.degrees:
        mask = mask.rotate(style.degrees, Image.Resampling.BICUBIC)
    fractions = _turned(boxes, style.degrees, page_px) / (page_px * 2)
    numbers = {line: n for n, line in enumerate(dict.fromkeys(word.line for word in placed))}
    return Sheet(
        _inked(mask, style),
        _text_of(placed),
        [word.text for word in placed],
        np.clip(fractions, 0, 1).astype(np.float32),
        [numbers[word.line] for word in placed],
        sum(len(word.text) for word in placed) / max(1, sum(not c.isspace() for c in text)),
    )


def _ink(word: str, font: ImageFont.FreeTypeFont) -> tuple[int, int, int, int]:
    """The box of a word's ink, from its left end on the line; the font's own box reaches to the next word."""
    mask, (left, top) = font.getmask2(word, "L", anchor="ls")
    x0, y0, x1, y1 = mask.getbbox() or (0, 0, 0, 0)
    return x0 + left, y0 + top, x1 + left, y1 + top


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int, rows: int) -> Iterator[_Placed]:
    """Words with the places of their left ends, line after line, until the page is full."""
    space = font.getlength(" ")
    row = 0
    for paragraph in text.split("\n"):
        right = 0.0
        for first, end in split(paragraph):
            spaced = first > 0 and paragraph[first - 1].isspace()
            for piece in _broken(paragraph[first:end], font, width):
                advance = font.getlength(piece)
                at = right + (space if spaced and right else 0)
                if right and at + advance > width:
                    row, at = row + 1, 0.0
                if row >= rows:
                    return
                yield _Placed(piece, round(at), row, spaced and at > 0)
                right, spaced = round(at) + advance, False
        row += 1


def _broken(word: str, font: ImageFont.FreeTypeFont, width: int) -> Iterator[str]:
    """A word, in pieces where it is longer than a line."""
    while len(word) > 1 and font.getlength(word) > width:
        fits = next((n for n in range(len(word) - 1, 1, -1) if font.getlength(word[:n]) <= width), 1)
        yield word[:fits]
        word = word[fits:]
    yield word


def _text_of(words: Sequence[_Placed]) -> str:
    parts = []
    for number, word in enumerate(words):
        if number and word.line != words[number - 1].line:
            parts.append("\n")
        parts.append(f" {word.text}" if word.spaced else word.text)
    return "".join(parts)


def _turned(boxes: Doubles, degrees: float, page_px: tuple[int, int]) -> Doubles:
    """The upright boxes around boxes that turn, anticlockwise, about the page's middle."""
    if not degrees:
        return boxes
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = np.array(page_px) / 2
    corners_N42 = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] - middle
    moved_N42 = corners_N42 @ np.array([[cos, -sin], [sin, cos]]) + middle
    return np.hstack([moved_N42.min(axis=1), moved_N42.max(axis=1)])


def _inked(mask: Image.Image, style: Style) -> Image.Image:
    """The page: its ink where the mask is, on its paper, blurred, then noisy."""
    width, height = mask.size
    chance = np.random.Philox(key=style.seed)  # only its raw bits are used: they are the same in every release of numpy
    paper_HW3 = np.asarray(style.paper, np.float32) - _shade(style.background, chance, width, height)[:, :, None]
    cover_HW1 = np.asarray(mask.filter(ImageFilter.GaussianBlur(style.blur_px)), np.float32)[:, :, None] / 255
    page_HW3 = paper_HW3 + cover_HW1 * (np.asarray(style.ink, np.float32) - paper_HW3)
    if style.noise:
        page_HW3 += style.noise * _noise(chance, (height, width, 3))
    return Image.fromarray(np.rint(page_HW3).clip(0, 255).astype(np.uint8))


def _shade(background: Background, chance: np.random.Philox, width: int, height: int) -> Floats:
    """How much darker the paper is, pixel by pixel: H x W."""
    if background == "plain":
        return np.zeros((height, width), np.float32)
    side = 2 if background == "gradient" else _BLOTCHES
    coarse = Image.fromarray(20 + 20 * _noise(chance, (side, side)))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _noise(chance: np.random.Philox, shape: tuple[int, ...]) -> Floats:
    """Numbers from -1 to 1, all as likely."""
    count = math.prod(shape)
    raw = chance.random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count]
    return (raw.reshape(shape).astype(np.float32) / 127.5 - 1).astype(np.float32)


def key_of(seed: int, uid: str) -> Random:
    """The generator of a sample: of the seed and the sample alone."""
    return Random(int.from_bytes(hashlib.blake2b(f"{seed} {uid}".encode(), digest_size=16).digest(), "big"))
