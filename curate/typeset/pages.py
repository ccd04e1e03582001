"""Draw pages: wrapped lines on some paper, a little turned, blurred and noisy, every box known.

What a page looks like is drawn from a generator that the caller keys, so that one text gives one page for ever.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from curate.text.characters import codes_of, script_of
from curate.typeset.fonts import Box, FontRun, Typeface, TypesetError, can_shape, needs_shaping
from curate.typeset.lines import Word, break_lines

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
_NARROWEST: Final = 0.25  # of the font's size: letters are wider on average, which bounds what a page can hold
_UNSEEN: Final = dict.fromkeys(
    code
    for first, last in (
        *((0x00, 0x08), (0x0E, 0x1B), (0x7F, 0x84), (0x86, 0x9F)),
        *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x200B, 0x200B), (0x200E, 0x200F), (0x202A, 0x202E)),
        *((0x2060, 0x206F), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xE0000, 0xE0FFF)),
    )
    for code in range(first, last + 1)
)
"""Controls, soft hyphens, marks of direction and of how a character is drawn; those that join or part letters stay."""


@dataclass(frozen=True)
class Style:
    """Style of a page: sizes in pixels, `degrees` anticlockwise, `noise` the most that a pixel is off by.

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


class _Drawn(NamedTuple):
    """A word on the page: what stands before it in the text, its line, its box and the places of its runs."""

    text: str
    lead: str
    line: int
    box: Box
    runs: tuple[tuple[tuple[int, int], FontRun], ...]


def draw_style(chance: Random, font_px: tuple[int, int], wear: float) -> Style:
    """Draw a style by chance: a size from `font_px`, and what time does to a page, as strong as `wear`, 0 to 1."""
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


def clean_text(text: str) -> str:
    """Clean a text for drawing: composed, without what only tells a program how to draw it."""
    return unicodedata.normalize("NFC", text).translate(_UNSEEN)


def fits_columns(text: str) -> bool:
    """Whether a text may run from top to bottom: Chinese and Japanese."""
    return script_of(codes_of(text)) in ("Hani", "Jpan")


def prepare_text(text: str, style: Style, page_px: tuple[int, int], columns: bool = False) -> str:
    """Cut a text to what a page could hold. Raises TypesetError empty_text, needs_shaping.

    needs_shaping: scripts that are written from right to left or whose letters change their shape, and `columns`, on a
    machine where Pillow cannot lay them out.
    """
    room = page_px[0] * page_px[1] // (_NARROWEST * style.font_px * style.line_px)
    fit = text[: math.ceil(room)]
    if (columns or needs_shaping(fit)) and not can_shape():
        raise TypesetError("needs_shaping", f"Pillow finds no FriBiDi here; the text begins {fit[:40]!r}")
    if not fit.strip():
        raise TypesetError("empty_text", "nothing to draw")
    return fit


def typeset(text: str, face: Typeface, style: Style, page_px: tuple[int, int]) -> Sheet:
    """Draw as much of `text` as one page holds; lines of the text begin new lines, empty ones leave one free.

    Columns are lines of a page that lies on its side: they run from top to bottom, the first at the right.
    """
    width, height = laid_px = page_px[::-1] if face.columns else page_px
    turned = math.sin(math.radians(abs(style.degrees)))
    margin = round(_MARGIN * min(page_px) + turned * max(page_px) / 2)
    words = list(_stack_lines(break_lines(text, face, width - 2 * margin), face, style, height - 2 * margin))
    mask = Image.new("L", laid_px)
    for word in words:
        for place, run in word.runs:
            face.draw(mask, (margin + place[0], margin + place[1]), run)
    boxes = np.array([word.box for word in words], float).reshape(-1, 4) + margin
    if face.columns:
        mask = mask.transpose(Image.Transpose.ROTATE_270)
        boxes = np.stack([height - boxes[:, 3], boxes[:, 0], height - boxes[:, 1], boxes[:, 2]], axis=1)
    if style.degrees:
        mask = mask.rotate(style.degrees, Image.Resampling.BICUBIC)
    fractions = _turn_boxes(boxes, style.degrees, page_px) / (page_px * 2)
    return Sheet(
        _ink_page(mask, style),
        "".join(word.lead + word.text for word in words),
        [word.text for word in words],
        np.clip(fractions, 0, 1).astype(np.float32),
        [word.line for word in words],
        sum(len(word.text) for word in words) / max(1, sum(not c.isspace() for c in text)),
    )


def _stack_lines(rows: Iterable[Sequence[Word]], face: Typeface, style: Style, height: int) -> Iterator[_Drawn]:
    """The words of line after line until the page is full; lines stand further apart where letters are tall."""
    base = round(0.8 * style.line_px) - style.line_px
    lowest, number = 0, -1
    for words in rows:
        inks = [[_move_box(ink, round(x), 0) for run, x in word.runs if (ink := face.ink(run))] for word in words]
        top = min((box[1] for boxes in inks for box in boxes), default=0)
        base = max(base + style.line_px, lowest - top)
        lowest = base + max((box[3] for boxes in inks for box in boxes), default=0)
        if max(lowest, base + round(0.2 * style.line_px)) > height:
            return
        number += bool(words)
        for place, (word, boxes) in enumerate(zip(words, inks, strict=True)):
            lead = " " if word.spaced else "" if place or not number else "\n"
            runs = tuple(((round(x), base), run) for run, x in word.runs)
            yield _Drawn(word.text, lead, number, _move_box(_around(boxes or [(0, 0, 0, 0)]), 0, base), runs)


def _move_box(box: Box, right: int, down: int) -> Box:
    return box[0] + right, box[1] + down, box[2] + right, box[3] + down


def _around(boxes: Sequence[Box]) -> Box:
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _turn_boxes(boxes: Doubles, degrees: float, page_px: tuple[int, int]) -> Doubles:
    """The upright boxes around boxes that turn, anticlockwise, about the page's middle."""
    if not degrees:
        return boxes
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = np.array(page_px) / 2
    corners_N42 = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] - middle
    moved_N42 = corners_N42 @ np.array([[cos, -sin], [sin, cos]]) + middle
    return np.hstack([moved_N42.min(axis=1), moved_N42.max(axis=1)])


def _ink_page(mask: Image.Image, style: Style) -> Image.Image:
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


def sample_rng(seed: int, uid: str) -> Random:
    """The random generator of a sample: of the seed and the sample alone."""
    return Random(int.from_bytes(hashlib.blake2b(f"{seed} {uid}".encode(), digest_size=16).digest(), "big"))
