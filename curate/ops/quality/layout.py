"""The layout of a picture: screenshots and collages, by long lines that are exactly straight, and borders."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL.Image import Image

from curate.ops.quality._borders import BORDERS, measure_borders
from curate.ops.quality._strips import STRIPS, Levels, differences, entropy_bits, take_strips
from curate.ops.spec import Columns, Natural, op

_JUMP, _SEAM_JUMP = 12, 8
"""Levels by which neighbours differ where a line runs between them; of a seam, which may part like from like, fewer."""
_SOFT, _HARD = 3, 24
"""What differs by no more is of one colour but for JPEG; what differs by more is a hard edge."""

_MARGIN = 0.08
"""Of a side: a line so near to the edge is a frame's and no seam."""
_AROUND = 6
_LEAST_PX = 32

_OFFSET = -15.06
_WEIGHTS = (6.6, 1.3, -15.6, 13.62, 62.49, 2.16, 5.4, -0.88)
"""Of what `measure_lines` gives, and of the entropy of the levels in bits, of 32: fitted to screenshots of a manual,
photographs (framed, letterboxed and in collages, too) and drawings, the last two weighing as much as the first."""

Shares = npt.NDArray[np.float64]

_LAYOUT = {"screenshot_score": pa.float32(), "seam_share": pa.float32(), **BORDERS}


@op(reads="image", writes=_LAYOUT, version=1)
def layout(images: Sequence[Image], *, max_border_range_levels: Natural = 24) -> Columns:
    """Likeness to a screenshot, and to a collage, 0 to 1; the borders; what a JPEG lacks.

    `screenshot_score`: a logistic regression on lines that run exactly along rows and columns, on edges that are hard,
    and on the levels that there are; above .5 a screenshot is more likely than a photograph or a drawing, if there are
    as many. `seam_share`: the share of rows (or columns) that jump at the one place where most do, less that share in
    its neighbourhood, inside any border and the outer 8 %: above .5 it is a seam, of a collage or of a screenshot.
    `border_left` and so on: as many lines, in pixels from that edge inwards, as have no two pixels that differ by more
    than `max_border_range_levels` in a channel; `border_share`: their share of the area, 1 of a picture of one colour.
    `missing_share`: of the height, from below, the share that is exactly the grey that decoders put where a JPEG's data
    ended early but its end mark is there. Of at most 32 rows and as many columns.
    """
    rows = [_measure(image, max_border_range_levels) for image in images]
    return {name: [row[place] for row in rows] for place, name in enumerate(_LAYOUT)}


def _measure(image: Image, most: int) -> list[float]:
    strips = take_strips(image)
    grey = [strip.convert("L") for strip in strips]
    steps = [differences(levels[:, 1:], levels[:, :-1]) for levels in map(np.asarray, grey)]
    left, top, right, bottom, *shares = measure_borders(*strips, most)
    seams = [_seam(step, *ends) for step, ends in zip(steps, ((left, right), (top, bottom)), strict=True)]
    numbers = [*measure_lines(*steps), entropy_bits(grey[0], 5)]
    score = 1 / (1 + math.exp(-(sum(map(float.__mul__, _WEIGHTS, numbers)) + _OFFSET)))
    return [score, max(seams), left, top, right, bottom, *shares]


def measure_lines(*steps: Levels) -> list[float]:
    """Seven numbers that tell of straight lines, by the steps from pixel to pixel along rows and along columns.

    The longest line, as a share of its side; the fourth longest, in the direction with the shorter; the median and the
    spread of such shares; the share of hard edges; that of soft steps among all steps; the share of pixels like their
    neighbour.
    """
    lines = [np.sort(_jumps(step > _JUMP)) / len(step) for step in steps]
    flat, hard = (sum(np.count_nonzero(of(step)) for step in steps) for of in (_is_flat, _is_hard))
    total = max(1, sum(step.size for step in steps))
    soft = total - flat - hard
    return [
        max(float(line[-1]) for line in lines),
        min(float(line[-min(4, len(line))]) for line in lines),
        sum(float(line[len(line) // 2]) for line in lines),
        sum(_spread(line) for line in lines),
        hard / total,
        soft / (soft + hard + 1e-3 * total),
        flat / total,
    ]


def _is_flat(step: Levels) -> npt.NDArray[np.bool_]:
    return step <= _SOFT


def _is_hard(step: Levels) -> npt.NDArray[np.bool_]:
    return step > _HARD


def _spread(shares: Shares) -> float:
    """Their standard deviation."""
    counts = np.round(shares * STRIPS)  # whole numbers, whose sums are exact in any order
    mean = float(counts.sum()) / len(counts)
    return math.sqrt(max(0.0, float(counts @ counts) / len(counts) - mean * mean)) / STRIPS


def _jumps(found: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """How many strips jump at each place of (S, L); one of none where there is no place."""
    if not found.shape[1]:
        return np.zeros(1, np.uint8)
    counts: npt.NDArray[np.uint8] = np.add.reduce(found.view(np.uint8), axis=0, dtype=np.uint8)
    return counts


def _seam(step: Levels, before: int, after: int) -> float:
    """The largest share of strips that jump at one place inside, less the median of those around it.

    Inside are no borders, of so many pixels `before` and `after`; 0 where the picture is too small to have a seam.
    """
    jumps = _jumps(step > _SEAM_JUMP)
    margin = int(_MARGIN * len(jumps))
    first, last = max(margin, before + margin // 4), len(jumps) - max(margin, after + margin // 4)
    if last - first < _LEAST_PX:
        return 0.0
    highest = int(jumps[first:last].argmax()) + first
    around = np.sort(jumps[max(0, highest - _AROUND) : highest + _AROUND + 1])
    return max(0, int(jumps[highest]) - int(around[len(around) // 2])) / len(step)
