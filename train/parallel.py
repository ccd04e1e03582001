"""An objective on the ranks of a run: whole on each (DDP) or in shards (FSDP2), compiled, recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from curate.models.files import ModelError
from train.config import RunConfig
from train.ranks import Ranks


def place(objective: nn.Module, settings: RunConfig, ranks: Ranks) -> None:
    """Move an objective to the rank's device and prepare its blocks, in place; names of parameters stay.

    Each block is a unit: what is recomputed, compiled, and gathered at once from the ranks' shards. Raises ModelError.
    """
    objective.to(ranks.device)
    for block in repeated_blocks(objective):
        if settings.recompute:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if settings.compile:
            block.compile()
    if settings.parallel == "fsdp" and ranks.world > 1:
        _shard(objective, ranks)
    else:
        objective.to(memory_format=torch.channels_last)


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The outermost blocks that a network repeats: two or more of one class in a row, with parameters of their own."""
    found: list[nn.Module] = []
    for child in module.children():
        members = list(child.children())
        alike = isinstance(child, nn.ModuleList | nn.Sequential) and len({type(member) for member in members}) == 1
        plain = any(isinstance(member, nn.ModuleList | nn.Sequential) for member in members)
        if alike and len(members) > 1 and not plain and any(True for _ in members[0].parameters()):
            found += members
        else:
            found += repeated_blocks(child)
    return found


class Parallel:
    """An objective as all ranks run it: forward, when gradients are exchanged, their norm."""

    def __init__(self, objective: nn.Module, ranks: Ranks, idle: bool) -> None:
        """`idle`: whether some parameters have no part in some steps."""
        self.objective = self.module = objective
        if ranks.world > 1 and not isinstance(objective, FSDPModule):
            self.module = DistributedDataParallel(objective, find_unused_parameters=idle)

    def __call__(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The objective's sum of losses on this rank."""
        loss: Tensor = self.module(batch)
        return loss

    def exchanging(self, wanted: bool) -> AbstractContextManager[Any]:
        """Exchange gradients between ranks in this part of a step, or leave it to a later one."""
        if isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(wanted)
        elif isinstance(self.module, DistributedDataParallel) and not wanted:
            return self.module.no_sync()
        return nullcontext()

    def clip(self, longest: float) -> float:
        """Shorten the whole gradient to `longest`; returns its norm before, the same on all ranks."""
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), longest)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _shard(objective: nn.Module, ranks: Ranks) -> None:
    """Shard every block, then what is left (FSDP2, `fully_shard`)."""
    for name, parameter in objective.named_parameters():
        if not parameter.ndim:
            raise ModelError(
                f"run.parallel: fsdp shards no scalars, and {name} is one; this network is small enough for ddp"
            )
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    for block in repeated_blocks(objective):
        fully_shard(block, mesh=mesh)
    fully_shard(objective, mesh=mesh)
