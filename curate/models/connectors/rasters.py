"""The rasters that towers' vectors lie in."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from curate.models.features import Features, TowerShape
from curate.models.files import ModelError


def check_one_tower(connector: str, towers: Sequence[TowerShape]) -> TowerShape:
    """The only tower. Raises ModelError where there are several."""
    if len(towers) != 1:
        raise ModelError(f"connector {connector}: takes one tower, and there are {len(towers)}; leave the others out")
    return towers[0]


def raster_of(found: Features, shape: TowerShape) -> Tensor:
    """x_MDHW of a tower's vectors, the class vector left out."""
    x_MPD = found.x_MPD[:, shape.class_vector :]
    return x_MPD.transpose(1, 2).reshape(len(x_MPD), -1, *found.grid)
