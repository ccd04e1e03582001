"""Idefics2's learned pooling: a gated MLP to the language model's width, then latents that look at a view.

Laurençon et al. 2405.02246, 3.2 and `transformers`' Idefics2Connector. A view's padded patches are not looked at, so
that pictures keep their own aspect ratio.

Shapes: see `curate.models.features`; L latents a view, E width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.rasters import by_picture, check_one_tower
from curate.models.cross_attention import CrossAttention
from curate.models.features import Features, TowerShape
from curate.settings import Settings

Count = Annotated[int, Field(ge=1)]


class Idefics2PoolingConfig(Settings):
    """Settings of the pooling. The defaults are the released checkpoint's.

    `hidden`: width within the first MLP; nothing: 3.5 times the language model's, which is that of Mistral 7B's own
    (14,336), where Idefics2 took it from.
    """

    type: Literal["idefics2_pooling"] = "idefics2_pooling"
    latents: Count = 64
    depth: Count = 3
    heads: Count = 16
    head_width: Count = 96
    keys_heads: Count = 4
    hidden: Count | None = None

    @model_validator(mode="after")
    def _shared_heads(self) -> Idefics2PoolingConfig:
        if self.heads % self.keys_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of keys_heads {self.keys_heads}, which they share")
        return self

    def build(self, towers: Sequence[TowerShape], width: int) -> Idefics2Pooling:
        """The module. Raises ModelError for several towers."""
        return Idefics2Pooling(check_one_tower("idefics2_pooling", towers), width, self)


class Idefics2Pooling(nn.Module):
    """All vectors_MPD of a view to L latents of the language model's width, a view at a time.

    The latents begin as N(0, .02). In `transformers`' code they begin as ones: then all of a view's vectors are the
    same to the bit, and only the decoder's positions tell them apart.
    """

    def __init__(self, tower: TowerShape, width: int, config: Idefics2PoolingConfig) -> None:
        super().__init__()
        self.tower, self.views, self.places = tower, tower.views, tower.views * config.latents
        self.project = GatedMlp(tower.width, config.hidden or 7 * width // 2, width)
        self.latents_LE = nn.Parameter(torch.randn(config.latents, width) * 0.02)
        self.layers = nn.ModuleList(PoolingLayer(width, config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(width, eps=1e-6)

    def forward(self, towers: Sequence[Features]) -> Tensor:
        """vectors_NPE, a picture's views one after another."""
        x_MPE, there_MP = self.project(towers[0].x_MPD), towers[0].there_MP
        latents_MLE = self.latents_LE.to(x_MPE.dtype).expand(len(x_MPE), -1, -1)
        seen_M1S = None
        if there_MP is not None:
            seen_M1S = torch.cat((there_MP, there_MP.new_ones(latents_MLE.shape[:2])), 1).unsqueeze(1)
        for layer in self.layers:
            latents_MLE = layer(latents_MLE, x_MPE, seen_M1S)
        return by_picture(self.norm(latents_MLE), self.tower)


class PoolingLayer(nn.Module):
    """The latents look at the vectors and at each other, then a gated MLP of four times the width; each is added."""

    def __init__(self, width: int, config: Idefics2PoolingConfig) -> None:
        super().__init__()
        self.latents_norm = nn.RMSNorm(width, eps=1e-6)
        self.vectors_norm = nn.RMSNorm(width, eps=1e-6)
        self.attention = CrossAttention(width, width, config.heads, config.head_width, config.keys_heads)
        self.mlp_norm = nn.RMSNorm(width, eps=1e-6)
        self.mlp = GatedMlp(width, 4 * width, width)

    def forward(self, latents_MLE: Tensor, x_MPE: Tensor, seen_M1S: Tensor | None) -> Tensor:
        """latents_MLE after one layer."""
        queries_MLE = self.latents_norm(latents_MLE)
        joined_MSE = torch.cat((self.vectors_norm(x_MPE), queries_MLE), 1)
        latents_MLE = latents_MLE + self.attention(queries_MLE, joined_MSE, seen_M1S)
        y_MLE: Tensor = latents_MLE + self.mlp(self.mlp_norm(latents_MLE))
        return y_MLE


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer 2002.05202), without biases."""

    def __init__(self, inwards: int, hidden: int, outwards: int) -> None:
        super().__init__()
        self.gate = nn.Linear(inwards, hidden, bias=False)
        self.up = nn.Linear(inwards, hidden, bias=False)
        self.down = nn.Linear(hidden, outwards, bias=False)

    def forward(self, x_MPD: Tensor) -> Tensor:
        """y_MPE."""
        y_MPE: Tensor = self.down(F.silu(self.gate(x_MPD)) * self.up(x_MPD))
        return y_MPE
