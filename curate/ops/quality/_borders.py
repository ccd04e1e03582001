"""Borders of one colour, by strips of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from PIL.Image import Image

from curate.ops.quality._strips import Levels

BORDERS: Mapping[str, pa.DataType] = {
    "border_left": pa.int32(),
    "border_top": pa.int32(),
    "border_right": pa.int32(),
    "border_bottom": pa.int32(),
    "border_share": pa.float32(),
    "missing_share": pa.float32(),
}
_UNDECODED = 128
"""The level that libjpeg gives to every channel of what is missing."""


def measure_borders(
    strips: tuple[Image, Image], grey: Sequence[Levels], most: int
) -> tuple[int, int, int, int, float, float]:
    """The columns `BORDERS` of a picture of which these strips, and the grey levels of each, are (see `_strips`)."""
    rows, columns = strips
    width, height = rows.width, columns.width
    left, right = _depths(rows, grey[0], most)
    top, bottom = _depths(columns, grey[1], most)
    inside = max(0, width - left - right) * max(0, height - top - bottom)
    missing = _missing(*_turned(_extremes(columns))) if bottom else 0
    return left, top, right, bottom, 1 - inside / (width * height), missing / height


def _depths(strips: Image, grey: Levels, most: int) -> tuple[int, int]:
    """The border at either end of strips; none where grey levels, which differ by less than a channel, tell so."""
    ends = (grey[:, 0].tolist(), grey[:, -1].tolist())
    if all(max(end) - min(end) > most + 1 for end in ends):
        return 0, 0
    extremes = _extremes(strips)
    return _depth(*extremes, most), _depth(*_turned(extremes), most)


def _extremes(strips: Image) -> tuple[Levels, Levels]:
    """(L, 3) the lowest and the highest levels at each place along the strips."""
    pixels_SLC = np.asarray(strips)
    flat = pixels_SLC.reshape(len(pixels_SLC), -1)
    return flat.min(axis=0).reshape(-1, 3), flat.max(axis=0).reshape(-1, 3)


def _turned(extremes: tuple[Levels, Levels]) -> tuple[Levels, Levels]:
    return extremes[0][::-1], extremes[1][::-1]


def _depth(low: Levels, high: Levels, most: int) -> int:
    """How many lines, from the first, have no two pixels that differ by more than `most` levels in a channel."""
    if (high[0] - low[0]).max() > most:
        return 0
    ranges = (np.maximum.accumulate(high) - np.minimum.accumulate(low)).max(axis=1) <= most
    return len(ranges) if ranges.all() else int(ranges.argmin())


def _missing(low: Levels, high: Levels) -> int:
    grey = ((low == _UNDECODED) & (high == _UNDECODED)).all(axis=1)
    return len(grey) if grey.all() else int(grey.argmin())
