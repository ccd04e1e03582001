"""Tell pictures of few colours: of one, of greys, of little to see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from PIL.Image import Image

from curate.ops.quality._strips import entropy_bits, take_sample
from curate.ops.spec import Columns, op

_SIDE = 96
_BITS = 4
"""Colours are one where these highest bits of each channel are: JPEG leaves none quite alike."""

_COLOURS = {"grey_entropy_bits": pa.float32(), "commonest_colour_share": pa.float32(), "chroma_levels": pa.float32()}


@op(reads="image", writes=_COLOURS, version=1)
def colours(images: Sequence[Image]) -> Columns:
    """Entropy of the grey levels in bits, 0 to 8; the share of the commonest colour, 0 to 1; and the mean chroma.

    Of at most 96 x 96 pixels, taken at equal distances. Colours that agree in the upper 4 bits of each channel are one.
    `chroma_levels`: by how many levels of 256 the largest channel passes the smallest, in the mean over pixels: 0 of a
    grey picture.
    """
    rows = [_measure(image) for image in images]
    return {name: [row[place] for row in rows] for place, name in enumerate(_COLOURS)}


def _measure(image: Image) -> tuple[float, float, float]:
    sample = take_sample(image, _SIDE)
    red, green, blue = (np.asarray(channel).ravel() for channel in sample.split())
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    packed = (red >> _BITS).astype(np.int64) << 2 * _BITS | (green & 0xF0) | blue >> _BITS
    return (
        entropy_bits(sample.convert("L")),
        float(np.bincount(packed).max() / packed.size),
        float(chroma.sum(dtype=np.int64) / chroma.size),
    )
