"""A language model in plain torch: RMSNorm, rotary positions, SwiGLU or a mixture of experts.

It has the face that every decoder here has (`curate.models.languages.face`).

Shapes: B batch, T positions, D width, H heads, K width of a head, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.attention import Attend, attend_after, attend_within
from curate.models.experts import Experts, ExpertsConfig, SwiGlu
from curate.models.languages.face import Between
from curate.tokens.segments import PADDING


class Block(nn.Module):
    """Attention then a feed-forward, each after a norm and added to the stream (Touvron et al. 2023)."""

    def __init__(self, width: int, heads: int, depth: int, experts: ExpertsConfig | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width)
        self.mlp = SwiGlu(width) if experts is None else Experts(width, depth, experts)
        entries = [self.qkv, *([self.mlp.gate_up] if isinstance(self.mlp, SwiGlu) else [])]
        exits = [self.attention_out, *([self.mlp.down] if isinstance(self.mlp, SwiGlu) else [])]
        for linear in entries:
            nn.init.normal_(linear.weight, std=width**-0.5)
        for linear in exits:
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5 / math.sqrt(2 * depth))

    def forward(self, x_BTD: Tensor, angles: Tensor, attend: Attend) -> Tensor:
        """x_BTD after one block."""
        x_BTD = x_BTD + self._attend(self.attention_norm(x_BTD), angles, attend)
        y_BTD: Tensor = x_BTD + self.mlp(self.mlp_norm(x_BTD))
        return y_BTD

    def _attend(self, x_BTD: Tensor, angles: Tensor, attend: Attend) -> Tensor:
        B, T, D = x_BTD.shape
        q_BHTK, k_BHTK, v_BHTK = self.qkv(x_BTD).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y_BHTK = attend(rotate(q_BHTK, angles), rotate(k_BHTK, angles), v_BHTK)
        y_BTD: Tensor = self.attention_out(y_BHTK.transpose(1, 2).reshape(B, T, D))
        return y_BTD


class LanguageModel(nn.Module):
    """Embeddings in, logits out: what stands before the text (patches, say) is embedded by the caller.

    `causal`: a token sees nothing after itself; otherwise all of its document, and the model is an encoder.
    `experts`: which feed-forwards are mixtures. Width, `depth` and all else as `curate.models.languages.face` says.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        layers: int,
        heads: int,
        experts: ExpertsConfig | None = None,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.width, self.depth, self.causal = width, layers, causal
        self.embedding = nn.Embedding(vocab_size, width)
        mixed = [experts if experts is not None and experts.at(layer) else None for layer in range(layers)]
        self.blocks = nn.ModuleList(Block(width, heads, layers, here) for here in mixed)
        self.norm = nn.RMSNorm(width)
        self.head_width = width // heads
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self._there_BT: Tensor | None = None

    trained = frozenset({"language"})
    longest = 1 << 20  # rotary positions have no end

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """All of it is one part."""
        return {"language": list(self.parameters())}

    def embed(self, ids_BT: Tensor) -> Tensor:
        """x_BTD of ids."""
        x_BTD: Tensor = self.embedding(ids_BT)
        return x_BTD

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        between: Between | None = None,
    ) -> Tensor:
        """y_BTD of the last block, normed; `logits` turns it into scores."""
        angles = rotary_angles(x_BTD.shape[1], self.head_width, x_BTD.device)
        if positions_BT is not None:
            angles = angles[positions_BT].unsqueeze(1)
        attend = attend_within(segments_BT, self.causal)
        self._there_BT = None if segments_BT is None else segments_BT != PADDING
        return self._through(x_BTD, angles, [attend] * self.depth, between)

    def go_on(self, x_BTD: Tensor, seen: list[Any], between: Between | None = None) -> Tensor:
        """y_BTD of positions that follow those in `seen`, which is empty at first and grows by them.

        The first call takes any number of positions, later ones a single one.
        """
        if not seen:
            seen += [[] for _ in self.blocks]
        before = seen[0][0].shape[2] if seen[0] else 0
        angles = rotary_angles(before + x_BTD.shape[1], self.head_width, x_BTD.device)[before:]
        self._there_BT = None
        return self._through(x_BTD, angles, [attend_after(kept) for kept in seen], between)

    def logits(self, y_ND: Tensor) -> Tensor:
        """scores_NV, by the embedding's own vectors (tied: Press and Wolf 2017)."""
        return F.linear(y_ND, self.embedding.weight)

    def size(self) -> int:
        """Parameters, the embedding aside, and one expert of each mixture: MM1 trains it as the dense model."""
        whole = sum(p.numel() for p in self.parameters()) - self.embedding.weight.numel()
        return whole - sum(_spare(mixture) for mixture in self._mixtures())

    def extra_losses(self) -> Tensor | None:
        """The routers' losses of the last forward, weighed and summed over the layers; None without experts."""
        losses = [mixture.losses(self._there_BT) for mixture in self._mixtures()]
        return torch.stack(losses).sum() if losses else None

    def _through(self, x_BTD: Tensor, angles: Tensor, attends: list[Attend], between: Between | None) -> Tensor:
        for layer, (block, attend) in enumerate(zip(self.blocks, attends, strict=True)):
            x_BTD = block(x_BTD if between is None else between(layer, x_BTD), angles, attend)
        y_BTD: Tensor = self.norm(x_BTD if between is None else between(self.depth, x_BTD))
        return y_BTD

    def _mixtures(self) -> list[Experts]:
        return [module for module in self.modules() if isinstance(module, Experts)]


def _spare(mixture: Experts) -> int:
    """Parameters of a mixture that its dense model has not."""
    matrices = mixture.gate_up.numel() + mixture.down.numel()
    return mixture.router.weight.numel() + matrices - matrices // mixture.config.count


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
