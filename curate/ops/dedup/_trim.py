"""Borders of one colour around a picture: where what is inside begins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

TOLERANCE_LEVELS = 24
"""How far a pixel may lie from its line's median: codecs leave so much beside an edge."""
MAX_OTHERS = 0.02
"""Share of a line's pixels that may lie farther."""
LEAST_LEFT = 0.25
"""Share of a side that is never trimmed: what is left of less shows nothing."""

Box = tuple[int, int, int, int]


def find_inside(image: Image.Image) -> Box | None:
    """Find the part (left, top, right, bottom; pixels) of an RGB image inside its borders of one colour a side.

    None where there is no border, or nothing but one colour inside.
    """
    pixels = np.asarray(image, np.uint8)
    height, width = pixels.shape[:2]
    top, bottom = _depth(pixels), _depth(pixels[::-1])
    if top + bottom > height * (1 - LEAST_LEFT):
        return None
    inner = pixels[top : height - bottom].transpose(1, 0, 2)
    left, right = _depth(inner), _depth(inner[::-1])
    if left + right > width * (1 - LEAST_LEFT):
        return None
    is_blank = _depth(inner[left : width - right]) == width - left - right  # the stripes of a flag are no borders
    return (left, top, width - right, height - bottom) if (left or top or right or bottom) and not is_blank else None


def _depth(lines: npt.NDArray[np.uint8]) -> int:
    """How many of the first lines (n, length, 3) are of the first one's colour throughout."""
    colour = np.median(lines[0], axis=0).astype(np.int16)
    start, step = 0, 1
    while start < len(lines):
        apart = np.abs(lines[start : start + step].astype(np.int16) - colour).max(2) > TOLERANCE_LEVELS
        uneven = np.flatnonzero(apart.mean(1) > MAX_OTHERS)
        if len(uneven):
            return start + int(uneven[0])
        start, step = start + step, min(2 * step, 64)
    return len(lines)
