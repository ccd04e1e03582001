"""Rows and columns of a picture at equal distances: what cheap ops look at in place of all pixels.

Nothing is averaged, so what is of one colour stays so, and an edge keeps its height. The cost hangs on the sides of a
picture and not on its area.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

Levels = npt.NDArray[np.uint8]

STRIPS = 32
"""Rows, and columns, that are taken at most."""

_PIECE_PX = 1 << 20
"""Of a picture that Pillow keeps in several blocks so many pixels are copied at a time."""
_CHANNELS = 4
"""Pillow keeps an RGB pixel in 4 bytes, of which the last tells nothing."""


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


def pieces(image: Image.Image) -> Iterator[Levels]:
    """All pixels of an RGB picture from the top, in pieces of whole rows: (h, W, 4), the last channel unused.

    One piece, read where Pillow keeps it, if that is one block (up to 4 megapixels); else copies, one at a time.
    """
    try:
        yield _view(image)
    except ValueError:  # in several blocks
        rows = max(1, _PIECE_PX // image.width)
        for top in range(0, image.height, rows):
            yield _view(image.crop((0, top, image.width, min(image.height, top + rows))))


def _view(image: Image.Image) -> Levels:
    flat = np.frombuffer(pa.array(image).flatten().buffers()[1], np.uint8)
    return flat.reshape(image.height, image.width, _CHANNELS)


def differences(first: Levels, second: Levels) -> Levels:
    """By how many levels they differ, in bytes throughout."""
    found: Levels = np.maximum(first, second) - np.minimum(first, second)
    return found
