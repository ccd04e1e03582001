"""Two linear layers with a GELU between, a vector at a time (LLaVA-1.5, 2310.03744).

Averaged to a fixed raster first, every picture becomes as many vectors at any resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.rasters import Square, by_picture, cells_of, check_one_tower, check_raster
from curate.models.features import Features, TowerShape
from curate.settings import Settings


class MlpConfig(Settings):
    """Settings of the MLP. `vectors`: of a view, averaged from its own; nothing: one for each of them.

    `norm`: a LayerNorm before it, which LLaVA's has not.
    """

    type: Literal["mlp"] = "mlp"
    vectors: Square | None = None
    norm: bool = False

    def build(self, towers: Sequence[TowerShape], width: int) -> Mlp:
        """The module. Raises ModelError for several towers."""
        return Mlp(check_raster("mlp", check_one_tower("mlp", towers)), width, self)


class Mlp(nn.Module):
    """Vectors_MPD of one tower to vectors_NPE; the class vector, where there is one, is left out."""

    def __init__(self, tower: TowerShape, width: int, config: MlpConfig) -> None:
        super().__init__()
        self.tower = tower
        self.side = math.isqrt(config.vectors) if config.vectors else None
        self.views = tower.views
        self.places = tower.views * (config.vectors or tower.grid[0] * tower.grid[1])
        self.norm = nn.LayerNorm(tower.width) if config.norm else nn.Identity()
        self.up = nn.Linear(tower.width, width)
        self.out = nn.Linear(width, width)

    def forward(self, towers: Sequence[Features]) -> Tensor:
        """vectors_NPE, a picture's views one after another."""
        x_MPD = cells_of(towers[0], self.tower, self.side)
        return by_picture(self.out(F.gelu(self.up(self.norm(x_MPD)))), self.tower)
