"""Typefaces: choose fonts for a text's characters, measure and draw their runs.

Letters that change their shape beside others, stand on one another or run from right to left are laid out by HarfBuzz,
through Pillow's raqm, which needs the FriBiDi library of the system; all else by Pillow alone, the same everywhere.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from io import BytesIO
from itertools import groupby
from random import Random
from typing import Any, Final, NamedTuple

from PIL import Image, ImageFont, features

from curate.text.characters import LEFTWARDS, Codes, codes_of, flags_of

Box = tuple[int, int, int, int]

_JOINED_UP: Final = ((0x0900, 0x109F), (0x1780, 0x17FF), (0x1800, 0x18AF))  # of India, south-east Asia and Mongolia
_JOINERS: Final = "\u200c\u200d"
_MISSING: Final = "\U0010ffff"  # in no font, so that it shows what a font draws for what it lacks
_PROBE_PX: Final = 24
_UPRIGHT: Final = (
    *((0x1100, 0x11FF), (0x2E80, 0xA4CF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0xFE30, 0xFE4F)),
    *((0xFF01, 0xFF60), (0xFFE0, 0xFFE7), (0x20000, 0x3FFFF)),
)
_TURNED: Final = frozenset("、。，．：；ー〜～…‥＝｜")
_EM_MIDDLE: Final = 0.38  # of the font's size, above the line: where the middle of Han and kana is
_COLUMN: Final[dict[str, Any]] = {"direction": "ltr", "features": ["vert"]}
_DASHES: Final = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"))


class TypesetError(ValueError):
    """A text that cannot be drawn; `error` is its name: empty_text, needs_shaping, no_glyph."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error = error
        self.detail = detail


class FontRun(NamedTuple):
    """Characters that one font draws in one go; `level` is odd where they run from right to left.

    `upright`: one character of a column, which stands while its line lies on its side.
    """

    text: str
    font: int
    level: int
    upright: bool = False


def can_shape() -> bool:
    """Whether this machine can draw scripts whose letters change their shape."""
    return bool(features.check("raqm"))


def needs_shaping(text: str) -> bool:
    """Whether Pillow alone would not draw a text as it is written."""
    codes = codes_of(text)
    if (flags_of(codes) & LEFTWARDS).any() or any(_between(codes, first, last) for first, last in _JOINED_UP):
        return True
    return any(c in _JOINERS or unicodedata.category(c) == "Mn" for c in set(text) if c > "\u02ff")


def _between(codes: Codes, first: int, last: int) -> bool:
    return bool(((codes >= first) & (codes <= last)).any())


class Fonts:
    """Fonts from the bytes of TrueType or OpenType files; without any, Pillow's own (ASCII letters)."""

    def __init__(self, files: Sequence[bytes] = ()) -> None:
        self._files = list(files) or [_bundled()]
        self._known: dict[str, int] = {}  # a bit a font: some have tens of thousands of characters, there are hundreds
        self._missing: dict[int, bytes] = {}

    def load_size(self, number: int, size_px: int, shaped: bool = False) -> ImageFont.FreeTypeFont:
        """Load a font at a size."""
        return _loaded(self._files[number], size_px, shaped)

    def typeface(
        self, text: str, size_px: int, chance: Random | None = None, columns: bool = False
    ) -> tuple[str, Typeface]:
        """Choose the fonts for a text, and the text as they draw it: dashes made plain if need be.

        First one that lacks the fewest of its characters, of several by chance, then others for what that one lacks.
        `columns`: for lines that run from top to bottom. Raises TypesetError no_glyph for characters that are in no
        font.
        """
        chance = chance or Random(0)
        numbers, lacking = self._order(text, chance)
        if lacking and not (plain := self._order(text.translate(_DASHES), chance))[1]:
            text, (numbers, lacking) = text.translate(_DASHES), plain
        if lacking:
            raise TypesetError("no_glyph", f"no font has: {' '.join(sorted(lacking)[:20])}")
        return text, Typeface(self, tuple(numbers), size_px, columns)

    def _order(self, text: str, chance: Random) -> tuple[list[int], Mapping[str, int]]:
        """Fonts that have the characters of a text together, the one that has most of it first; what none has."""
        left = Counter(character for character in text if not character.isspace())
        numbers: list[int] = []
        while left or not numbers:
            has = [sum(n for c, n in left.items() if self.has_all(number, c)) for number in range(len(self._files))]
            if not max(has) and numbers:
                break
            number = chance.choice([n for n, count in enumerate(has) if count == max(has)])
            numbers.append(number)
            left = Counter({c: n for c, n in left.items() if not self.has_all(number, c)})
        return numbers, left

    def has_all(self, number: int, text: str) -> bool:
        """Whether a font has every character of a text; spaces and what only joins letters need none."""
        return all(c.isspace() or c in _JOINERS or self._with(c) >> number & 1 for c in text)

    def stands_upright(self, number: int, character: str) -> bool:
        """Whether a character stands upright in a column: brackets, stops and strokes if the font has them turned."""
        if not any(first <= ord(character) <= last for first, last in _UPRIGHT):
            return False
        if character not in _TURNED and unicodedata.category(character) not in ("Ps", "Pe", "Pd"):
            return True
        font = self.load_size(number, _PROBE_PX, shaped=True)
        usual, turned = bytes(font.getmask(character)), bytes(font.getmask(character, **_COLUMN))
        # Fonts cut down by others may name other glyphs: a stop that turns into a letter has far more ink.
        return usual != turned and 0.6 < sum(turned) / max(1, sum(usual)) < 1.6

    def _with(self, character: str) -> int:
        """The fonts that have a character, a bit each."""
        if character not in self._known:
            self._known[character] = sum(self._draws(n, character) << n for n in range(len(self._files)))
        return self._known[character]

    def _draws(self, number: int, character: str) -> bool:
        font = self.load_size(number, _PROBE_PX)
        if number not in self._missing:
            self._missing[number] = bytes(font.getmask(_MISSING))
        return bytes(font.getmask(character)) != self._missing[number]


class Typeface:
    """Fonts at one size as if they were one: what the first lacks is drawn in the next."""

    def __init__(self, fonts: Fonts, numbers: tuple[int, ...], size_px: int, columns: bool = False) -> None:
        self._fonts, self._numbers, self._size_px, self.columns = fonts, numbers, size_px, columns
        self._masks: dict[FontRun, tuple[Image.Image, int, int] | None] = {}
        self.space = fonts.load_size(numbers[0], size_px).getlength(" ")

    def runs(self, text: str, level: int) -> Iterator[FontRun]:
        """A text of one level, parted where another font takes over; in columns, what stands upright is by itself."""
        if not self.columns:
            yield from self._sideways(text, level)
            return
        for font, part in groupby(text, self._upright):
            if font is None:
                yield from self._sideways("".join(part), level)
            else:
                yield from (FontRun(character, font, level, upright=True) for character in part)

    def _upright(self, character: str) -> int | None:
        """The font in which a character stands upright."""
        font = self._first(character, self._numbers)
        return font if font is not None and self._fonts.stands_upright(font, character) else None

    def _sideways(self, text: str, level: int) -> Iterator[FontRun]:
        first = 0
        font = self._first(text, self._numbers)
        if font is not None:
            yield FontRun(text, font, level)
            return
        current = self._numbers[0]
        for start, end in cluster_spans(text):
            found = self._first(text[start:end], (current, *self._numbers))
            if found is not None and found != current:
                if start > first:
                    yield FontRun(text[first:start], current, level)
                first, current = start, found
        yield FontRun(text[first:], current, level)

    def _first(self, text: str, numbers: Sequence[int]) -> int | None:
        return next((number for number in numbers if self._fonts.has_all(number, text)), None)

    def length(self, run: FontRun) -> float:
        """The advance of a run, in pixels."""
        font, more = self._drawn_with(run)
        return self._size_px if run.upright else font.getlength(run.text, **more)

    def ink(self, run: FontRun) -> Box | None:
        """The box of a run's ink, from its left end on the line; None without ink. The font's own box is larger."""
        if (found := self._mask(run)) is None:
            return None
        mask, left, top = found
        return left, top, left + mask.width, top + mask.height

    def draw(self, page: Image.Image, place: tuple[int, int], run: FontRun) -> None:
        """Draw a run in white, its left end at `place` on the line."""
        if (found := self._mask(run)) is not None:
            mask, left, top = found
            page.paste(255, (place[0] + left, place[1] + top), mask)

    def _mask(self, run: FontRun) -> tuple[Image.Image, int, int] | None:
        """What a run covers, cut to its ink, and where that lies from its left end on the line."""
        if run not in self._masks:
            self._masks[run] = self._draw_run(run)
        return self._masks[run]

    def _draw_run(self, run: FontRun) -> tuple[Image.Image, int, int] | None:
        font, more = self._drawn_with(run)
        core, (left, top) = font.getmask2(run.text, "L", anchor="ls", **more)
        mask = Image.frombytes("L", core.size, bytes(core))
        box = mask.getbbox()
        if box is None:
            return None
        mask, left, top = mask.crop(box), left + box[0], top + box[1]
        if not run.upright:
            return mask, left, top
        across, up = self._size_px / 2, _EM_MIDDLE * self._size_px
        right = left + mask.width
        return mask.transpose(Image.Transpose.ROTATE_90), round(across + top + up), round(across - up - right)

    def _drawn_with(self, run: FontRun) -> tuple[ImageFont.FreeTypeFont, dict[str, Any]]:
        if run.upright:
            return self._fonts.load_size(run.font, self._size_px, shaped=True), _COLUMN
        if run.level % 2 or needs_shaping(run.text):
            return self._fonts.load_size(run.font, self._size_px, shaped=True), {
                "direction": "rtl" if run.level % 2 else "ltr"
            }
        return self._fonts.load_size(run.font, self._size_px), {}


def cluster_spans(text: str) -> Iterator[tuple[int, int]]:
    """Find begin and end of letters, with all that is joined to them: marks, joiners, consonants written as one."""
    first = 0
    for place in range(1, len(text)):
        joined = is_joined(text[place - 1], text[place])
        if not joined:
            yield first, place
            first = place
    if text:
        yield first, len(text)


def is_joined(before: str, after: str) -> bool:
    """Whether two neighbouring characters are of one letter: marks, joiners, consonants under one another."""
    virama = 9  # the combining class of signs that join consonants
    return (
        after in _JOINERS
        or before in _JOINERS
        or unicodedata.category(after) in ("Mn", "Mc", "Me")
        or unicodedata.combining(before) == virama
    )


@cache
def _bundled() -> bytes:
    typeface = ImageFont.load_default(_PROBE_PX)
    assert isinstance(typeface, ImageFont.FreeTypeFont) and isinstance(typeface.path, BytesIO), "Pillow lacks FreeType"
    return typeface.path.getvalue()


@lru_cache(maxsize=1024)
def _loaded(file: bytes, size_px: int, shaped: bool) -> ImageFont.FreeTypeFont:
    engine = ImageFont.Layout.RAQM if shaped else ImageFont.Layout.BASIC
    return ImageFont.truetype(BytesIO(file), size_px, layout_engine=engine)
