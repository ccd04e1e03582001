"""Parameter groups: how each parameter is trained in each stage, and AdamW over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from curate.settings import unknown_message
from train.objectives.parts import Parted
from train.optim import Optim, ParameterGroup, peak_rate


class GroupError(ValueError):
    """Parts or parameters that settings name and the objective has not, or stages that name none."""


@dataclass(frozen=True)
class Treatment:
    """Treatment of a parameter: its rate after the warm-up (0: it is frozen), torch's decay, rows that alone train.

    torch shrinks a weight by rate x decay a step. A decay that is independent of the rate follows its schedule alone
    (Loshchilov and Hutter 2019, as AXLearn has it): by rate / peak x decay.
    """

    rate: float = 0.0
    decay: float = 0.0
    rows: tuple[int, ...] = ()


Plan = Mapping[str, tuple[Treatment, ...]]
"""By a parameter's name: its treatment in each stage."""


def plan(objective: Parted, optim: Optim, stages: Sequence[tuple[str, frozenset[str]]]) -> Plan:
    """Plan how every parameter is trained in `stages`, each its name and the parts that it trains. Raises GroupError.

    What belongs to no part (a logit scale) is trained in every stage. A group may only name parts and parameters that
    there are, and has something left to it by the groups before.
    """
    for name in optim.stages.keys() - {name for name, _ in stages}:
        raise GroupError("optim.stages: " + unknown_message("stage", name, [name for name, _ in stages]))
    part_of = {id(p): part for part, parameters in objective.parts().items() for p in parameters}
    found: dict[str, list[Treatment]] = {name: [] for name, _ in objective.named_parameters()}
    for stage, parts in stages:
        settings = optim.of_stage(stage)
        group_of = _assign_groups(objective, settings.groups)
        for name, parameter in objective.named_parameters():
            trains = part_of.get(id(parameter)) in (*parts, None)
            group = group_of.get(name, ParameterGroup(match=("*",)))
            found[name].append(_treatment(name, parameter, group, settings) if trains else Treatment())
        if not any(treatments[-1].rate for treatments in found.values()):
            raise GroupError(
                f"stage {stage!r} trains nothing: its parts are {sorted(parts)}, and groups freeze the rest"
            )
    _check_moves(objective, optim, found)
    return {name: tuple(treatments) for name, treatments in found.items()}


def match_names(objective: Parted, entries: Iterable[str], where: str) -> set[str]:
    """Names of the parameters that parts or patterns name. Raises GroupError for an entry that names none."""
    parts, named = objective.parts(), dict(objective.named_parameters())
    name_of, found = {id(p): name for name, p in named.items()}, set[str]()
    for entry in entries:
        matched = (
            {name_of[id(p)] for p in parts[entry]}
            if entry in parts
            else {name for name in named if fnmatchcase(name, entry)}
        )
        if not matched:
            raise GroupError(f"{where}: {unknown_message('part or parameter', entry, [*parts, *named])}")
        found |= matched
    return found


def adamw(objective: nn.Module, planned: Plan, optim: Optim) -> torch.optim.AdamW:
    """Make AdamW over what any stage trains: parameters of one treatment in all stages are a group of torch's."""
    alike: dict[tuple[Treatment, ...], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if any(treatment.rate for treatment in planned[name]):
            alike.setdefault(planned[name], []).append(parameter)
    groups = [{"params": parameters, "treatments": treatments} for treatments, parameters in alike.items()]
    return torch.optim.AdamW(groups, lr=peak_rate(optim), betas=optim.betas, eps=optim.eps, fused=True)


def train_stage(objective: nn.Module, planned: Plan, stages: Sequence[int]) -> None:
    """Train what any of these stages trains from now on, and nothing else."""
    for name, parameter in objective.named_parameters():
        parameter.requires_grad_(any(planned[name][stage].rate for stage in stages))
    objective.train(objective.training)


def set_rates(optimizer: torch.optim.Optimizer, stage: int, height: float) -> None:
    """Set rates and decay of the next step: those of the stage, at a height of the schedule."""
    for group in optimizer.param_groups:
        treatment: Treatment = group["treatments"][stage]
        group["lr"], group["weight_decay"] = treatment.rate * height, treatment.decay


def clear_other_rows(optimizer: torch.optim.Optimizer, stage: int) -> None:
    """Zero the gradients of rows that do not train (as OpenFlamingo does): without decay, AdamW leaves them alone."""
    for group in optimizer.param_groups:
        if rows := group["treatments"][stage].rows:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(_kept_rows(parameter, rows))


def _kept_rows(parameter: Tensor, rows: tuple[int, ...]) -> Tensor:
    """1 in the rows that train and 0 in the others, as many axes as the parameter."""
    kept = torch.zeros(len(parameter), device=parameter.device, dtype=parameter.dtype)
    kept[list(rows)] = 1
    kept = kept.view(-1, *[1] * (parameter.ndim - 1))
    if isinstance(parameter, DTensor):
        return distribute_tensor(kept, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return kept


def _assign_groups(objective: Parted, groups: Sequence[ParameterGroup]) -> dict[str, ParameterGroup]:
    """The group of each parameter that has one: the first that matches it."""
    found: dict[str, ParameterGroup] = {}
    for number, group in enumerate(groups):
        where = f"optim.groups[{number}].match"
        mine = match_names(objective, group.match, where) - found.keys()
        if not mine:
            raise GroupError(f"{where}: groups before it have all that {', '.join(group.match)} names; put it first")
        found |= dict.fromkeys(sorted(mine), group)
        _check_rows(objective, mine, group, f"optim.groups[{number}].rows")
    return found


def _check_moves(objective: Parted, optim: Optim, found: Mapping[str, Sequence[Treatment]]) -> None:
    """Raise GroupError for a group with a rate for what no stage trains: it would say nothing."""
    for number, group in enumerate(optim.groups):
        where = f"optim.groups[{number}].match"
        names = match_names(objective, group.match, where) if group.lr != 0 else ()
        if names and not any(treatment.rate for name in names for treatment in found[name]):
            raise GroupError(
                f"{where}: {', '.join(group.match)} names things that no stage trains; name the part in the objective's"
                " settings or in a stage's `train`, or leave the group out"
            )


def _check_rows(objective: Parted, names: set[str], group: ParameterGroup, where: str) -> None:
    for name in sorted(names) if group.rows else ():
        count = len(objective.get_parameter(name)) if objective.get_parameter(name).ndim else 0
        for row in group.rows:
            if not -count <= row < count:
                raise GroupError(f"{where}: {name} has {count} rows, and there is no row {row}")


def _treatment(name: str, parameter: Tensor, group: ParameterGroup, optim: Optim) -> Treatment:
    """The treatment of a parameter by a group."""
    rate = peak_rate(optim) if group.lr is None else group.lr
    if not rate:
        return Treatment()
    decay = optim.weight_decay if group.decay is None else group.decay
    decays = group.decay_axes == "all" or (parameter.ndim >= 2 and name.rpartition(".")[2] != "bias")
    decay = decay if decays and not group.rows else 0.0
    return Treatment(rate, decay / rate if optim.decay_convention == "independent" else decay, group.rows)
