"""Describe a run before it starts: its parts and what trains them, a picture's places, a step, the first batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from curate.stream.stages import Stages
from curate.stream.stream import ReadOptions, Share, Stream
from train import faults, groups, optim, prepare
from train.config import Config
from train.groups import Plan
from train.loop import law_size, parts_by_stage
from train.models.dual_encoder import build
from train.objectives.choice import Objective


def describe(config: Config, manifest: Path) -> str:
    """Text of what a run would be; nothing is written. Raises ValueError for what the run would refuse."""
    torch.manual_seed(config.seed)
    prepared = prepare.build(config, build(config.model), manifest)
    faults.refuse_batch(config, prepared, 1)
    objective, stages = prepared.objective, prepared.stages
    settings = optim.resolve_rate(config.optim, law_size(objective))
    plan = groups.plan(objective, settings, parts_by_stage(objective, stages))
    size = config.data.batch_size // settings.accumulate
    options = ReadOptions(1, 1, config.data.max_unreadable)
    stream = Stream(manifest, size, prepared.prepare, Share(), options, prepared.packing)
    try:
        batch = next(stream)
    finally:
        stream.close()
    rows = [("part", "parameters", *_stage_names(stages)), *_parts(objective, plan)]
    unit = "packs" if prepared.packing else "samples"
    parts = f" in {settings.accumulate} parts" if settings.accumulate > 1 else ""
    return "\n".join(
        [
            *_table(rows),
            "",
            f"step    {config.data.batch_size} {unit}{parts}; {settings.steps} steps, {settings.schedule} from"
            f" {optim.peak_rate(settings):.3g} to {settings.floor * optim.peak_rate(settings):.3g} after"
            f" {settings.warmup} of warm-up, {settings.precision}",
            f"data    {len(stages.mixture.manifest.datasets)} sources, mode {stages.mixture.manifest.mode}",
            f"batch   {_shapes(batch.tensors)}",
        ]
    )


def _stage_names(stages: Stages) -> list[str]:
    return [stage.name for stage in stages.mixture.manifest.stages]


def _parts(objective: Objective, plan: Plan) -> list[tuple[str, ...]]:
    """A line a part: its parameters, and the rates after the warm-up at which they are trained in each stage."""
    name_of = {id(p): name for name, p in objective.named_parameters()}
    parts = {part: [name_of[id(p)] for p in found] for part, found in objective.parts().items()}
    rest = sorted(plan.keys() - {name for names in parts.values() for name in names})
    found = []
    for part, names in {**parts, **({"others": rest} if rest else {})}.items():
        count = sum(objective.get_parameter(name).numel() for name in names)
        stages = zip(*(plan[name] for name in names), strict=True)
        rates = [sorted({treatment.rate for treatment in stage}) for stage in stages]
        found.append(
            (part, f"{count:,}", *(", ".join(f"{r:.3g}" if r else "frozen" for r in stage) for stage in rates))
        )
    return found


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows if at < len(row)) for at in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(
        f"{name} {' x '.join(map(str, tensor.shape)) or 'one'}" for name, tensor in sorted(tensors.items())
    )
