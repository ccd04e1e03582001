"""Rasters of towers' vectors: resized, joined, cut, and which of their places show a padded picture.

Shapes: M views, D width, h x w raster, P = h x w.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from curate.image.views import tile_boxes


def joined(rasters: Sequence[Tensor], side: int | None) -> Tensor:
    """Rasters M x D x h x w, their channels joined at the size of the first, or at side x side.

    Bilinear, corners not aligned (Cambrian-1, Mini-Gemini).
    """
    size = (side, side) if side else (rasters[0].shape[2], rasters[0].shape[3])
    same = [
        x if tuple(x.shape[2:]) == size else F.interpolate(x, size, mode="bilinear", align_corners=False)
        for x in rasters
    ]
    return torch.cat(same, 1) if len(same) > 1 else same[0]


def cut_raster(x_MDhw: Tensor, tiles: int, whole: Literal["first", "last"]) -> Tensor:
    """A picture's raster as tiles x tiles of it, row by row, and the whole made as small as they are (Mini-Gemini).

    Raises ValueError for a raster that has not so many parts.
    """
    height, width = x_MDhw.shape[2:]
    if height % tiles or width % tiles:
        raise ValueError(f"a raster of {height} x {width} is not to be cut into {tiles} x {tiles}")
    cut = [x_MDhw[:, :, top:bottom, left:right] for top, left, bottom, right in tile_boxes((height, width), tiles)]
    small = F.interpolate(x_MDhw, (height // tiles, width // tiles), mode="bilinear", align_corners=False)
    return torch.stack([small, *cut] if whole == "first" else [*cut, small], 1).flatten(0, 1)


def there_in_square(size_M2: Tensor, side_px: int, grid: tuple[int, int]) -> Tensor:
    """there_MP of pictures in the middle of squares of `side_px`, `size_M2` their heights and widths there.

    As Cambrian-1 has it: of a side's places, so many whole ones as the picture fills, and half a place more where those
    left over are odd.
    """
    rows_Mh, columns_Mw = (_there_on_axis(size_M2[:, axis], side_px, length) for axis, length in enumerate(grid))
    return (rows_Mh[:, :, None] & columns_Mw[:, None, :]).flatten(1)


def _there_on_axis(size_M: Tensor, side_px: int, length: int) -> Tensor:
    beside_M1 = (length - size_M * length // side_px).div(2, rounding_mode="floor")[:, None]
    at_1L = torch.arange(length, device=size_M.device)[None]
    return (at_1L >= beside_M1) & (at_1L < length - beside_M1) & (size_M > 0)[:, None]
