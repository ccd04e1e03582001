"""AdamW, its groups and its learning rate; the rate is a pure function of the step, so nothing of it is saved."""

from __future__ import annotations

import math

import torch
from torch import nn

from train.config import Optim


def learning_rate(step: int, optim: Optim) -> float:
    """The rate of step `step` (from 0): linear to `lr` in `warmup` steps, then a cosine that ends at `lr * floor`."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    progress = (step - optim.warmup) / max(1, optim.steps - optim.warmup)
    height = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return optim.lr * (optim.floor + (1 - optim.floor) * height)


def adamw(module: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """AdamW over what `module` trains: matrices decay; norms, biases and scales (fewer than two axes) do not."""
    wanted = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in wanted if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in wanted if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step, for every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
