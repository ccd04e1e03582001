"""Borders of one colour, by strips of a picture."""

from __future__ import annotations

from collections.abc import Mapping

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


def measure_borders(rows: Image, columns: Image, most: int) -> tuple[int, int, int, int, float, float]:
    """The columns `BORDERS` of a picture of which these strips are (see `_strips`)."""
    width, height = rows.width, columns.width
    across, down = _extremes(rows), _extremes(columns)
    left, right = _depth(*across, most), _depth(*_turned(across), most)
    top, bottom = _depth(*down, most), _depth(*_turned(down), most)
    inside = max(0, width - left - right) * max(0, height - top - bottom)
    missing = _missing(*_turned(down)) if bottom else 0
    return left, top, right, bottom, 1 - inside / (width * height), missing / height


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
