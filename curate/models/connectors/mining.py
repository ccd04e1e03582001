"""Patch information mining: each vector of a picture asks a finer raster (Mini-Gemini, 2403.18814, 3.2).

The first tower gives the vectors (CLIP at 336 pixels, 24 x 24), the second a finer raster (a ConvNeXt's stages joined,
192 x 192): every vector owns the cell of it that lies under it. Of a whole and four tiles (5N), the first tower is
shown pixels (`split: {whole: first}`), and the second's raster of one large picture is cut and, for the whole, halved
(`split: {whole: first, of: features}`).

Shapes: M views, P vectors of a view, W vectors of a cell, D width of the first tower, E of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.rasters import by_picture, check_same_views, raster_of, windows_of
from curate.models.features import Features, TowerShape
from curate.models.files import ModelError
from curate.models.towers.rasters import joined
from curate.settings import Settings


class MiningConfig(Settings):
    """Settings of the mining. `cell`: vectors a side of a cell of the finer raster, 8 as published."""

    type: Literal["mining"] = "mining"
    cell: Annotated[int, Field(ge=1)] = 8

    def build(self, towers: Sequence[TowerShape], width: int) -> Mining:
        """The module. Raises ModelError for other than two towers, or where they see other numbers of views."""
        if len(towers) != 2:
            raise ModelError(
                f"connector mining: takes two towers, the second with the finer raster, and there are {len(towers)}"
            )
        check_same_views("mining", towers)
        return Mining(towers, self.cell, width)


class Mining(nn.Module):
    """Vectors of the first tower, each with what it found in its cell added, through LLaVA-1.5's MLP."""

    def __init__(self, towers: Sequence[TowerShape], cell: int, width: int) -> None:
        super().__init__()
        self.coarse, self.fine = towers
        self.cell = cell
        self.views = self.coarse.views
        self.places = self.views * self.coarse.grid[0] * self.coarse.grid[1]
        D = self.coarse.width
        self.q = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D))
        self.k = nn.Sequential(nn.LayerNorm(self.fine.width), nn.Linear(self.fine.width, D))
        self.v = nn.Sequential(nn.LayerNorm(self.fine.width), nn.Linear(self.fine.width, D))
        self.up, self.out = nn.Linear(D, width), nn.Linear(width, width)

    def forward(self, towers: Sequence[Features]) -> Tensor:
        """vectors_NPE, a picture's views one after another. What is found is added to the raw vector, not to q."""
        x_MPD, side = towers[0].x_MPD[:, self.coarse.class_vector :], towers[0].grid[0]
        cells_SWC = windows_of(joined([raster_of(towers[1], self.fine)], side * self.cell), side)
        x_MPD = x_MPD + self.mine(x_MPD.flatten(0, 1), cells_SWC).view_as(x_MPD)
        return by_picture(self.out(F.gelu(self.up(x_MPD))), self.coarse)

    def mine(self, x_SD: Tensor, cells_SWC: Tensor) -> Tensor:
        """Finding of each vector in its cell, by one head."""
        q_S1D, k_SWD, v_SWD = self.q(x_SD)[:, None], self.k(cells_SWC), self.v(cells_SWC)
        return F.scaled_dot_product_attention(q_S1D, k_SWD, v_SWD)[:, 0]
