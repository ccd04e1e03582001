"""Flamingo's Perceiver resampler: learnt latents look at all vectors of a picture, or of all frames of a video.

Alayrac et al. 2204.14198, A.1.1. Keys and values are those of the vectors and the latents, joined: there it differs
from the Perceiver (Jaegle et al. 2103.03206).

Shapes: see `curate.models.features`; L latents, S vectors of all views of a picture, D their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.rasters import check_one_tower
from curate.models.cross_attention import Activation, CrossAttention, FeedForward
from curate.models.features import Features, TowerShape
from curate.settings import Settings

Count = Annotated[int, Field(ge=1)]


class ResamplerConfig(Settings):
    """Settings of the resampler. The defaults are OpenFlamingo's; Flamingo has 16 heads of 128 and the squared ReLU.

    `frames`: learnt time embeddings, one a view, for videos (Flamingo: 8); interpolated where there are more or fewer
    views, as Flamingo's at inference. Nothing: none.
    """

    type: Literal["resampler"] = "resampler"
    latents: Count = 64
    depth: Count = 6
    heads: Count = 8
    head_width: Count = 64
    activation: Activation = "gelu"
    frames: Count | None = None

    def build(self, towers: Sequence[TowerShape], width: int) -> Resampler:
        """The module. Raises ModelError for several towers."""
        return Resampler(check_one_tower("resampler", towers), width, self)


class Resampler(nn.Module):
    """All vectors of a picture, the class vector too where the tower gives one, to latents_NLE.

    It works at the tower's width; a linear layer follows where the language model's (or what looks at the latents) is
    another.
    """

    def __init__(self, tower: TowerShape, width: int, config: ResamplerConfig) -> None:
        super().__init__()
        self.tower, self.views, self.places = tower, 1, config.latents  # of all views together
        self.latents_LD = nn.Parameter(torch.randn(config.latents, tower.width))
        self.times_FD = nn.Parameter(torch.randn(config.frames, tower.width)) if config.frames else None
        self.layers = nn.ModuleList(ResamplerLayer(tower.width, config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(tower.width)
        self.out = nn.Identity() if width == tower.width else nn.Linear(tower.width, width, bias=False)

    def forward(self, towers: Sequence[Features]) -> Tensor:
        """latents_NLE."""
        x_MPD, views = towers[0].x_MPD, self.tower.views
        if self.times_FD is not None:
            times_VD = F.interpolate(self.times_FD.T[None], views, mode="linear")[0].T
            x_MPD = x_MPD + times_VD.to(x_MPD.dtype).repeat(len(x_MPD) // views, 1).unsqueeze(1)
        x_NSD = x_MPD.reshape(-1, views * x_MPD.shape[1], x_MPD.shape[2])
        latents_NLD = self.latents_LD.to(x_NSD.dtype).expand(len(x_NSD), -1, -1)
        seen_N1S = _seen(towers[0].there_MP, *latents_NLD.shape[:2])
        for layer in self.layers:
            latents_NLD = layer(latents_NLD, x_NSD, seen_N1S)
        latents_NLE: Tensor = self.out(self.norm(latents_NLD))
        return latents_NLE


class ResamplerLayer(nn.Module):
    """The latents look at the vectors and at each other, then the feed-forward; each is added."""

    def __init__(self, width: int, config: ResamplerConfig) -> None:
        super().__init__()
        self.vectors_norm = nn.LayerNorm(width)
        self.latents_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, width, config.heads, config.head_width)
        self.feed_forward = FeedForward(width, config.activation)

    def forward(self, latents_NLD: Tensor, x_NSD: Tensor, seen_N1S: Tensor | None) -> Tensor:
        """latents_NLD after one layer."""
        queries_NLD = self.latents_norm(latents_NLD)
        joined_NSD = torch.cat((self.vectors_norm(x_NSD), queries_NLD), 1)
        latents_NLD = latents_NLD + self.attention(queries_NLD, joined_NSD, seen_N1S)
        y_NLD: Tensor = latents_NLD + self.feed_forward(latents_NLD)
        return y_NLD


def _seen(there_MP: Tensor | None, pictures: int, latents: int) -> Tensor | None:
    """What the latents of each picture may look at, N1S: its vectors that show something, and all latents."""
    if there_MP is None:
        return None
    there_NS = there_MP.reshape(pictures, -1)
    return torch.cat((there_NS, there_NS.new_ones(pictures, latents)), 1).unsqueeze(1)
