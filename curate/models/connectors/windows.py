"""Windows of rasters: what lies under each place of a coarser raster.

Shapes: M views, D width, S places a side, R vectors a side of a window.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def resized(x_MDHW: Tensor, side: int) -> Tensor:
    """The raster at `side` a side, bilinear without aligned corners (as Cambrian-1 and Mini-Gemini have it)."""
    if tuple(x_MDHW.shape[2:]) == (side, side):
        return x_MDHW
    return F.interpolate(x_MDHW.float(), (side, side), mode="bilinear", align_corners=False).to(x_MDHW.dtype)


def windows_of(x_MDHW: Tensor, side: int) -> Tensor:
    """The windows of a square raster under `side` x `side` places, both row by row: (M S S) x (R R) x D."""
    M, D, height, _ = x_MDHW.shape
    R = height // side
    assert R * side == height, "whole windows"
    x_MDSRSR = x_MDHW.reshape(M, D, side, R, side, R)
    return x_MDSRSR.permute(0, 2, 4, 3, 5, 1).reshape(M * side * side, R * R, D)
