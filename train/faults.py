"""Faults of a run by name: losses that are not finite, spikes, memory that ends, batches beyond reason."""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.settings import SettingsError
from train.config import Config
from train.optim import Spikes
from train.prepare import PreparedObjective
from train.ranks import Ranks

SKIPPED = "skipped.{:05d}.jsonl"
"""Steps that were skipped or stopped the run: one file a rank, one line a step, with this rank's uids."""
TOLD = 4
"""Uids that stand in a message; all are in the file."""


class TrainError(RuntimeError):
    """A run that cannot go on; the message says at which step, why and what to do."""


@dataclass(frozen=True)
class StepFigures:
    """Figures of a step, the same on every rank: its loss, and the norm of its whole gradient before clipping."""

    step: int
    loss: float
    grad_norm: float


class SpikeGuard:
    """Tells for each step whether the weights may move. What it has seen is part of a checkpoint."""

    def __init__(self, rule: Spikes, out: Path, ranks: Ranks) -> None:
        self.rule, self.ranks = rule, ranks
        self.path = out / SKIPPED.format(ranks.rank)
        self.norms: list[float] = []
        self.skipped = self.in_a_row = 0

    def admits(self, figures: StepFigures, uids: Sequence[str]) -> bool:
        """Whether the step may be taken; one that may not is told, with its uids. Raises TrainError where runs stop."""
        if (fault := self._fault(figures)) is None:
            self.norms, self.in_a_row = [*self.norms, figures.grad_norm][-self.rule.window :], 0
            return True
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        self._record(figures, fault, uids)
        where = f"step {figures.step}: {fault}; its samples are in {self.path} ({', '.join(uids[:TOLD])}, ...)"
        if self.rule.action == "stop" or self.in_a_row > self.rule.most:
            row = f", the {self.in_a_row}th step in a row" if self.in_a_row > 1 else ""
            raise TrainError(
                f"{where}{row}; look at them, lower optim.lr, raise optim.warmup, use optim.precision=fp32, or say"
                " optim.spikes.action=skip; the last checkpoint is from before"
            )
        if self.ranks.is_first:
            sys.stderr.write(f"skipped {where}\n")
        return False

    def state_dict(self) -> dict[str, Any]:
        """The state: norms of the steps before, and how many were skipped."""
        return {"norms": self.norms, "skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.norms, self.skipped, self.in_a_row = list(state["norms"]), state["skipped"], state["in_a_row"]

    def _fault(self, figures: StepFigures) -> str | None:
        if not math.isfinite(figures.loss + figures.grad_norm):
            return f"the loss is {figures.loss} and the gradient's norm {figures.grad_norm}"
        if self.rule.times is None or len(self.norms) < self.rule.window:
            return None
        usual = statistics.median(self.norms)
        if figures.grad_norm <= self.rule.times * usual:
            return None
        return (
            f"the gradient's norm is {figures.grad_norm:.4g}, more than {self.rule.times:g} times the median"
            f" {usual:.4g} of the {self.rule.window} steps before"
        )

    def _record(self, figures: StepFigures, fault: str, uids: Sequence[str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = {"step": figures.step, "fault": fault, "uids": list(uids)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


@contextmanager
def told_of_memory(step: int, batch: Mapping[str, Tensor], config: Config, ranks: Ranks) -> Iterator[None]:
    """Say of memory that ends, which batch it was for and what to do. Raises TrainError."""
    try:
        yield
    except RuntimeError as err:
        if not isinstance(err, torch.OutOfMemoryError) and "can't allocate memory" not in str(err):
            raise
        shapes = ", ".join(
            f"{name} {' x '.join(map(str, value.shape))} {str(value.dtype).removeprefix('torch.')}"
            for name, value in sorted(batch.items())
        )
        raise TrainError(
            f"step {step}: out of memory on {ranks.device}, with a part of a batch on rank {ranks.rank} of {shapes};"
            f" raise optim.accumulate (now {config.optim.accumulate}), lower data.batch_size (now"
            f" {config.data.batch_size}) or the mixture's resolution or sequence, or say optim.precision=bf16 or"
            f" run.recompute=true ({str(err).splitlines()[0][:200]})"
        ) from err


def refuse_batch(config: Config, prepared: PreparedObjective, world: int) -> None:
    """Raise SettingsError for a batch that the mixture or this machine's memory cannot hold; nothing is read yet."""
    size, parts = config.data.batch_size, config.optim.accumulate
    samples = sum(source.samples for source in prepared.stages.mixture.manifest.datasets)
    if size > samples:
        raise SettingsError(
            f"data.batch_size: {size:,} is more than the {samples:,} samples of the mixture, each of which would come"
            " several times in a step; lower it, or mix more"
        )
    ahead, memory = config.run.prefetch + 1, _memory_bytes()
    wanted = size // parts // world * ahead * _sample_bytes(prepared)
    if wanted > memory:
        raise SettingsError(
            f"data.batch_size: {size:,} samples a step in {parts} part(s) on {world} rank(s), {ahead} parts of them in"
            f" memory at once, take {wanted / 1e9:,.0f} GB a rank at least, and this machine has {memory / 1e9:,.0f};"
            " lower it, or raise optim.accumulate"
        )


def _sample_bytes(prepared: PreparedObjective) -> int:
    """Bytes of a prepared sample, its pixels; of a pack, the tokens with what stands beside each: at least."""
    if prepared.packing:
        return prepared.packing.limits.tokens * 33
    return 3 * max(side for sides in prepared.stages.resolutions() for side in sides) ** 2


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
