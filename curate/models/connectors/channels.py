"""Channels of all towers joined at one raster, then an MLP: Cambrian-1's baseline (Tong et al. 2406.16860, 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.rasters import by_picture, check_same_views, raster_of
from curate.models.features import Features, TowerShape
from curate.models.towers.rasters import joined
from curate.settings import Settings


class ChannelsConfig(Settings):
    """Settings of channel concatenation. `side`: vectors a side of a view; nothing: as many as the first tower has."""

    type: Literal["channels"] = "channels"
    side: Annotated[int, Field(ge=1)] | None = None

    def build(self, towers: Sequence[TowerShape], width: int) -> Channels:
        """The module. Raises ModelError for towers that see other numbers of views."""
        check_same_views("channels", towers)
        return Channels(towers, self.side or towers[0].grid[0], width)


class Channels(nn.Module):
    """Every tower's raster resized to one, joined by channel, a place at a time through LLaVA-1.5's MLP."""

    def __init__(self, towers: Sequence[TowerShape], side: int, width: int) -> None:
        super().__init__()
        self.towers, self.side = tuple(towers), side
        self.views, self.places = towers[0].views, towers[0].views * side * side
        self.up = nn.Linear(sum(tower.width for tower in towers), width)
        self.out = nn.Linear(width, width)

    def forward(self, towers: Sequence[Features]) -> Tensor:
        """vectors_NPE, a picture's views one after another."""
        rasters = [raster_of(found, shape) for found, shape in zip(towers, self.towers, strict=True)]
        x_MPD = joined(rasters, self.side).flatten(2).transpose(1, 2)
        return by_picture(self.out(F.gelu(self.up(x_MPD))), self.towers[0])
