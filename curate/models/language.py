"""A small language model in plain torch: RMSNorm, rotary positions, SwiGLU, one attention kernel.

Causal, unless a mask says otherwise.

Shapes: B batch, T positions, D width, H heads, K width of a head, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KeysValues = list[Tensor]
"""What a block keeps of positions that it has seen: nothing at first, then keys and values, BHTK each."""


class Block(nn.Module):
    """Attention then SwiGLU, each after a norm and added to the stream (Touvron et al. 2023)."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        hidden = 8 * math.ceil(width / 3)
        self.heads = heads
        self.attention_norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        for linear in (self.qkv, self.gate_up):
            nn.init.normal_(linear.weight, std=width**-0.5)
        for linear in (self.attention_out, self.down):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5 / math.sqrt(2 * depth))

    def forward(self, x_BTD: Tensor, angles: Tensor, mask: Tensor | None, seen: KeysValues | None = None) -> Tensor:
        """x_BTD after one block; with `seen`, of positions that come after those."""
        x_BTD = x_BTD + self._attend(self.attention_norm(x_BTD), angles, mask, seen)
        gate, up = self.gate_up(self.mlp_norm(x_BTD)).chunk(2, dim=-1)
        y_BTD: Tensor = x_BTD + self.down(F.silu(gate) * up)
        return y_BTD

    def _attend(self, x_BTD: Tensor, angles: Tensor, mask: Tensor | None, seen: KeysValues | None) -> Tensor:
        B, T, D = x_BTD.shape
        q_BHTK, k_BHTK, v_BHTK = self.qkv(x_BTD).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q_BHTK, k_BHTK = rotate(q_BHTK, angles), rotate(k_BHTK, angles)
        causal = mask is None
        if seen is not None:
            causal = not seen  # later, a single position sees all before it
            if seen:
                k_BHTK, v_BHTK = torch.cat((seen[0], k_BHTK), 2), torch.cat((seen[1], v_BHTK), 2)
            seen[:] = [k_BHTK, v_BHTK]
        y_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, attn_mask=mask, is_causal=causal)
        y_BTD: Tensor = self.attention_out(y_BHTK.transpose(1, 2).reshape(B, T, D))
        return y_BTD


class LanguageModel(nn.Module):
    """Embeddings in, logits out: what stands before the text (patches, say) is embedded by the caller."""

    def __init__(self, vocab_size: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(Block(width, heads, layers) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.width, self.depth, self.head_width = width, layers, width // heads
        nn.init.normal_(self.embedding.weight, std=width**-0.5)

    def embed(self, ids_BT: Tensor) -> Tensor:
        """x_BTD of tokens."""
        x_BTD: Tensor = self.embedding(ids_BT)
        return x_BTD

    def forward(self, x_BTD: Tensor, positions_BT: Tensor | None = None, mask_BTT: Tensor | None = None) -> Tensor:
        """y_BTD of the last block, normed; `logits` turns it into scores.

        Without positions and mask, a row is one sequence; with them, what they make of it (`curate.stream.packing`).
        """
        angles = rotary_angles(x_BTD.shape[1], self.head_width, x_BTD.device)
        if positions_BT is not None:
            angles = angles[positions_BT].unsqueeze(1)
        mask = None if mask_BTT is None else mask_BTT.unsqueeze(1)
        for block in self.blocks:
            x_BTD = block(x_BTD, angles, mask)
        y_BTD: Tensor = self.norm(x_BTD)
        return y_BTD

    def go_on(self, x_BTD: Tensor, seen: list[KeysValues]) -> Tensor:
        """y_BTD of positions that follow those in `seen`, one entry a block, which grows by them.

        The first call takes any number of positions, later ones a single one.
        """
        before = seen[0][0].shape[2] if seen[0] else 0
        assert not before or x_BTD.shape[1] == 1, "one position at a time"
        angles = rotary_angles(before + x_BTD.shape[1], self.head_width, x_BTD.device)[before:]
        for block, kept in zip(self.blocks, seen, strict=True):
            x_BTD = block(x_BTD, angles, None, kept)
        y_BTD: Tensor = self.norm(x_BTD)
        return y_BTD

    def logits(self, y_ND: Tensor) -> Tensor:
        """scores_NV, by the embedding's own vectors (tied: Press and Wolf 2017)."""
        return F.linear(y_ND, self.embedding.weight)

    def size(self) -> int:
        """Parameters, the embedding aside."""
        return sum(p.numel() for p in self.parameters()) - self.embedding.weight.numel()


def rotary_angles(length: int, head_width: int, device: torch.device) -> Tensor:
    """Compute angles as cosines then sines, TK: K/2 frequencies of base 10,000 (Su et al. 2021)."""
    frequencies = 10_000.0 ** (-torch.arange(0, head_width, 2, device=device) / head_width)
    angles = torch.outer(torch.arange(length, device=device).float(), frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def rotate(x_BHTK: Tensor, angles: Tensor) -> Tensor:
    """Rotate x_BHTK: each pair (k, k + K/2) by its position's angle; angles are TK, or B1TK."""
    cos, sin = angles.chunk(2, dim=-1)
    first, second = x_BHTK.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).type_as(x_BHTK)
