"""Tell blurred pictures: by how much neighbouring pixels differ, and by how steep the edges are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from PIL.Image import Image

from curate.ops.quality._strips import Levels, differences
from curate.ops.spec import Columns, Count, op

_BANDS = 2
_SHARE = 0.1
"""A part of the picture is looked at, in so many bands: blur that matters is blur of the whole."""

_FAR = 7
"""Pixels over which an edge is measured: a sharp one rises over one, nearly any has risen over these."""
_WEAKER = 0.995
"""The share of places that lie on weaker edges than those that are measured."""
_LEAST_LEVELS = 8
"""Of edges lower than this nobody can tell whether they are steep."""


@op(reads="image", writes={"sharpness": pa.float32(), "edge_acuity": pa.float32()}, version=1)
def sharpness(images: Sequence[Image], *, short_side_px: Count = 256) -> Columns:
    """Variance of the Laplacian of the grey levels, and the steepness of the strongest edges, 0 to 1.

    Both of the picture made smaller, by a whole factor, to about `short_side_px`, in bands across it. `sharpness`:
    Pech-Pacheco et al. 2000; low of blurred pictures, and of smooth ones, too. `edge_acuity` tells one from the other:
    by how many levels the strongest edges rise over 1 pixel, as a share of what they rise over 7, in the direction in
    which that is less; about .18 of blurred edges, .5 of a photograph's, .7 of a drawing's, null where there is none.
    """
    rows = [_measure(image, short_side_px) for image in images]
    return {"sharpness": [row[0] for row in rows], "edge_acuity": [row[1] for row in rows]}


def _measure(image: Image, short_side_px: int) -> tuple[float, float | None]:
    bands = _bands(image, max(1, round(min(image.size) / short_side_px)))
    acuities = [acuity for axis in (1, 2) if (acuity := _acuity(bands, axis)) is not None]
    return _variance(bands), min(acuities, default=None)


def _bands(image: Image, factor: int) -> Levels:
    """(B, h, w) grey levels of bands across the picture, made smaller by `factor`; of a small picture the whole."""
    width, height = image.size
    tall = (_FAR + 2 + int(height * _SHARE / _BANDS) // factor) * factor
    if tall * _BANDS >= height:
        return np.asarray(image.reduce(factor).convert("L"))[None]
    tops = [int((place + 0.5) * height / _BANDS - tall / 2) for place in range(_BANDS)]
    return np.stack([np.asarray(image.reduce(factor, (0, y, width, y + tall)).convert("L")) for y in tops])


def _variance(bands: Levels) -> float:
    """Of the Laplacian with four neighbours; 0 of a picture too small to have any.

    The sums are of whole numbers below 2**53, which doubles hold: their order leaves no trace.
    """
    if min(bands.shape[1:]) < 3:
        return 0.0
    wide = bands.astype(np.int16)
    across, along = wide[:, 1:-1], wide[:, :, 1:-1]
    sides = across[:, :, :-2] + across[:, :, 2:] + along[:, :-2] + along[:, 2:]
    laplacian = (4 * across[:, :, 1:-1] - sides).ravel().astype(np.float64)
    mean = float(laplacian.sum()) / len(laplacian)
    return max(0.0, float(laplacian @ laplacian) / len(laplacian) - mean * mean)


def _acuity(bands: Levels, axis: int) -> float | None:
    """The rise of the strongest edges over a pixel, as a share of that over seven, along an axis."""
    if bands.shape[axis] <= _FAR:
        return None
    height = _strongest(_rises(bands, axis, 0, _FAR))
    if height < _LEAST_LEVELS:
        return None
    return min(1.0, _strongest(_rises(bands, axis, _FAR // 2, _FAR // 2 + 1)) / height)


def _rises(bands: Levels, axis: int, first: int, last: int) -> Levels:
    """By how much two pixels differ, of each eight along an axis."""
    count = bands.shape[axis] - _FAR
    ends = ((slice(None),) * axis + (slice(place, place + count),) for place in (first, last))
    return differences(*(bands[end] for end in ends))


def _strongest(rises: Levels) -> int:
    """The smallest rise that at most a share 1 - `_WEAKER` of all pass."""
    allowed = int((1 - _WEAKER) * rises.size)
    low, high = 0, int(rises.max(initial=0))
    while low < high:
        middle = (low + high) // 2
        if np.count_nonzero(rises > middle) <= allowed:
            high = middle
        else:
            low = middle + 1
    return low
