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
    acuities = [acuity for of in (bands, [band.T for band in bands]) if (acuity := _acuity(of)) is not None]
    return _variance(bands), min(acuities, default=None)


def _bands(image: Image, factor: int) -> list[Levels]:
    """The grey levels of bands across the picture, made smaller by `factor`; of a small picture the whole."""
    width, height = image.size
    tall = (_FAR + 2 + int(height * _SHARE / _BANDS) // factor) * factor
    if tall * _BANDS >= height:
        return [np.asarray(image.reduce(factor).convert("L"))]
    tops = [int((place + 0.5) * height / _BANDS - tall / 2) for place in range(_BANDS)]
    return [np.asarray(image.reduce(factor, (0, y, width, y + tall)).convert("L")) for y in tops]


def _variance(bands: Sequence[Levels]) -> float:
    """Of the Laplacian with four neighbours; 0 of a picture too small to have any.

    The sums are of whole numbers below 2**53, which doubles hold: their order leaves no trace.
    """
    laplacian = np.concatenate([_laplacian(band).ravel() for band in bands]).astype(np.float64)
    if not len(laplacian):
        return 0.0
    mean = float(laplacian.sum()) / len(laplacian)
    return max(0.0, float(laplacian @ laplacian) / len(laplacian) - mean * mean)


def _laplacian(band: Levels) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    if min(band.shape) < 3:
        return np.zeros((0, 0), np.int16)
    wide = band.astype(np.int16)
    return 4 * wide[1:-1, 1:-1] - wide[:-2, 1:-1] - wide[2:, 1:-1] - wide[1:-1, :-2] - wide[1:-1, 2:]


def _acuity(bands: Sequence[Levels]) -> float | None:
    """The rise of the strongest edges over a pixel, as a share of that over seven, along the second axis."""
    if bands[0].shape[1] <= _FAR:
        return None
    middle = _FAR // 2
    height = _strongest([differences(band[:, _FAR:], band[:, :-_FAR]) for band in bands])
    if height < _LEAST_LEVELS:
        return None
    step = _strongest(
        [differences(band[:, middle + 1 : middle + 1 - _FAR], band[:, middle : -_FAR + middle]) for band in bands]
    )
    return min(1.0, step / height)


def _strongest(rises: Sequence[Levels]) -> int:
    """The smallest rise that at most a share 1 - `_WEAKER` of all pass."""
    allowed = int((1 - _WEAKER) * sum(rise.size for rise in rises))
    low, high = 0, 255
    while low < high:
        middle = (low + high) // 2
        if sum(np.count_nonzero(rise > middle) for rise in rises) <= allowed:
            high = middle
        else:
            low = middle + 1
    return low
