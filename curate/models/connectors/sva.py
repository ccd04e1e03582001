"""The spatial vision aggregator: places of one raster look at what several towers see there.

Cambrian-1 (Tong et al. 2406.16860, 3.2).

A place's query looks at its own window of every tower at once; layers of the same kind may stand in the language model
too, where the picture's places ask again with what the decoder has made of them. Where paper and code differ, this
follows the code (one softmax over all towers' windows, the context the first tower's mean). Two things are ours:
pictures may stand anywhere in a sequence, not at one fixed place, and rows that show only padding are not cut away.

Shapes: N pictures, M views of them all, S = M x side x side places, W vectors of a tower's window, K of all towers'
windows together, D width of the aggregator, E of the language model, H heads, B x T a batch's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.rasters import check_same_views, raster_of, windows_of
from curate.models.features import Features, TowerShape
from curate.models.languages.face import Between
from curate.models.towers.rasters import joined
from curate.settings import Settings

Count = Annotated[int, Field(ge=1)]


class InsideConfig(Settings):
    """Layers in the language model: after its layers `start`, `start` + `stride` and so on, `layers` of them.

    Cambrian-1: 10 by 3 of an 8B, 10 by 4 of a 13B, 9 by 7 of a 34B.
    """

    start: Annotated[int, Field(ge=0)] = 0
    stride: Count = 3
    layers: Count = 10


class SvaConfig(Settings):
    """Settings of the aggregator."""

    type: Literal["sva"] = "sva"
    side: Count = 24
    """Places a side of a view."""
    groups: Count = 1
    """Queries of a place, each with layers of its own, joined by channel (the paper's G)."""
    layers: Count = 3
    """The paper's D."""
    width: Count = 1024
    heads: Count = 16
    newlines: bool = True
    """A learnt vector at the end of each row of places: 600 places of 24 x 24."""
    inside: InsideConfig | None = None

    def build(self, towers: Sequence[TowerShape], width: int) -> Sva:
        """The module. Raises ModelError for towers that see other numbers of views."""
        check_same_views("sva", towers)
        return Sva(towers, width, self)


class SvaLayer(nn.Module):
    """A query with the context looks at its windows, one softmax over all; what it found is added, by an MLP, to it.

    `width`: the queries'; `sides`: of each tower's windows, learnt positions where there is more than one vector.
    """

    def __init__(self, width: int, sides: Sequence[int], config: SvaConfig) -> None:
        super().__init__()
        D = config.width
        self.heads, self.sizes = config.heads, [side * side for side in sides]
        self.context, self.into = nn.Linear(D, D, bias=False), nn.Linear(width + D, D, bias=False)
        self.q = _normed_linear(D)
        self.k = nn.ModuleList(_normed_linear(D) for _ in sides)
        self.v = nn.ModuleList(_normed_linear(D) for _ in sides)
        self.positions = nn.ParameterDict(
            {str(n): torch.randn(side * side, D) for n, side in enumerate(sides) if side > 1}
        )
        self.found = nn.Linear(D, D, bias=False)
        self.norm = nn.LayerNorm(D)
        self.up, self.out = nn.Linear(D, D, bias=False), nn.Linear(D, width, bias=False)

    def forward(self, query_SE: Tensor, windows_SKD: Tensor) -> Tensor:
        """query_SE after the layer; the windows are those of `Sva.look`."""
        x_SKD, there_SK = windows_SKD[..., :-1], windows_SKD[:, 1:, -1] > 0
        x_SD = self.into(torch.cat((query_SE, self.context(x_SKD[:, 0])), 1))
        x_SD = self.norm(x_SD + self.found(self._look(self.q(x_SD), x_SKD[:, 1:], there_SK)))
        y_SE: Tensor = query_SE + self.out(F.gelu(self.up(x_SD)))
        return y_SE

    def _look(self, q_SD: Tensor, x_SKD: Tensor, there_SK: Tensor) -> Tensor:
        keys, values = [], []
        for number, x_SWD in enumerate(torch.split(x_SKD, self.sizes, 1)):
            if str(number) in self.positions:
                x_SWD = x_SWD + self.positions[str(number)]
            keys.append(self.k[number](x_SWD))
            values.append(self.v[number](x_SWD))
        q, k, v = (self._by_head(x_SKD) for x_SKD in (q_SD[:, None], torch.cat(keys, 1), torch.cat(values, 1)))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=there_SK[:, None, None]).flatten(1)

    def _by_head(self, x_SKD: Tensor) -> Tensor:
        S, K, D = x_SKD.shape
        return x_SKD.view(S, K, self.heads, D // self.heads).transpose(1, 2)


class Sva(nn.Module):
    """Features of several towers to places of a view, row by row, a newline's vector behind each row."""

    def __init__(self, towers: Sequence[TowerShape], width: int, config: SvaConfig) -> None:
        super().__init__()
        D, self.side, self.shapes = config.width, config.side, tuple(towers)
        self.sides = [max(1, min(tower.grid) // config.side) for tower in towers]
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(tower.width, D), nn.GELU(), nn.Linear(D, D), nn.LayerNorm(D)) for tower in towers
        )
        self.queries = nn.Parameter(torch.randn(config.groups, D) * D**-0.5)
        self.groups = nn.ModuleList(
            nn.ModuleList(SvaLayer(D, self.sides, config) for _ in range(config.layers)) for _ in range(config.groups)
        )
        self.up, self.out = nn.Linear(config.groups * D, width), nn.Linear(width, width)
        self.newline = nn.Parameter(torch.randn(width) * width**-0.5) if config.newlines else None
        inside = config.inside or InsideConfig()
        self.after = range(inside.start, inside.start + inside.stride * inside.layers, inside.stride)
        self.inside = (
            nn.ModuleList(SvaLayer(width, self.sides, config) for _ in self.after)
            if config.inside is not None
            else None
        )
        self.views = towers[0].views
        self.places = self.views * config.side * (config.side + config.newlines)

    def forward(self, towers: Sequence[Features]) -> Tensor:
        """vectors_NPE, a picture's views one after another."""
        return self.gather(self.look(towers))

    def look(self, towers: Sequence[Features]) -> Tensor:
        """windows_NSKD: what each of a picture's S places looks at, of all its views, at the aggregator's width.

        First the context, the mean of the first tower's vectors, then every tower's window, K - 1 vectors in all. A
        last number behind the D tells which of them are there.
        """
        found = []
        for features, shape, side, project in zip(towers, self.shapes, self.sides, self.towers, strict=True):
            x_MDHW = joined([raster_of(features, shape)], side * self.side)
            x_MDHW = project(x_MDHW.movedim(1, 3)).movedim(3, 1)
            found.append((x_MDHW, _there(features, shape, x_MDHW)))
        context_M1D = F.pad(found[0][0].mean((2, 3))[:, None], (0, 1), value=1.0)
        windows = [torch.cat((windows_of(x, self.side), _windows_there(there, self.side)), 2) for x, there in found]
        windows_SKD = torch.cat((context_M1D.repeat_interleave(self.side**2, 0), *windows), 1)
        return windows_SKD.view(-1, self.shapes[0].views * self.side**2, *windows_SKD.shape[1:])

    def gather(self, windows_NSKD: Tensor) -> Tensor:
        """vectors_NPE of what was looked at."""
        found, windows_SKD = [], windows_NSKD.flatten(0, 1)
        for query_D, layers in zip(self.queries, self.groups, strict=True):
            x_SD = query_D.expand(len(windows_SKD), -1)
            for layer in layers.children():
                x_SD = layer(x_SD, windows_SKD)
            found.append(x_SD)
        y_SE: Tensor = self.out(F.gelu(self.up(torch.cat(found, 1))))
        y_RSE = y_SE.reshape(-1, self.side, y_SE.shape[1])
        if self.newline is not None:
            y_RSE = torch.cat((y_RSE, self.newline.to(y_RSE.dtype).expand(len(y_RSE), 1, -1)), 1)
        return y_RSE.reshape(-1, self.places, y_SE.shape[1])

    def between(self, windows_NSKD: Tensor, pictured_BT: Tensor) -> Between:
        """The layers inside, as a language model calls them: what stands where pictures are looks at their windows.

        `pictured_BT`: the places of all pictures, in their order, newlines among them.
        """
        assert self.inside is not None
        inside = self.inside
        row_R = torch.arange(self.side + (self.newline is not None), device=pictured_BT.device) < self.side
        at = pictured_BT.flatten().nonzero()[:, 0].view(-1, len(row_R))[:, row_R].flatten()

        def layer_after(number: int, x_BTE: Tensor) -> Tensor:
            if number - 1 not in self.after or not len(at):
                return x_BTE
            x_TE = x_BTE.flatten(0, 1)
            y_SE = inside[self.after.index(number - 1)](x_TE[at], windows_NSKD.flatten(0, 1))
            return x_TE.index_copy(0, at, y_SE.to(x_TE.dtype)).reshape(x_BTE.shape)

        return layer_after


def _normed_linear(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width, bias=False))


def _there(found: Features, shape: TowerShape, x_MDHW: Tensor) -> Tensor:
    """Which of a raster's vectors show something of the picture, M1HW, at the size that it was resized to."""
    if found.there_MP is None:
        return torch.ones_like(x_MDHW[:, :1], dtype=torch.bool)
    there_M1HW = found.there_MP[:, shape.class_vector :].view(-1, 1, *found.grid)
    return F.interpolate(there_M1HW.float(), x_MDHW.shape[2:], mode="nearest").bool()


def _windows_there(there_M1HW: Tensor, side: int) -> Tensor:
    """there_SW1, 1 or 0; a window of which nothing is there is shown whole: a softmax over nothing is no number."""
    there_SW1 = windows_of(there_M1HW, side)
    return (there_SW1 | ~there_SW1.any(1, keepdim=True)).float()
