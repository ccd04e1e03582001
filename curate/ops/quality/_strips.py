"""Rows and columns of a picture at equal distances: what cheap ops look at in place of all pixels.

Nothing is averaged, so what is of one colour stays so, and an edge keeps its height. The cost hangs on the sides of a
picture and not on its area.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

Levels = npt.NDArray[np.uint8]

STRIPS = 32
"""Rows, and columns, that are taken at most."""


def take_strips(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Some whole rows of a picture, and some whole columns, turned to lie as rows: W x S and H x S pixels."""
    width, height = image.size
    rows = image.resize((width, min(height, STRIPS)), Image.Resampling.NEAREST)
    columns = image.resize((min(width, STRIPS), height), Image.Resampling.NEAREST)
    return rows, columns.transpose(Image.Transpose.TRANSPOSE)


def take_sample(image: Image.Image, side_px: int) -> Image.Image:
    """A grid of pixels of a picture, at most `side_px` a side."""
    size = (min(image.width, side_px), min(image.height, side_px))
    return image.resize(size, Image.Resampling.NEAREST)


def differences(first: Levels, second: Levels) -> Levels:
    """By how many levels they differ, in bytes throughout."""
    found: Levels = np.maximum(first, second) - np.minimum(first, second)
    return found


def entropy_bits(grey: Image.Image, bits: int = 8) -> float:
    """Entropy of the upper bits of an image's grey levels."""
    levels, width = grey.histogram(), 1 << (8 - bits)
    counts = levels if width == 1 else [sum(levels[at : at + width]) for at in range(0, 256, width)]
    total = sum(counts)
    return abs(math.log2(total) - sum(count * math.log2(count) for count in counts if count) / total)
