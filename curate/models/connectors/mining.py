"""Patch information mining: each vector of a picture asks a finer look at its own cell (Mini-Gemini, 2403.18814, 3.2).

The first tower gives the vectors (CLIP at 336 pixels, 24 x 24), the second a finer raster (a ConvNeXt's stages joined,
192 x 192): every vector owns the cell of it that lies under it. With the picture's whole and its tiles before the first
tower, five views, the finer raster is twice as large, cut alike for the tiles and halved for the whole (5N).

Shapes: M views, P vectors of a view, W vectors of a cell, D width of the first tower, E of the language model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.rasters import by_picture, raster_of
from curate.models.connectors.windows import resized, windows_of
from curate.models.features import Features, TowerShape
from curate.models.files import ModelError
from curate.settings import Settings


class MiningConfig(Settings):
    """Settings of the mining. `cell`: vectors a side of a cell of the finer raster, 8 as published.

    `whole`: whether the view that shows all of the picture stands before its tiles (Mini-Gemini) or behind them.
    """

    type: Literal["mining"] = "mining"
    cell: int = 8
    whole: Literal["first", "last"] = "first"

    def build(self, towers: Sequence[TowerShape], width: int) -> Mining:
        """The module. Raises ModelError for other than two towers, and views that are not a whole and its tiles."""
        if len(towers) != 2:
            raise ModelError(
                f"connector mining: takes two towers, the second with the finer raster, and there are {len(towers)}"
            )
        tiles = math.isqrt(towers[0].views - 1)
        if towers[1].views != 1 or tiles**2 + 1 != towers[0].views:
            raise ModelError(
                f"connector mining: its first tower sees {towers[0].views} views and its second {towers[1].views}; it"
                " takes 1 and 1, or a whole with its tiles (1 + 4) and 1"
            )
        return Mining(towers, max(tiles, 1), width, self)


class Mining(nn.Module):
    """Vectors of the first tower, each with what it found in its cell added, through LLaVA-1.5's MLP."""

    def __init__(self, towers: Sequence[TowerShape], tiles: int, width: int, config: MiningConfig) -> None:
        super().__init__()
        self.coarse, self.fine = towers
        self.tiles, self.cell, self.whole = tiles, config.cell, config.whole
        self.places = self.coarse.views * self.coarse.grid[0] ** 2
        D = self.coarse.width
        self.q = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D))
        self.k = nn.Sequential(nn.LayerNorm(self.fine.width), nn.Linear(self.fine.width, D))
        self.v = nn.Sequential(nn.LayerNorm(self.fine.width), nn.Linear(self.fine.width, D))
        self.up, self.out = nn.Linear(D, width), nn.Linear(width, width)

    def forward(self, towers: Sequence[Features]) -> Tensor:
        """vectors_NPE, a picture's views one after another. What is found is added to the raw vector, not to q."""
        x_MPD = towers[0].x_MPD[:, self.coarse.class_vector :]
        cells = self.cells(towers[1], towers[0].grid[0])
        x_MPD = x_MPD + self.mine(x_MPD.flatten(0, 1), cells).view_as(x_MPD)
        return by_picture(self.out(F.gelu(self.up(x_MPD))), self.coarse)

    def mine(self, x_SD: Tensor, cells_SWD: Tensor) -> Tensor:
        """What each vector finds in its cell, by one head."""
        q_S1D, k_SWD, v_SWD = self.q(x_SD)[:, None], self.k(cells_SWD), self.v(cells_SWD)
        return F.scaled_dot_product_attention(q_S1D, k_SWD, v_SWD)[:, 0]

    def cells(self, fine: Features, side: int) -> Tensor:
        """The cells of all vectors of all views, one view after another, each row by row: (M P) x W x D."""
        x_NDHW = resized(raster_of(fine, self.fine), self.tiles * side * self.cell)
        if self.tiles == 1:
            return windows_of(x_NDHW, side)
        N, D, _, _ = x_NDHW.shape
        whole_N1DHW = resized(x_NDHW, side * self.cell)[:, None]
        tile_px, tiles = side * self.cell, self.tiles
        x_NTDHW = x_NDHW.reshape(N, D, tiles, tile_px, tiles, tile_px).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        views = (whole_N1DHW, x_NTDHW) if self.whole == "first" else (x_NTDHW, whole_N1DHW)
        return windows_of(torch.cat(views, 1).flatten(0, 1), side)
