"""One linear layer, a vector at a time (LLaVA, Liu et al. 2304.08485).

Averaged to a fixed raster first, every picture becomes as many vectors at any resolution: MM1's average pooling
(2403.09611, 3.1), 8 x 8 or 12 x 12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from curate.models.connectors.rasters import Square, by_picture, cells_of, check_one_tower, check_raster
from curate.models.features import Features, TowerShape
from curate.settings import Settings


class LinearConfig(Settings):
    """Settings of the layer. `vectors`: of a view, averaged from its own; nothing: one for each of them."""

    type: Literal["linear"] = "linear"
    vectors: Square | None = None

    def build(self, towers: Sequence[TowerShape], width: int) -> Linear:
        """The module. Raises ModelError for several towers."""
        return Linear(check_raster("linear", check_one_tower("linear", towers)), width, self)


class Linear(nn.Module):
    """Vectors_MPD of one tower to vectors_NPE; the class vector, where there is one, is left out."""

    def __init__(self, tower: TowerShape, width: int, config: LinearConfig) -> None:
        super().__init__()
        self.tower = tower
        self.side = math.isqrt(config.vectors) if config.vectors else None
        self.views = tower.views
        self.places = tower.views * (config.vectors or tower.grid[0] * tower.grid[1])
        self.out = nn.Linear(tower.width, width)

    def forward(self, towers: Sequence[Features]) -> Tensor:
        """vectors_NPE, a picture's views one after another."""
        return by_picture(self.out(cells_of(towers[0], self.tower, self.side)), self.tower)
