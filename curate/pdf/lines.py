"""Words of a text layer into lines: where pdfium goes on too long, and where it ends a line at a superscript."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from curate.page.runs import Bools, Floats, Ints

_OWN_LINE: Final = 0.3  # of a word's height: so much lower or higher than the last word, and back, is another line
_SMALLER: Final = 0.9  # of the height beside it has what is raised or lowered, at most
_BESIDE: Final = 0.4  # of its own height is beside what it is raised or lowered from
_LEVEL: Final = 0.15  # of its height: what stands on one line is no higher or lower than this
_NEAR: Final = 0.6  # of the larger height: what is raised or lowered is no farther from its line
_FAR: Final = 1.5  # of the larger height: nor from the word before, which may stand above another
_HIGHEST: Final = 1.5  # of the larger height: nor higher or lower
_JOINED: Final = 0.13  # of the larger height: less white is no space
_RAISED: Final = 0.5  # of the larger height, at most, is what touches the word before and is of its size
_LOOKED_BACK: Final = 8  # words of a line, for one that goes on after what was raised

BROKEN: Final = "\ufffe"
"""What pdfium writes for the hyphen at the end of a line whose word goes on in the next."""

NOTHING: Final = "\xad"
"""A soft hyphen, which is not shown: stands for what pdfium put where nothing is."""

_BREAK: Final = "\r\n"


@dataclass(frozen=True)
class LaidWords:
    """Words of a page where they stand in its `text`, and on it.

    `spans`: N x (first character, end, number of pdfium's line). `boxes`: N x (x0, y0, x1, y1) in points, y downwards.
    """

    text: str
    spans: Ints
    boxes: Floats


def find_lines(words: LaidWords, *, leftwards: bool) -> tuple[LaidWords, Ints]:
    """Find the runs of words that are on one line, L x (first word, end); and the words, some of them made whole.

    pdfium goes on in the same line where a writer went back to begin the next one a little lower; here it ends. And it
    ends a line, in the middle of a word, where a super- or subscript begins or ends; here both go on.
    """
    spans, boxes = words.spans, words.boxes
    ends: Bools = spans[1:, 2] != spans[:-1, 2]
    shift = np.abs(boxes[1:, [1, 3]].sum(axis=1) - boxes[:-1, [1, 3]].sum(axis=1)) / 2
    back = boxes[1:, 0] > boxes[:-1, 2] if leftwards else boxes[1:, 2] < boxes[:-1, 0]
    ends |= back & (shift > _OWN_LINE * (boxes[:-1, 3] - boxes[:-1, 1]))
    larger = np.maximum(boxes[1:, 3] - boxes[1:, 1], boxes[:-1, 3] - boxes[:-1, 1])
    apart = np.maximum(boxes[1:, 0] - boxes[:-1, 2], boxes[:-1, 0] - boxes[1:, 2])
    near = ends & (apart < _FAR * larger) & (shift < _HIGHEST * larger)
    if near.any():
        onwards = boxes[:-1, 0] - boxes[1:, 2] if leftwards else boxes[1:, 0] - boxes[:-1, 2]
        touch = np.abs(onwards) < _JOINED * larger
        raised = touch & (shift < _RAISED * larger)
        joined = np.flatnonzero(near)[_go_on(words, ends, near, raised)]
        ends[joined] = False
        words, parts = _without_breaks(words, joined, touch)
        ends = ends[~parts]
    first = np.flatnonzero(ends) + 1
    return words, np.stack([np.append(0, first), np.append(first, len(words.spans))], axis=1)


def _go_on(words: LaidWords, ends: Bools, near: Bools, raised: Bools) -> Bools:
    """Which of the breaks that are `near` are none: the next word is `raised`, or beside one of the line before it."""
    spans, boxes = words.spans, words.boxes.tolist()
    ends, found = ends.copy(), []
    for place in np.flatnonzero(near).tolist():
        between = words.text[spans[place, 1] : spans[place + 1, 0]]
        is_pdfiums = _BREAK in between and words.text[spans[place, 1] - 1] != BROKEN
        first = max(0, place - _LOOKED_BACK)
        over = np.flatnonzero(ends[first:place])
        line = boxes[first + int(over[-1]) + 1 if len(over) else first : place + 1]
        goes_on = is_pdfiums and (bool(raised[place]) or _stands_beside(boxes[place + 1], line))
        ends[place] = not goes_on
        found.append(goes_on)
    return np.array(found, np.bool_)


def _stands_beside(box: list[float], line: list[list[float]]) -> bool:
    """Whether a box is near to the others of a line, and on one line with one of them."""
    apart = min(max(box[0] - other[2], other[0] - box[2]) for other in line)
    highest = max(other[3] - other[1] for other in (box, *line))
    return apart < _NEAR * highest and any(_are_level(box, other) for other in reversed(line))


def _are_level(one: list[float], other: list[float]) -> bool:
    """Whether two boxes are on one line: of a size and level, or the smaller one raised or lowered beside it."""
    small, large = sorted((one[3] - one[1], other[3] - other[1]))
    if small < _SMALLER * large:
        return min(one[3], other[3]) - max(one[1], other[1]) > _BESIDE * small
    return abs(one[3] - other[3]) < _LEVEL * large


def _without_breaks(words: LaidWords, joined: Ints, touch: Bools) -> tuple[LaidWords, Bools]:
    """The words without the breaks after `joined`, and which of the others are parts (N - 1): those that `touch`."""
    spans, parts = words.spans, np.zeros(len(touch), np.bool_)
    characters = list(words.text)
    for place in joined.tolist():
        first, end = spans[place, 1], spans[place + 1, 0]
        between = words.text[first:end]
        parts[place] = touch[place] and between == _BREAK
        in_place = f" {NOTHING}" if between == _BREAK and not parts[place] else 2 * NOTHING
        characters[first:end] = between.replace(_BREAK, in_place)
    starts = np.flatnonzero(np.append(True, ~parts))
    ends = np.append(starts[1:], len(spans)) - 1
    merged = np.stack([spans[starts, 0], spans[ends, 1], spans[starts, 2]], axis=1)
    around = [np.minimum.reduceat(words.boxes[:, :2], starts), np.maximum.reduceat(words.boxes[:, 2:], starts)]
    return LaidWords("".join(characters), merged, np.concatenate(around, axis=1)), parts
