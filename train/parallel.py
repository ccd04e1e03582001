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
from train.groups import Plan
from train.objectives.choice import Objective
from train.objectives.contrastive import ContrastiveObjective
from train.ranks import Ranks


class Parallel:
    """An objective as all ranks run it; moved, sharded, compiled in place, so that names of parameters stay.

    Each block is a unit: what is recomputed, compiled, and gathered at once from the ranks' shards.
    `plan` says what trains. Raises ModelError for what cannot be sharded.
    """

    def __init__(self, objective: Objective, settings: RunConfig, ranks: Ranks, plan: Plan) -> None:
        self.objective, self.ranks = objective.to(ranks.device), ranks
        self.module: nn.Module = objective
        self.idle: IdleParameters | None = None
        for block in repeated_blocks(objective):
            if settings.recompute:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
            if settings.compile:
                block.compile()
        if settings.parallel == "fsdp" and ranks.world > 1:
            _refuse_unshardable(objective, plan)
            self.idle = _shard(objective, ranks)
            return
        objective.to(memory_format=torch.channels_last)
        if ranks.world > 1:
            idle = not isinstance(objective, ContrastiveObjective) or any(len(set(told)) > 1 for told in plan.values())
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
        """Shorten the step's whole gradient to `longest`; returns its norm before, the same on all ranks."""
        if self.idle is not None:
            self.idle.clear(self.objective, self.ranks)
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), longest)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


class IdleParameters:
    """Keeps ranks in step that hold shards, where one of them has no images: all have gradients of the same parameters.

    A rank's loss gets nothing of each parameter that had no part in it; without, ranks would wait for each other for
    ever. A parameter that had no part on any rank has no gradient after all, and does not move: as on one rank.
    """

    def __init__(self, names: list[str]) -> None:
        self.names, self.used = names, set[str]()

    def __call__(self, objective: nn.Module, _: Any, loss: Tensor) -> Tensor:
        """The loss, as a hook of the objective's forward."""
        found = _leaves(loss)
        idle = [name for name in self.names if id(objective.get_parameter(name)) not in found]
        self.used |= set(self.names) - set(idle)
        return loss + sum(0.0 * objective.get_parameter(name).sum() for name in idle)

    def clear(self, objective: nn.Module, ranks: Ranks) -> None:
        """Take the gradients away of what had no part in the step. All ranks call it together."""
        users = ranks.sum([float(name in self.used) for name in self.names])
        for name, count in zip(self.names, users, strict=True):
            if not count:
                objective.get_parameter(name).grad = None
        self.used.clear()


def _leaves(loss: Tensor) -> set[int]:
    """What a loss was computed of: the identities of the tensors whose gradients it gives."""
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        for following, _ in node.next_functions if node is not None else ():
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return {id(node.variable) for node in seen if hasattr(node, "variable")}


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


def _refuse_unshardable(objective: nn.Module, plan: Plan) -> None:
    for name, parameter in objective.named_parameters():
        if not parameter.ndim:
            raise ModelError(
                f"run.parallel: fsdp shards no scalars, and {name} is one; this network is small enough for ddp"
            )
    for name, treatments in plan.items():
        if len({treatment.rate > 0 for treatment in treatments}) > 1:
            raise ModelError(
                f"run.parallel: fsdp trains the same from the first step to the last, and {name} is frozen in some"
                " stages only; use ddp, or a run a stage, each with `start` from the one before"
            )


def _shard(objective: Objective, ranks: Ranks) -> IdleParameters:
    """Shard the language model's blocks, then all that is left as one (FSDP2, `fully_shard`).

    Those blocks run in every step on every rank. A tower does not where a rank has no images, so that its blocks cannot
    be gathered by themselves: that takes all ranks.
    """
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    steady = {id(parameter) for parameter in objective.parts().get("language", ())}
    units = [block for block in repeated_blocks(objective) if all(id(p) in steady for p in block.parameters())]
    apart = {id(parameter) for block in units for parameter in block.parameters()}
    idle = IdleParameters([n for n, p in objective.named_parameters() if p.requires_grad and id(p) not in apart])
    objective.register_forward_hook(idle)
    for block in units:
        fully_shard(block, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    return idle
