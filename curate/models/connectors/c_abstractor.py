"""C-Abstractor: convolutions that keep a picture's layout, and a pooling between them to a fixed raster.

Honeybee (Cha et al. 2312.06742, 3.2), by which MM1 (2403.09611) has 144 vectors a picture. As in Honeybee's code: the
learnt positions are added first, without a norm before, and the class vector is left out.

Shapes: see `curate.models.features`; H x W of the tower's raster, C hidden channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from curate.extras import require
from curate.models.connectors.rasters import Square, by_picture, check_one_tower, check_raster, raster_of
from curate.models.features import Features, TowerShape
from curate.settings import Settings


class CAbstractorConfig(Settings):
    """Settings of the C-Abstractor. The defaults are Honeybee's, of 144 vectors.

    `vectors`: of a view, a square number. `depth`: blocks before the pooling, and as many after it.
    """

    type: Literal["c_abstractor"] = "c_abstractor"
    vectors: Square = 144
    hidden: Annotated[int, Field(ge=4)] = 1024
    depth: Annotated[int, Field(ge=1)] = 3

    def build(self, towers: Sequence[TowerShape], width: int) -> CAbstractor:
        """The module. Raises ModelError for several towers, or rasters of many sizes."""
        return CAbstractor(check_raster("c_abstractor", check_one_tower("c_abstractor", towers)), width, self)


class CAbstractor(nn.Module):
    """Vectors_MPD of one tower to vectors_NPE: positions, RegNet blocks, average pooling, RegNet blocks, an MLP.

    Of another raster than it was built for, the positions are interpolated (bicubic), as those of towers are.
    """

    def __init__(self, tower: TowerShape, width: int, config: CAbstractorConfig) -> None:
        super().__init__()
        self.tower, self.side = tower, math.isqrt(config.vectors)
        self.views, self.places = tower.views, tower.views * config.vectors
        self.positions_DHW = nn.Parameter(torch.empty(tower.width, *tower.grid))
        nn.init.trunc_normal_(self.positions_DHW, std=0.02)
        self.before = regnet_stage(config.depth, tower.width, config.hidden)
        self.after = regnet_stage(config.depth, config.hidden, config.hidden)
        self.mlp = nn.Sequential(nn.Linear(config.hidden, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, towers: Sequence[Features]) -> Tensor:
        """vectors_NPE, a picture's views one after another."""
        x_MDHW = raster_of(towers[0], self.tower)
        x_MDHW = x_MDHW + self._positions(towers[0].grid).to(x_MDHW.dtype)
        x_MCHW = F.adaptive_avg_pool2d(self.before(x_MDHW), self.side)
        x_MPC = self.after(x_MCHW).flatten(2).transpose(1, 2)
        return by_picture(self.mlp(x_MPC), self.tower)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        if grid == self.tower.grid:
            return self.positions_DHW
        return F.interpolate(self.positions_DHW[None], grid, mode="bicubic", antialias=True)[0]


def regnet_stage(depth: int, inwards: int, outwards: int) -> nn.Module:
    """RegNet's bottlenecks (Radosavovic et al. 2003.13678) of equal widths within, at stride 1.

    Depthwise 3 x 3 convolutions, squeeze-and-excitation to a quarter, SiLU; a LayerNorm over the channels of each
    position in place of batch norm, so that a picture's vectors do not hang on its batch.
    """
    require("connector c_abstractor", "timm")
    from timm.layers.norm import LayerNorm2d
    from timm.models.regnet import RegStage

    stage: nn.Module = RegStage(
        depth, inwards, outwards, stride=1, dilation=1, group_size=1, act_layer=nn.SiLU, norm_layer=LayerNorm2d
    )
    return stage
