"""In which order the lines of a page are read: columns found by the white between them, headings across them kept.

Boxes are N x (x0, y0, x1, y1), y downwards, in any unit that is the same both ways; a text layer gives them, or an OCR
engine. Lines are runs of words: L x (first word, end), in the order in which they were drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_BINS: Final = 300
_FEWEST_LINES: Final = 5  # on each side of a gutter
_MARGIN: Final = 0.15  # of the text's width: no gutter lies nearer to its edge, nor reaches a heading less far across
_CENTRED: Final = 0.05  # of the text's width: a line about the gutter's middle belongs to neither side
_WHITE: Final = 0.34  # of the usual ink: what crosses a gutter (headings, wide captions) is less
_FILLED: Final = 0.55  # of its column's width, in a line of prose; cells of tables fill less
_WORDS: Final = 3  # in a line of prose; in cells fewer
_PROSE: Final = 0.5  # of a column's words are in such lines
_BESIDE: Final = 0.3  # of the shorter column's height is beside the other one
_GAP: Final = 0.7  # of a line's height: words nearer than this stand in one column
_DEEPEST: Final = 3


class Order(NamedTuple):
    """Runs of words in the order of reading, F x (first word, end), and the most columns that stand side by side."""

    runs: Ints
    columns: int


@dataclass(frozen=True)
class _Sides:
    """Runs cut at a gutter: for each 0 (left of it), 1 (right) or 2 (across), and its box."""

    runs: Ints
    boxes: Floats
    side: Ints


def reading_order(
    words: Floats, lines: Ints, *, leftwards: bool = False, said: Bools | None = None, drawn: bool = True
) -> Order:
    """The order in which `lines` are read; a line that runs on from one column into the next is cut at the gutter.

    Where no columns are found the drawn order is kept, but for parts that were drawn late and stand wholly above
    earlier ones. `leftwards`: columns follow from right to left, as in Arabic. Vertical writing is known by the shape
    of its lines, and they follow from right to left. `said`: the words that say something, which dots before a page's
    number do not; without it all do. `drawn`: the order of `lines` is a writer's, not a mere sort by height.
    """
    if len(lines) < 2:
        return Order(lines, len(lines))
    said = np.ones(len(words), np.bool_) if said is None else said
    boxes = joined(words, lines)
    if _is_upright(boxes, lines):
        turned = words[:, [1, 0, 3, 2]]
        turned[:, [1, 3]] = -words[:, [2, 0]]
        return _in_columns(turned, lines, said, leftwards=False, depth=0)
    if drawn and not _may_have_columns(words, lines, boxes, said):
        return Order(_as_drawn(lines, boxes), 1)
    return _in_columns(words, lines, said, leftwards=leftwards, depth=0)


def joined(words: Floats, runs: Ints) -> Floats:
    """The boxes around runs of words, one a run."""
    ends = runs.ravel()
    padded = np.vstack([words, words[-1:]])  # a run may end where the words end
    least_R2 = np.minimum.reduceat(padded[:, :2], ends, axis=0)[::2]
    most_R2 = np.maximum.reduceat(padded[:, 2:], ends, axis=0)[::2]
    boxes: Floats = np.hstack([least_R2, most_R2])
    return boxes


def members(lines: Ints) -> Ints:
    """The numbers of the words in runs, run by run."""
    counts = lines[:, 1] - lines[:, 0]
    return np.repeat(lines[:, 0] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def _may_have_columns(words: Floats, lines: Ints, boxes: Floats, said: Bools) -> bool:
    """Whether lines hold gaps as between columns, or begin away from the edge while a later one is drawn above."""
    left, right = float(boxes[:, 0].min()), float(boxes[:, 2].max())
    edge = left + _MARGIN * (right - left)
    apart = np.maximum(words[1:, 0] - words[:-1, 2], words[:-1, 0] - words[1:, 2])
    wide = (apart > _GAP * (words[1:, 3] - words[1:, 1])) & (words[1:, 0] > edge) & said[1:] & said[:-1]
    wide[lines[1:, 0] - 1] = False  # between the last word of a line and the first of the next
    if np.count_nonzero(wide) >= _FEWEST_LINES:
        return True
    inside = np.count_nonzero(boxes[:, 0] > edge)
    return bool(inside >= _FEWEST_LINES and (boxes[1:, 3] < boxes[:-1, 1]).any())


def _is_upright(boxes: Floats, lines: Ints) -> bool:
    """Whether most words are in lines that are higher than wide."""
    counts = lines[:, 1] - lines[:, 0]
    higher = (boxes[:, 3] - boxes[:, 1]) > 2 * (boxes[:, 2] - boxes[:, 0])
    return bool(counts[higher].sum() * 2 > counts.sum()) and bool((counts > 1).any())


def _in_columns(words: Floats, lines: Ints, said: Bools, *, leftwards: bool, depth: int) -> Order:
    gutter = _gutter(words, lines) if len(lines) >= 2 * _FEWEST_LINES and depth < _DEEPEST else None
    sides = _cut(words, lines, gutter) if gutter is not None else None
    if sides is None or not _are_columns(said, sides):
        return Order(_as_drawn(lines, joined(words, lines)), 1)
    middle = sides.boxes[:, [1, 3]].sum(axis=1)
    across = np.sort(middle[sides.side == 2])
    band = np.searchsorted(across, middle, side="left")  # a run across is the last of its band
    rank = np.where(sides.side == 2, 2, sides.side ^ 1 if leftwards else sides.side)
    place = 3 * band + rank
    runs, beside = [], np.zeros(len(across) + 1, np.int64)
    for part in np.unique(place).tolist():
        chosen = sides.runs[place == part]
        found = _in_columns(words, chosen, said, leftwards=leftwards, depth=depth + 1) if len(chosen) > 1 else None
        runs.append(found.runs if found else chosen)
        beside[part // 3] += part % 3 < 2 and (found.columns if found else 1)
    return Order(np.concatenate(runs), int(beside.max()))


def _gutter(words: Floats, lines: Ints) -> tuple[float, float] | None:
    """The widest strip from top to bottom that is nearly white, away from the edges: its left and right end."""
    own = words[members(lines)]
    left, right = float(own[:, 0].min()), float(own[:, 2].max())
    if right <= left:
        return None
    scale = _BINS / (right - left)
    first = ((own[:, 0] - left) * scale).astype(np.int64).clip(0, _BINS)
    end = np.ceil((own[:, 2] - left) * scale).astype(np.int64).clip(0, _BINS)
    heights = own[:, 3] - own[:, 1]
    ink = np.cumsum(np.bincount(first, heights, _BINS + 1) - np.bincount(end, heights, _BINS + 1))[:_BINS]
    usual = np.sort(ink)[_BINS // 2]
    edge = int(_MARGIN * _BINS)
    white = np.zeros(_BINS + 1, np.int8)
    white[edge : _BINS - edge] = ink[edge : _BINS - edge] <= _WHITE * usual
    steps = np.flatnonzero(np.diff(white, prepend=0))
    if not len(steps):
        return None
    strips = steps.reshape(-1, 2)
    best = strips[np.argmax(strips[:, 1] - strips[:, 0])]
    return left + best[0] / scale, left + best[1] / scale


def _cut(words: Floats, lines: Ints, gutter: tuple[float, float]) -> _Sides | None:
    """Cut at the gutter the lines that leave it white; tell on which side each run is. None where hardly any is."""
    middle = sum(gutter) / 2
    on_it = np.append(0, np.cumsum((words[:, 0] < middle) & (words[:, 2] > middle)))
    whole = joined(words, lines)
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
            _halves(words[first:end], first, middle, gap) if may_be_cut else [(first, end)]
            for (first, end), gap, may_be_cut in zip(lines.tolist(), gaps.tolist(), across.tolist(), strict=True)
        ]
        cut = np.array([run for part in parts for run in part], np.int64)
    boxes = joined(words, cut)
    width = boxes[:, 2].max() - boxes[:, 0].min()
    reach = np.minimum(middle - boxes[:, 0], boxes[:, 2] - middle)
    centre = (boxes[:, 0] + boxes[:, 2]) / 2
    centred = (np.abs(centre - middle) < _CENTRED * width) & (boxes[:, 0] < gutter[0]) & (boxes[:, 2] > gutter[1])
    across = (reach > _MARGIN * width) | centred
    return _Sides(cut, boxes, np.where(across, 2, (centre > middle).astype(np.int64)))


def _halves(words: Floats, start: int, middle: float, gap: float) -> list[tuple[int, int]]:
    """The runs of a line's words on either side of the gutter; the whole line where no gap is there."""
    beyond = words[:, 0] >= middle
    if words[beyond, 0].min() - words[~beyond, 2].max() < gap:
        return [(start, start + len(words))]
    edges = [0, *(np.flatnonzero(np.diff(beyond)) + 1).tolist(), len(words)]
    return [(start + a, start + b) for a, b in pairwise(edges)]


def _are_columns(said: Bools, sides: _Sides) -> bool:
    """Whether both sides are mostly prose, next to each other; cells of a table and dots before a number are not."""
    before = np.append(0, np.cumsum(said))
    counts = before[sides.runs[:, 1]] - before[sides.runs[:, 0]]
    extents = []
    for side in (0, 1):
        own = sides.side == side
        boxes, words = sides.boxes[own], counts[own]
        if len(boxes) < _FEWEST_LINES:
            return False
        column = boxes[:, 2].max() - boxes[:, 0].min()
        prose = (boxes[:, 2] - boxes[:, 0] > _FILLED * column) & (words >= _WORDS)
        if np.count_nonzero(prose) < _FEWEST_LINES or words[prose].sum() < _PROSE * words.sum():
            return False
        extents.append((boxes[:, 1].min(), boxes[:, 3].max()))
    (top, bottom), (other_top, other_bottom) = extents
    beside = min(bottom, other_bottom) - max(top, other_top)
    return bool(beside > _BESIDE * min(bottom - top, other_bottom - other_top))


def _as_drawn(lines: Ints, boxes: Floats) -> Ints:
    """The drawn order, its downward passages sorted by their tops where they do not stand beside each other."""
    middle = (boxes[:, 1] + boxes[:, 3]) / 2
    upwards = middle[:-1] - middle[1:] > (boxes[1:, 3] - boxes[1:, 1]) / 2
    if not upwards.any():
        return lines
    starts = np.concatenate([[0], np.flatnonzero(upwards) + 1])
    tops = np.minimum.reduceat(middle, starts)
    bottoms = np.maximum.reduceat(middle, starts)
    order = np.argsort(tops, kind="stable")
    if (tops[order][1:] <= bottoms[order][:-1]).any():
        return lines
    parts = np.split(lines, starts[1:])
    return np.concatenate([parts[n] for n in order.tolist()])
