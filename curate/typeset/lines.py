"""Break texts into lines of a page and place each word as it is drawn."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from curate.page.words import split_words
from curate.typeset.bidi import base_level, embedding_levels, visual_order
from curate.typeset.fonts import FontRun, Typeface, is_joined

_NO_START: Final = frozenset(
    ".,:;!?%、。，．・：；！？％ー々〻ゝゞヽヾ…‥〜ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ"
)
_NO_START_THAI: Final = frozenset("ะาำๅๆฯ")
_NO_END_THAI: Final = frozenset("เแโใไ")


_Runs = tuple[tuple[FontRun, float], ...]


class Word(NamedTuple):
    """A word of a line: its runs, each with where it begins from the left; `spaced`: a space stands before it."""

    text: str
    spaced: bool
    runs: tuple[tuple[FontRun, float], ...]


@dataclass(frozen=True)
class _LinePiece:
    """A word, or as much of it as a line holds: characters `first` to `end` of its paragraph."""

    first: int
    end: int
    runs: _Runs
    spaced: bool

    @property
    def advance(self) -> float:
        return _advance(self.runs)


def break_lines(text: str, face: Typeface, width: int) -> Iterator[list[Word]]:
    """Break a text into lines `width` pixels wide, words in order of reading; an empty line is empty.

    A paragraph whose first letter runs from right to left begins at the right. No line begins with a sign that closes
    or a small kana, or ends with a sign that opens (W3C, Requirements for Japanese Text Layout, 3.1.7 and 3.1.8); a
    word that runs both ways is parted where others stand between its halves.
    """
    base = base_level(text, 0)
    for paragraph in text.split("\n"):
        base = base_level(paragraph, base)
        found = embedding_levels(paragraph, base)
        for pieces in _fill_lines(paragraph, found, face, width):
            yield _place_words(pieces, found, base, face.space, width)


def _fill_lines(paragraph: str, found: Sequence[int], face: Typeface, width: int) -> Iterator[list[_LinePiece]]:
    """What stands in each line."""
    line: list[_LinePiece] = []
    right = 0.0
    for group in _groups(paragraph, _pieces(paragraph, found, face, width), width):
        gap = face.space if group[0].spaced and line else 0.0
        advance = sum(piece.advance for piece in group)
        if line and right + gap + advance > width:
            yield line
            line, right, gap = [], 0.0, 0.0
        line = [*line, *group]
        right += gap + advance
    yield line


def _pieces(paragraph: str, found: Sequence[int], face: Typeface, width: int) -> Iterator[_LinePiece]:
    for first, end in split_words(paragraph):
        spaced = first > 0 and paragraph[first - 1].isspace()
        while first < end:
            until, runs = _fitting(paragraph, found, face, (first, end), width)
            yield _LinePiece(first, until, runs, spaced)
            first, spaced = until, False


def _fitting(
    paragraph: str, found: Sequence[int], face: Typeface, span: tuple[int, int], width: int
) -> tuple[int, _Runs]:
    """A word, or its longest beginning that fits in a line, at least a letter: where that ends, and its runs."""

    def measured(end: int) -> _Runs:
        return tuple((run, face.length(run)) for run in _runs(paragraph[first:end], found[first:end], face))

    first, end = span
    runs = measured(end)
    if _advance(runs) > width:
        ends = [n for n in range(first + 1, end) if _may_break(paragraph[n - 1], paragraph[n])] or [end]
        end = ends[max(0, bisect_right(ends, 0.0, key=lambda n: _advance(measured(n)) - width) - 1)]
        runs = measured(end)
    return end, runs


def _advance(runs: _Runs) -> float:
    return sum(length for _, length in runs)


def _may_break(before: str, after: str) -> bool:
    """Whether a word that is longer than a line may be parted between two characters."""
    return not (is_joined(before, after) or before in _NO_END_THAI or after in _NO_START_THAI)


def _runs(word: str, found: Sequence[int], face: Typeface) -> Iterator[FontRun]:
    start = 0
    for level, run in groupby(found):
        end = start + len(list(run))
        yield from face.runs(word[start:end], level)
        start = end


def _groups(paragraph: str, pieces: Iterable[_LinePiece], width: int) -> Iterator[list[_LinePiece]]:
    """Pieces that no line may part, as far as they fit in one."""
    group: list[_LinePiece] = []
    for piece in pieces:
        glued = bool(group) and not piece.spaced and _must_not_break(paragraph[piece.first - 1], paragraph[piece.first])
        if not glued or sum(p.advance for p in group) + piece.advance > width:
            if group:
                yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _must_not_break(before: str, after: str) -> bool:
    """Whether a line may not end between two characters that no space parts."""
    closes = after in _NO_START or unicodedata.category(after) in ("Pe", "Pf")
    return closes or unicodedata.category(before) in ("Ps", "Pi")


def _place_words(pieces: Sequence[_LinePiece], found: Sequence[int], base: int, space: float, width: int) -> list[Word]:
    """The words of a line, with the places of their runs."""
    items = [item for piece in pieces for item in _items(piece, piece is not pieces[0], found, space)]
    order = visual_order([level for _, _, level in items])
    ranks = [0] * len(items)
    starts = [0.0] * len(items)
    x = width - sum(length for _, length, _ in items) if base else 0.0
    for rank, number in enumerate(order):
        ranks[number], starts[number] = rank, x
        x += items[number][1]
    words: list[Word] = []
    number = 0
    for piece in pieces:
        spaced = piece.spaced and piece is not pieces[0]
        number += spaced
        own = range(number, number + len(piece.runs))
        number = own.stop
        words += _whole_or_parted([(items[n][0], starts[n], ranks[n]) for n in own], spaced)
    return words


def _items(piece: _LinePiece, inside: bool, found: Sequence[int], space: float) -> Iterator[tuple[FontRun, float, int]]:
    """The runs of a piece, before them the space that parts it from the one before; each with length and level."""
    if piece.spaced and inside:
        level = found[piece.first - 1]
        yield FontRun(" ", 0, level), space, level
    for run, length in piece.runs:
        yield run, length, run.level


def _whole_or_parted(runs: Sequence[tuple[FontRun, float, int]], spaced: bool) -> Iterator[Word]:
    """One word, or one a run where others stand between them."""
    ranks = [rank for _, _, rank in runs]
    whole = max(ranks) - min(ranks) == len(ranks) - 1
    for number, part in enumerate([runs] if whole else [[run] for run in runs]):
        text = "".join(run.text for run, _, _ in part)
        yield Word(text, spaced and not number, tuple((run, x) for run, x, _ in part))
