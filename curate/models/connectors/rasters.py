"""The rasters that towers' vectors lie in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional as F

from curate.models.features import Features, TowerShape
from curate.models.files import ModelError


def _square(value: int | None) -> int | None:
    if value is not None and math.isqrt(value) ** 2 != value:
        raise ValueError(f"{value} is no square number, and a picture's vectors are a square raster")
    return value


Square = Annotated[int, Field(ge=1), AfterValidator(_square)]
"""Vectors of a view that lie in a square."""


def check_one_tower(connector: str, towers: Sequence[TowerShape]) -> TowerShape:
    """The only tower. Raises ModelError where there are several."""
    if len(towers) != 1:
        raise ModelError(f"connector {connector}: takes one tower, and there are {len(towers)}; leave the others out")
    return towers[0]


def check_raster(connector: str, tower: TowerShape) -> TowerShape:
    """The tower. Raises ModelError where its rasters are of many sizes."""
    if tower.native:
        raise ModelError(
            f"connector {connector}: takes rasters of one size, and the tower's pictures keep their aspect ratio; take"
            " resampler, idefics2_pooling or qformer, or give the tower fit: square or pad"
        )
    return tower


def check_same_views(connector: str, towers: Sequence[TowerShape]) -> None:
    """Raise ModelError where towers see other numbers of views of a picture, or have rasters of many sizes."""
    for tower in towers:
        check_raster(connector, tower)
    if len(views := sorted({tower.views for tower in towers})) > 1:
        raise ModelError(f"connector {connector}: its towers see {views} views of a picture; give all the same")


def raster_of(found: Features, shape: TowerShape) -> Tensor:
    """x_MDHW of a tower's vectors, the class vector left out."""
    x_MPD = found.x_MPD[:, shape.class_vector :]
    return x_MPD.transpose(1, 2).reshape(len(x_MPD), -1, *found.grid)


def cells_of(found: Features, shape: TowerShape, side: int | None) -> Tensor:
    """x_MPD of a tower's vectors, the class vector left out; averaged to `side` x `side`, if that is given."""
    x_MDHW = raster_of(found, shape)
    if side is not None:
        x_MDHW = F.adaptive_avg_pool2d(x_MDHW, side)
    return x_MDHW.flatten(2).transpose(1, 2)


def by_picture(y_MPE: Tensor, shape: TowerShape) -> Tensor:
    """vectors_NPE: the vectors of a picture's views, one view after another."""
    return y_MPE.reshape(-1, shape.views * y_MPE.shape[1], y_MPE.shape[2])


def windows_of(x_MDHW: Tensor, side: int) -> Tensor:
    """Vectors under each of `side` x `side` places of a square raster, both row by row: (M side side) x (R R) x D."""
    M, D, height, _ = x_MDHW.shape
    R = height // side
    assert R * side == height, "whole windows"
    x_MDSRSR = x_MDHW.reshape(M, D, side, R, side, R)
    return x_MDSRSR.permute(0, 2, 4, 3, 5, 1).reshape(M * side * side, R * R, D)
