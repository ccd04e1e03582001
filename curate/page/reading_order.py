"""Order the lines of a page for reading: columns one after the other, headings across them kept.

Boxes are N x (x0, y0, x1, y1), y downwards, in any unit that is the same both ways; a text layer gives them, or an OCR
engine. Lines are runs of words: L x (first word, end), in the order in which they were drawn.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from curate.page.columns import TITLE_LINES, find_columns, glance_at_gaps, may_hold_columns
from curate.page.runs import Bools, Floats, Ints, find_upward_moves, group_boxes, join_boxes

_DEEPEST: Final = 5


class ReadingOrder(NamedTuple):
    """Runs of words in the order of reading, F x (first word, end), and the most columns that stand side by side."""

    runs: Ints
    columns: int


def reading_order(
    words: Floats, lines: Ints, *, leftwards: bool = False, wordy: Bools | None = None, drawn: bool = True
) -> ReadingOrder:
    """The order in which `lines` are read; a line that runs on from one column into the next is cut at the gutter.

    Where no columns are found the drawn order is kept, but for parts that were drawn late and stand wholly above
    earlier ones. `leftwards`: columns follow from right to left, as in Arabic. Vertical writing is known by the shape
    of its lines, and they follow from right to left. `wordy`: the words that say something, which dots before a page's
    number do not; without it all do. `drawn`: the order of `lines` is a writer's, not a mere sort by height.
    """
    if len(lines) < 2:
        return ReadingOrder(lines, len(lines))
    gaps, up = glance_at_gaps(words, leftwards)
    if drawn and not (gaps or up):
        return ReadingOrder(lines, 1)
    wordy = np.ones(len(words), np.bool_) if wordy is None else wordy
    boxes = join_boxes(words, lines)
    if _is_upright(boxes, lines):
        turned = words[:, [1, 0, 3, 2]]
        turned[:, [1, 3]] = -words[:, [2, 0]]
        return _order_columns(turned, lines, wordy, leftwards=False)
    if drawn and not may_hold_columns(words, lines, boxes, wordy):
        return ReadingOrder(_order_as_drawn(lines, boxes) if up else lines, 1)
    return _order_columns(words, lines, wordy, leftwards=leftwards)


def _is_upright(boxes: Floats, lines: Ints) -> bool:
    """Whether most words are in lines that are higher than wide."""
    higher = (boxes[:, 3] - boxes[:, 1]) > 2 * (boxes[:, 2] - boxes[:, 0])
    if not higher.any():
        return False
    counts = lines[:, 1] - lines[:, 0]
    return bool(counts[higher].sum() * 2 > counts.sum()) and bool((counts > 1).any())


def _order_columns(words: Floats, lines: Ints, wordy: Bools, *, leftwards: bool, depth: int = 0) -> ReadingOrder:
    """Above the largest columns, these one after the other, and below them; each part in its turn the same."""
    boxes = join_boxes(words, lines)
    found = None
    if depth == 0 or (depth < _DEEPEST and may_hold_columns(words, lines, boxes, wordy)):
        found = find_columns(words, lines, wordy)
    if found is None:
        return ReadingOrder(_order_as_drawn(lines, boxes), 1)
    above, sides, below = found
    middle = sides.boxes[:, [1, 3]].sum(axis=1)
    across = np.sort(middle[sides.side == 2])
    band = np.searchsorted(across, middle, side="left")  # a run across is the last of its band
    rank = np.where(sides.side == 2, 2, sides.side ^ 1 if leftwards else sides.side)
    place = 3 * band + rank
    orders, beside = [], np.zeros(len(across) + 1, np.int64)
    for part in np.unique(place).tolist():
        orders.append(_order_columns(words, sides.runs[place == part], wordy, leftwards=leftwards, depth=depth + 1))
        beside[part // 3] += part % 3 < 2 and orders[-1].columns
    ends = [
        _order_columns(words, part, wordy, leftwards=leftwards, depth=depth + 1) if len(part) else ReadingOrder(part, 0)
        for part in (above, below)
    ]
    runs = [order.runs for order in (ends[0], *orders, ends[1])]
    return ReadingOrder(np.concatenate(runs), max(int(beside.max()), ends[0].columns, ends[1].columns))


def _order_as_drawn(lines: Ints, boxes: Floats) -> Ints:
    """The drawn order, but for titles at the top and at the bottom, and for what stands wholly above the rest."""
    if not find_upward_moves(boxes).any():
        return lines
    group = group_boxes(boxes)
    few = (np.bincount(group)[group] <= TITLE_LINES) & (group.max() > 0)
    first, last = few & (group == 0), few & (group == group.max())
    body = ~(first | last)
    return np.concatenate([lines[first], _passages(lines[body], boxes[body]), lines[last]])


def _passages(lines: Ints, boxes: Floats) -> Ints:
    """Downward passages sorted by their tops, where none of them stand beside each other; else as they were drawn."""
    up = find_upward_moves(boxes)
    if not up.any():
        return lines
    middle = (boxes[:, 1] + boxes[:, 3]) / 2
    starts = np.append(0, np.flatnonzero(up) + 1)
    tops, bottoms = np.minimum.reduceat(middle, starts), np.maximum.reduceat(middle, starts)
    order = np.argsort(tops, kind="stable")
    if (tops[order][1:] <= bottoms[order][:-1]).any():
        return lines
    parts = np.split(lines, starts[1:])
    return np.concatenate([parts[n] for n in order.tolist()])
