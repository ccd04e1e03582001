"""Find columns of prose on a page by the white space between them.

Boxes and runs are those of curate.page.runs; lines are runs in the order in which they were drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from curate.page.runs import Bools, Floats, Ints, find_upward_moves, group_boxes, join_boxes, median, run_members

TITLE_LINES: Final = 3
"""A running title has no more."""

_MOST_ROWS: Final = 400
_AS_GOOD: Final = 0.9
_FEWEST_LINES: Final = 5  # on each side of a gutter
_CELL_LINES: Final = 12  # in cells of tables fewer
_BINS: Final = 300
_HIGHEST: Final = 24  # rows that a word covers at most
_TRIES: Final = 2
_CROSSED: Final = 2  # white beside words that makes up for as much ink in a gutter
_SHRUNK: Final = 0.1  # of a word's height, above and below: lines that touch leave white between them
_HELD: Final = 2  # one line of so many begins where its column does and fills it, in all but titles
_MARGIN: Final = 0.15  # of the text's width: no gutter lies nearer to its edge, nor reaches a heading less far across
_EDGE: Final = int(_MARGIN * _BINS)
_CENTRED: Final = 0.05  # of the text's width: a line about the gutter's middle belongs to neither side
_CELLS: Final = 1.2  # of a line's height: spaces in prose are narrower
_RETURNS: Final = 3  # from the foot of the left column to the head of the right one, at most, as a page is drawn
_LONG: Final = 0.9  # of a column's lines are shorter than one that is as wide as the column
_FILLED: Final = 0.5  # of that width is under words, in a line of prose
_NARROWEST: Final = 8  # times its height, a line of prose
_WORDS: Final = 3  # in a line of prose; in cells of tables fewer
_PROSE: Final = 0.5  # of a column's words are in such lines
_BESIDE: Final = 0.3  # of the shorter column's height is beside the other one
_GAP: Final = 0.6  # of a line's height: words nearer than this stand in one column
_SPACE: Final = 0.4  # of a line's height: white between words that is no gutter


class _Gutter(NamedTuple):
    left: float
    right: float
    top: float
    bottom: float
    words_beside: int


@dataclass(frozen=True)
class Sides:
    """Runs cut at a gutter: for each 0 (left of it), 1 (right) or 2 (across), and its box."""

    runs: Ints
    boxes: Floats
    side: Ints


def may_hold_columns(words: Floats, lines: Ints, boxes: Floats, wordy: Bools) -> bool:
    """Whether lines hold gaps as between columns, or stand beside each other: a glance that spares most pages more."""
    return len(lines) >= 2 * _FEWEST_LINES and (_hold_gaps(words, lines, wordy) or _are_beside(lines, boxes))


def glance_at_gaps(words: Floats, leftwards: bool) -> tuple[bool, bool]:
    """Look for gaps between words, as between columns, and for a word above the one before it."""
    x0, y0, x1, y1 = words.T
    height = y1[1:] - y0[1:]
    starts, ends = (x1[1:], x0[:-1]) if leftwards else (x1[:-1], x0[1:])
    left, right = float(x0.min()), float(x1.max())
    aside = _MARGIN * (right - left)
    gap = (ends - starts > _GAP * height) & (ends > left + aside) & (starts < right - aside)
    return bool(np.count_nonzero(gap) >= _FEWEST_LINES), bool((y0[:-1] - y0[1:] > height).any())


def _hold_gaps(words: Floats, lines: Ints, wordy: Bools) -> bool:
    """Whether some lines hold gaps in one place, with several words before and after."""
    counts = lines[:, 1] - lines[:, 0]
    if len(words) != counts.sum():
        own = run_members(lines)
        words, wordy = words[own], wordy[own]
    x0, y0, x1, y1 = words.T
    starts, ends = np.minimum(x1[1:], x1[:-1]), np.maximum(x0[1:], x0[:-1])
    gap = ends - starts > _GAP * (y1[1:] - y0[1:])
    over = counts.cumsum() - 1  # between the last word of a line and the next one
    gap[over[:-1]] = False
    at = np.flatnonzero(gap)
    if len(at) < _FEWEST_LINES:
        return False
    breaks = np.sort(np.concatenate([[-1], at, over]))
    place = np.searchsorted(breaks, at)
    at = at[(at - breaks[place - 1] >= _WORDS) & (breaks[place + 1] - at >= _WORDS) & wordy[at] & wordy[at + 1]]
    if len(at) < _FEWEST_LINES:
        return False
    left, right = float(x0.min()), float(x1.max())
    aside = _MARGIN * (right - left)
    return _max_overlap(np.maximum(starts[at], left + aside), np.minimum(ends[at], right - aside)) >= _FEWEST_LINES


def _are_beside(lines: Ints, boxes: Floats) -> bool:
    """Whether lines that leave an edge free follow others that stand beside them, or far down beside them."""
    x0, y0, x1, y1 = boxes.T
    height = y1[1:] - y0[1:]
    up = np.where(np.maximum(x0[1:] - x1[:-1], x0[:-1] - x1[1:]) > 0, y1[:-1] - y0[1:], 0)
    if not (up > _FEWEST_LINES * height).any() and np.count_nonzero(up > _SHRUNK * height) < _FEWEST_LINES:
        return False
    left, right = float(x0.min()), float(x1.max())
    aside, several = _MARGIN * (right - left), lines[:, 1] - lines[:, 0] >= _WORDS
    sides = several & (x0 > left + aside), several & (x1 < right - aside)
    return bool(min(np.count_nonzero(side) for side in sides) >= _FEWEST_LINES)


def _max_overlap(starts: Floats, ends: Floats) -> int:
    """How many of these spans, at most, share a place; those that end before they start count for nothing."""
    open_now = most = 0
    whole = ((start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True) if start < end)
    for _, change in sorted(event for start, end in whole for event in ((start, 1), (end, -1))):
        open_now += change
        most = max(most, open_now)
    return most


def find_columns(words: Floats, lines: Ints, wordy: Bools) -> tuple[Ints, Sides, Ints] | None:
    """Find the largest part of a page where prose stands beside prose, between what is above and below it."""
    middle = join_boxes(words, lines)[:, [1, 3]].mean(axis=1)
    found: list[tuple[int, _Gutter, Sides]] = []
    for gutter in _find_gutters(words[run_members(lines)]):
        if found and gutter.words_beside < _AS_GOOD * found[0][1].words_beside:
            break
        inside = (middle > gutter.top) & (middle < gutter.bottom)
        sides = _cut_at_gutter(words, lines[inside], gutter) if inside.any() else None
        if sides is not None and _are_columns(words, wordy, sides):
            found.append((len(sides.runs) - int(np.count_nonzero(inside)), gutter, sides))
    if not found:
        return None
    _, gutter, sides = min(found, key=lambda one: one[0])  # numbers of a list stay with what they are drawn with
    before, sides, after = _drop_titles(sides, followed=bool((middle >= gutter.bottom).any()))
    above = np.concatenate([lines[middle <= gutter.top], before])
    below = np.concatenate([lines[middle >= gutter.bottom], after])
    return above[np.argsort(above[:, 0])], sides, below[np.argsort(below[:, 0])]


def _usual_width(widths: Floats) -> float:
    """How wide a column is that has lines of these widths."""
    return float(np.sort(widths)[int(_LONG * len(widths))])


def _drop_titles(sides: Sides, *, followed: bool) -> tuple[Ints, Sides, Ints]:
    """Columns without what stands above and below them apart: running titles, names of authors side by side.

    `followed`: something across is below, which a few lines alone on their side, the last of all, are the title of.
    """
    boxes = sides.boxes
    group, height = group_boxes(boxes), median(boxes[:, 3] - boxes[:, 1])
    in_place = np.zeros(len(boxes), np.bool_)
    for side in (0, 1):
        own = sides.side == side
        left, wide = median(boxes[own, 0]), _usual_width(boxes[own, 2] - boxes[own, 0])
        in_place |= own & (np.abs(boxes[:, 0] - left) < 2 * height) & (boxes[:, 2] - boxes[:, 0] > _FILLED * wide)
    counts = np.bincount(group)
    kept = np.bincount(group, in_place) * _HELD >= counts
    if followed and counts[-1] <= TITLE_LINES and len(np.unique(sides.side[group == group.max()])) == 1:
        kept[-1] = False
    prose = np.flatnonzero(kept)
    first, last = (prose[0], prose[-1]) if len(prose) else (0, len(boxes))
    inside = (group >= first) & (group <= last)
    columns = Sides(sides.runs[inside], boxes[inside], sides.side[inside])
    return sides.runs[group < first], columns, sides.runs[group > last]


def _find_gutters(words: Floats) -> Iterator[_Gutter]:
    """Strips with words on both sides that little runs across, those beside most words first."""
    left, top = words[:, :2].min(axis=0).tolist()
    right, bottom = words[:, 2:].max(axis=0).tolist()
    row = max(median(words[:, 3] - words[:, 1]) / 2, (bottom - top) / _MOST_ROWS)
    if right <= left or row <= 0:
        return
    ink = _ink(words, (left, top), ((right - left) / _BINS, row), int(np.ceil((bottom - top) / row)))
    from_left, from_right = ink.argmax(axis=1), (_BINS - ink[:, ::-1].argmax(axis=1)) * ink.any(axis=1)
    ink = np.ascontiguousarray(ink.T[_EDGE : _BINS - _EDGE])
    bins = np.arange(_EDGE, _BINS - _EDGE)[:, None]
    between = (bins > from_left) & (bins < from_right)
    total = np.zeros((len(ink), ink.shape[1] + 1), np.int16)
    np.cumsum(np.where(ink, np.int8(-_CROSSED), between), axis=1, dtype=np.int16, out=total[:, 1:])
    gain = total - np.minimum.accumulate(total, axis=1)
    most = gain.max(axis=1)
    for _ in range(_TRIES):
        best = int(most.argmax())
        beside = int(most[best])
        if beside < 2 * _FEWEST_LINES:
            return
        end = int(gain[best].argmax())
        inked, start = np.flatnonzero(ink[best]), int(total[best, : end + 1].argmin())
        rows = int(inked[inked < start].max(initial=-1)) + 1, int(inked[inked >= end].min(initial=ink.shape[1]))
        less = np.flatnonzero(most < _AS_GOOD * beside)
        first, last = int(less[less < best].max(initial=-1)) + 1, int(less[less > best].min(initial=len(most)))
        most[first:last] = 0
        at, end_at = (left + (right - left) * (_EDGE + bin) / _BINS for bin in (first, last))
        yield _Gutter(at, end_at, top + row * rows[0], top + row * rows[1], beside)


def _ink(words: Floats, start: tuple[float, float], cell: tuple[float, float], rows: int) -> Bools:
    """Where words are: rows x _BINS cells, words a little wider than they are: spaces are no white."""
    heights = words[:, 3] - words[:, 1]
    about = _SPACE / 2 * median(heights)
    first = ((words[:, 0] - about - start[0]) / cell[0]).astype(np.int64).clip(0, _BINS)
    last = np.ceil((words[:, 2] + about - start[0]) / cell[0]).astype(np.int64).clip(0, _BINS)
    top = ((words[:, 1] + _SHRUNK * heights - start[1]) / cell[1]).astype(np.int64).clip(0, rows)
    bottom = np.ceil((words[:, 3] - _SHRUNK * heights - start[1]) / cell[1]).astype(np.int64).clip(0, rows)
    high = (bottom - top).clip(0, _HIGHEST)
    wide, size = _BINS + 1, (_BINS + 1) * rows
    row = wide * run_members(np.stack([top, top + high], axis=1))
    change = np.bincount(row + np.repeat(first, high), minlength=size)
    change -= np.bincount(row + np.repeat(last, high), minlength=size)
    ink: Bools = change.cumsum().reshape(rows, wide)[:, :_BINS] > 0
    return ink


def _cut_at_gutter(words: Floats, lines: Ints, gutter: _Gutter) -> Sides | None:
    """Cut at the gutter the lines that leave it white; tell on which side each run is. None where hardly any is."""
    middle = (gutter.left + gutter.right) / 2
    on_it = np.append(0, np.cumsum((words[:, 0] < middle) & (words[:, 2] > middle)))
    whole = join_boxes(words, lines)
    across = (whole[:, 0] < middle) & (whole[:, 2] > middle) & (on_it[lines[:, 1]] == on_it[lines[:, 0]])
    if (
        min(np.count_nonzero(across | aside) for aside in (whole[:, 2] <= middle, whole[:, 0] >= middle))
        < _FEWEST_LINES
    ):
        return None
    cut = lines
    if across.any():
        gaps = _GAP * (whole[:, 3] - whole[:, 1])
        parts = [
            _split_line(words[first:end], first, middle, gap) if may_be_cut else [(first, end)]
            for (first, end), gap, may_be_cut in zip(lines.tolist(), gaps.tolist(), across.tolist(), strict=True)
        ]
        cut = np.array([run for part in parts for run in part], np.int64)
    boxes = join_boxes(words, cut)
    width = boxes[:, 2].max() - boxes[:, 0].min()
    reach = np.minimum(middle - boxes[:, 0], boxes[:, 2] - middle)
    centre = (boxes[:, 0] + boxes[:, 2]) / 2
    centred = (np.abs(centre - middle) < _CENTRED * width) & (boxes[:, 0] < gutter.left) & (boxes[:, 2] > gutter.right)
    across = (reach > _MARGIN * width) | centred
    return Sides(cut, boxes, np.where(across, 2, (centre > middle).astype(np.int64)))


def _split_line(words: Floats, start: int, middle: float, gap: float) -> list[tuple[int, int]]:
    """The runs of a line's words on either side of the gutter; the whole line where no gap is there."""
    beyond = words[:, 0] >= middle
    if words[beyond, 0].min() - words[~beyond, 2].max() < gap:
        return [(start, start + len(words))]
    edges = [0, *(np.flatnonzero(np.diff(beyond)) + 1).tolist(), len(words)]
    return [(start + a, start + b) for a, b in pairwise(edges)]


def _are_columns(words: Floats, wordy: Bools, sides: Sides) -> bool:
    """Whether both sides are mostly prose, next to each other; cells of a table and dots before a number are not."""
    runs = np.repeat(np.arange(len(sides.runs)), sides.runs[:, 1] - sides.runs[:, 0])
    own = run_members(sides.runs)
    words, wordy = words[own], wordy[own]
    apart = np.maximum(words[1:, 0] - words[:-1, 2], words[:-1, 0] - words[1:, 2])
    cuts = (np.diff(runs) > 0) | (apart > _CELLS * (words[1:, 3] - words[1:, 1]))
    first = np.append(0, np.flatnonzero(cuts) + 1)
    boxes = join_boxes(words, np.stack([first, np.append(first[1:], len(words))], axis=1))
    ink, counts = np.add.reduceat(words[:, 2] - words[:, 0], first), np.add.reduceat(wordy, first, dtype=np.int64)
    side = sides.side[runs[first]]
    if not all(_is_column_of_prose(boxes[side == one], ink[side == one], counts[side == one]) for one in (0, 1)):
        return False
    tops, bottoms = zip(*((boxes[side == one, 1].min(), boxes[side == one, 3].max()) for one in (0, 1)), strict=True)
    return not _is_drawn_in_cells(sides) and bool(min(bottoms) - max(tops) > _BESIDE * min(np.subtract(bottoms, tops)))


def _is_drawn_in_cells(sides: Sides) -> bool:
    """Whether the writer went from left to right and up again so often as only from cell to cell of a table."""
    boxes = sides.boxes
    returns = int(np.count_nonzero(find_upward_moves(boxes) & (sides.side[:-1] == 0) & (sides.side[1:] == 1)))
    return bool(returns > max(_RETURNS + int(np.count_nonzero(sides.side == 2)), len(boxes) / _CELL_LINES))


def _is_column_of_prose(pieces: Floats, ink: Floats, counts: Ints) -> bool:
    """Whether pieces of lines are those of a column: long, as long as others, full of words."""
    if len(pieces) < _FEWEST_LINES:
        return False
    widths = pieces[:, 2] - pieces[:, 0]
    prose = (
        (ink > _FILLED * _usual_width(widths))
        & (counts >= _WORDS)
        & (widths > _NARROWEST * (pieces[:, 3] - pieces[:, 1]))
    )
    return bool(np.count_nonzero(prose) >= _FEWEST_LINES and counts[prose].sum() >= _PROSE * counts.sum())
