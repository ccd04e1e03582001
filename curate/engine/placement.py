"""Settle what every model runs on: its device, precision and share of it, once, by the driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from curate.engine.hands import GpuShare
from curate.engine.workers import find_machine
from curate.models.devices import Device, Machine, Precision
from curate.recipe.steps import Placement, Resolved, ResolvedRecipe

SHARING = 2
"""Workers on a GPU whose memory holds them: one computes while the other reads what comes next and writes what came."""


@dataclass(frozen=True)
class Placed:
    """A recipe with its steps placed on a machine (of a cluster: on one of its machines with GPUs)."""

    resolved: ResolvedRecipe
    machine: Machine
    gpus: int

    def share(self, steps: Sequence[Resolved]) -> GpuShare | None:
        """Share of the GPUs for a worker of these steps, a stage; None where they run on the processor."""
        placement = steps[0].placement
        if placement.on_cpu:
            return None
        needed = sum(step.placement.memory_gb for step in steps)
        fitting = min(SHARING, int(self.machine.gpu_memory_gb / needed)) if self.machine.gpu_memory_gb else 1
        fraction = placement.gpu_fraction or 1 / max(1, fitting)
        share = GpuShare(max(1, self.gpus), fraction, placement.cpus or 1)
        return share if placement.cpus else replace(share, cpus=max(1, self.machine.cpus // share.workers))

    def warnings(self) -> list[str]:
        """A sentence for each step whose model runs on the processor though there is a GPU."""
        there = self.machine.gpus + self.machine.unseen
        fallen = [step for step in self.resolved.steps if _has_model(step) and step.placement.on_cpu]
        if not there or not fallen:
            return []
        names = ", ".join(step.label for step in fallen)
        gpus = f"{there} GPU{'s' * (there > 1)}"
        if self.machine.gpus and (self.gpus == 0 or all(s.resources.device == "cpu" for s in fallen)):
            return [f"{names}: on the CPU, as was asked for, though this machine has {gpus}"]
        return [
            f"{names}: ON THE CPU, though this machine has {gpus} that torch does not see: look at"
            " CUDA_VISIBLE_DEVICES, and at whether the torch that is installed is one for GPUs"
        ]


def place(resolved: ResolvedRecipe, workers: int) -> Placed:
    """Place every step with a model; `workers` on Ray, 0 for this process. The same answer whenever it is asked."""
    machine = Machine()
    resources = resolved.recipe.resources
    if any(_has_model(step) for step in resolved.steps):
        machine = find_machine(workers, resources.gpus)
    gpus = machine.gpus if resources.gpus is None else resources.gpus
    steps = tuple(_placed(step, machine, gpus) if _has_model(step) else step for step in resolved.steps)
    return Placed(replace(resolved, steps=steps), machine, gpus)


def _placed(step: Resolved, machine: Machine, gpus: int) -> Resolved:
    said, spec = step.resources, step.spec
    on_gpu = said.device == "cuda" or (said.device == "auto" and gpus > 0)
    precision: Precision = step.knobs.get("precision", getattr(spec.knobs.get("precision"), "default", "float32"))
    if precision == "auto" and on_gpu:  # of GPUs that the driver does not see, it is believed: those of our days do
        precision = "bfloat16" if machine.bfloat16 or not machine.gpus else "float32"
    device = Device("cuda" if on_gpu else "cpu")
    device = replace(device, precision=device.settle(precision))
    batch = said.batch or spec.device_batch if on_gpu and spec.device_batch else None
    placement = Placement(device, said.memory_gb or spec.memory_gb, said.gpu_fraction, said.cpus, batch)
    return replace(step, knobs={**step.knobs, "device": device}, placement=placement)


def _has_model(step: Resolved) -> bool:
    return step.spec.runs_on == "accelerator"
