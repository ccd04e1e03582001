"""AdamW, its groups and its learning rate, a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from train.config import Optim


def learning_rate(step: int, optim: Optim) -> float:
    """The learning rate of step `step` (from 0): linear to `lr` in `warmup` steps, then a cosine that ends at `lr *
    floor`.
    """
    peak = peak_rate(optim)
    if step < optim.warmup:
        return peak * (step + 1) / optim.warmup
    progress = (step - optim.warmup) / max(1, optim.steps - optim.warmup)
    height = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return peak * (optim.floor + (1 - optim.floor) * height)


def resolve_rate(optim: Optim, parameters: int | None) -> Optim:
    """Resolve the rate to a number; `parameters` are the language model's. Raises ValueError without one."""
    if optim.lr != "mm1":
        return optim
    if parameters is None:
        raise ValueError("optim.lr: mm1 is a law of the language model's size, and this objective has none")
    return optim.model_copy(update={"lr": law_rate(parameters)})


def peak_rate(optim: Optim) -> float:
    """The rate at the end of the warm-up."""
    assert optim.lr != "mm1"
    return optim.lr


def law_rate(parameters: int) -> float:
    """MM1's peak rate for a language model of so many parameters, embeddings aside (2403.09611, 3.3).

    exp(-0.4214 ln N - 0.5535), fitted on 9 million to 1.2 billion.
    """
    return math.exp(-0.4214 * math.log(parameters) - 0.5535)


def adamw(module: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """Make AdamW over what `module` trains: matrices decay; norms, biases and scales (fewer than two axes) do not.

    torch shrinks a weight by rate x decay a step. A decay that is independent of the rate follows its schedule alone
    (Loshchilov and Hutter 2019, as AXLearn has it): by rate / peak x decay.
    """
    wanted = [p for p in module.parameters() if p.requires_grad]
    decay = optim.weight_decay / (peak_rate(optim) if optim.decay_convention == "independent" else 1.0)
    groups = [
        {"params": [p for p in wanted if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in wanted if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=peak_rate(optim), betas=optim.betas, eps=optim.eps, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step, for every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
