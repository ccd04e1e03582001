"""Attention of some vectors to others, without biases: what resamplers and gated blocks are made of.

Shapes: B batch, T vectors that look, D their width, S vectors looked at, C theirs, H heads, K width of a head.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["gelu", "squared_relu"]
"""Of a feed-forward: both public codes of Flamingo have GELU, the paper has the squared ReLU (So et al. 2109.08668)."""


class CrossAttention(nn.Module):
    """Attention with queries of one stream, keys and values of another; scale K^-1/2, no norm within.

    `keys_heads`: heads of keys and values, each of which serves several of the queries' (Ainslie et al. 2305.13245).
    """

    def __init__(self, width: int, context: int, heads: int, head_width: int, keys_heads: int | None = None) -> None:
        super().__init__()
        self.heads, self.keys_heads = heads, keys_heads or heads
        assert heads % self.keys_heads == 0
        self.q = nn.Linear(width, heads * head_width, bias=False)
        self.kv = nn.Linear(context, 2 * self.keys_heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, x_BTD: Tensor, context_BSC: Tensor, seen_BTS: Tensor | None = None) -> Tensor:
        """y_BTD. `seen_BTS`: what each may look at, at least one thing (T or B may be 1: the same for all)."""
        q_BHTK = self.q(x_BTD).unflatten(2, (self.heads, -1)).transpose(1, 2)
        kv = self.kv(context_BSC).unflatten(2, (2, self.keys_heads, -1)).permute(2, 0, 3, 1, 4)
        k_BHSK, v_BHSK = kv.repeat_interleave(self.heads // self.keys_heads, dim=2)
        mask = None if seen_BTS is None else seen_BTS.unsqueeze(1)
        y_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=mask)
        y_BTD: Tensor = self.out(y_BHTK.transpose(1, 2).flatten(2))
        return y_BTD


class FeedForward(nn.Module):
    """LayerNorm, four times as wide and back, without biases."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.activation = activation

    def forward(self, x_BTD: Tensor) -> Tensor:
        """y_BTD, to be added to x."""
        x_BTF = self.up(self.norm(x_BTD))
        x_BTF = F.gelu(x_BTF) if self.activation == "gelu" else F.relu(x_BTF).square()
        y_BTD: Tensor = self.down(x_BTF)
        return y_BTD
