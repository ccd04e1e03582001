"""Two linear layers with a GELU between, a patch at a time (LLaVA-1.5, Liu et al. 2023), or a cell of patches.

Averaged to a fixed raster first, every image becomes as many vectors at any resolution: MM1's average pooling
(2403.09611, 3.1).
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """x_BND to y_BNE; with `vectors`, a square number, to so many of them."""

    def __init__(self, width_in: int, width_out: int, vectors: int | None = None) -> None:
        super().__init__()
        self.side = math.isqrt(vectors) if vectors else None
        self.norm = nn.LayerNorm(width_in)
        self.up = nn.Linear(width_in, width_out)
        self.out = nn.Linear(width_out, width_out)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Vectors of the language model's width."""
        if self.side is not None:
            B, N, D = x_BND.shape
            x_BDHW = x_BND.transpose(1, 2).reshape(B, D, math.isqrt(N), -1)
            x_BND = F.adaptive_avg_pool2d(x_BDHW, self.side).flatten(2).transpose(1, 2)
        y_BNE: Tensor = self.out(F.gelu(self.up(self.norm(x_BND))))
        return y_BNE
