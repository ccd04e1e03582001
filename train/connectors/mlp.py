"""Two linear layers with a GELU between, a patch at a time (LLaVA-1.5, Liu et al. 2023)."""

from __future__ import annotations

from torch import Tensor, nn


class Mlp(nn.Module):
    """x_BND to y_BNE."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width_in)
        self.up = nn.Linear(width_in, width_out)
        self.out = nn.Linear(width_out, width_out)

    def forward(self, x_BND: Tensor) -> Tensor:
        """One vector of the language model's width a patch."""
        y_BNE: Tensor = self.out(nn.functional.gelu(self.up(self.norm(x_BND))))
        return y_BNE
