"""The training loop: steps with metrics, checkpoints and an exact resume.

Randomness inside a step (dropout) is keyed by (seed, step, rank), so a resumed step draws what it would have drawn;
on a CPU with the same number of threads and ranks, a killed and resumed run ends in the same bits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from curate.stream.stages import Stages
from curate.stream.stream import Batch, ReadOptions, Share, Stream
from train import checkpoint, faults, groups, optim, prepare
from train.checkpoint import TrainProgress
from train.config import Config, digest, trained_settings
from train.faults import SpikeGuard, StepFigures
from train.metrics import METRICS, Metrics, Served, last_loss
from train.models.dual_encoder import DualEncoder, build
from train.objectives.choice import Objective
from train.objectives.multimodal import MultimodalObjective
from train.parallel import Parallel
from train.prepare import PreparedObjective
from train.ranks import Ranks
from train.start import load_start


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: its dual encoder, the objective that holds all weights, the summary that is printed."""

    clip: DualEncoder
    objective: Objective
    summary: dict[str, Any]


def run(config: Config, manifest: Path, out: Path, ranks: Ranks) -> Outcome:
    """Train to the last step, from the newest checkpoint below `out` if there is one. Raises ValueError, TrainError."""
    torch.set_num_threads(config.run.cpu_threads)
    torch.manual_seed(config.seed)
    clip = build(config.model)
    prepared = prepare.build(config, clip, manifest)
    faults.refuse_batch(config, prepared, ranks.world)
    settings, part = config.run, config.data.batch_size // config.optim.accumulate
    cache = Path(settings.cache) if settings.cache else None
    options = ReadOptions(
        settings.decode_threads, settings.prefetch, config.data.max_unreadable, cache, round(settings.cache_gb * 1e9)
    )
    stream = Stream(manifest, part, prepared.prepare, Share(ranks.rank, ranks.world), options, prepared.packing)
    try:
        trainer = Trainer(config, ranks, out, prepared, stream)
        summary = trainer.train()
    finally:
        stream.close()
    if checkpoint.is_sharded(prepared.objective):
        return _unsharded(config, manifest, prepared.objective, summary)
    return Outcome(clip, prepared.objective, summary)


class Trainer:
    """One run's moving parts. The step is the only clock; everything else follows from it."""

    def __init__(self, config: Config, ranks: Ranks, out: Path, prepared: PreparedObjective, stream: Stream) -> None:
        self.config, self.ranks, self.out, self.stream = config, ranks, out, stream
        self.objective, self.stages, self.step, self.samples = prepared.objective, prepared.stages, 0, 0
        self.checkpoints, self.trained = out / "checkpoints", trained_settings(config)
        self.served, self.guard = Served(stream.mixture, out, ranks), SpikeGuard(config.optim.spikes, out, ranks)
        self.settings = optim.resolve_rate(config.optim, law_size(self.objective))
        self.plan = groups.plan(self.objective, self.settings, parts_by_stage(self.objective, self.stages))
        self._start()
        groups.train_stage(self.objective, self.plan, range(len(self.stages.starts)))
        self.parallel = Parallel(self.objective, config.run, ranks, self.plan)
        self.optimizer = groups.adamw(self.objective, self.plan, self.settings)
        self.stage = -1
        self._resume()

    def train(self) -> dict[str, Any]:
        """Run all remaining steps, if any; returns the summary."""
        first, started = self.step, time.perf_counter()
        if first:
            over = f"step {first} was the last: nothing is left to do"
            self._say(over if self._is_over() else f"going on after step {first}, from {self.checkpoints}")
        if not self._is_over():
            self._run_steps()
        return self._summary(self.step - first, time.perf_counter() - started)

    def _run_steps(self) -> None:
        steps, options, position = self.config.optim.steps, self.config.run, self.stream.position
        metrics = Metrics(self.out, self.step, position, options.tensorboard) if self.ranks.is_first else None
        self.ranks.barrier()
        logged, since, over = time.perf_counter(), self.samples, False
        while not over:
            figures, rate = self.advance()
            over = self._is_over()
            if self.step % options.log_every == 0 or self.step == 1 or over:
                speed = (self.samples - since) / (time.perf_counter() - logged)
                line = self._line(figures, rate, speed)
                logged, since = time.perf_counter(), self.samples
                if metrics:
                    metrics.write(line, steps)
            if self.step % options.checkpoint_every == 0 or over:
                self._save()
        if metrics:
            metrics.close()
        if self.step < steps:
            self._say(f"the mixture ends at position {self.stream.mixture.manifest.end}: step {self.step} was the last")

    def _is_over(self) -> bool:
        """Whether the last step is done: of the run, or the last for which the mixture has samples."""
        return self.step >= self.config.optim.steps or not self.stream.has_batches(self.settings.accumulate)

    def advance(self) -> tuple[StepFigures, float]:
        """Take one optimizer step, or skip it where it is a spike: its figures and its learning rate."""
        position = self.stream.position
        self._enter(self.stages.number(position))
        torch.manual_seed(int(digest({"seed": self.config.seed, "step": self.step, "rank": self.ranks.rank})[:15], 16))
        batches = [self._next_batch() for _ in range(self.settings.accumulate)]
        height = optim.height(self.step, self.settings)
        groups.set_rates(self.optimizer, self.stage, height)
        loss = self._backward(batches, position)
        groups.clear_other_rows(self.optimizer, self.stage)
        norm = self.parallel.clip(self.settings.clip_norm)
        self.step += 1
        figures = StepFigures(self.step, self.ranks.sum([loss.item()])[0], norm)
        if self.guard.admits(figures, [uid for batch in batches for uid in batch.uids]):
            self.optimizer.step()
            self.objective.after_step()
        self.optimizer.zero_grad(set_to_none=True)
        stage = self.settings.of_stage(self.stages.mixture.manifest.stages[self.stage].name)
        return figures, optim.peak_rate(stage) * height

    def _backward(self, batches: Sequence[Batch], position: int) -> Tensor:
        """Gradients of a step, part by part; returns this rank's share of its loss.

        A source's losses are scaled by how many of them the whole step has, so that neither parts nor ranks matter.
        """
        device = self.ranks.device
        parts = [{k: v.to(device, non_blocking=True) for k, v in batch.tensors.items()} for batch in batches]
        counted = zip(*(self.objective.counts(part) for part in parts), strict=True)
        counts = self.ranks.sum([sum(of_source) for of_source in counted])
        scale = torch.tensor(self.stages.scale(position, counts), device=device)
        loss = torch.zeros((), device=device)
        for number, part in enumerate(parts):
            with (
                faults.told_of_memory(self.step + 1, part, self.config, self.ranks),
                self.parallel.exchanging(number == len(parts) - 1),
            ):
                with self._precision():
                    found = self.parallel({**part, "scale": scale})
                (found * self.ranks.world).backward()  # type: ignore[no-untyped-call]
            loss += found.detach()
        return loss

    def _enter(self, stage: int) -> None:
        """Train what the stage trains from now on, and nothing else."""
        if stage != self.stage:
            groups.train_stage(self.objective, self.plan, [stage])
        self.stage = stage

    def _next_batch(self) -> Batch:
        batch = next(self.stream)
        self.served.add(batch)
        self.samples += len(batch.positions)
        return batch

    def _precision(self) -> AbstractContextManager[Any]:
        if self.config.optim.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.ranks.device.type, dtype=torch.bfloat16)

    def _line(self, figures: StepFigures, rate: float, speed: float) -> dict[str, Any]:
        return {
            "step": self.step,
            "position": self.stream.position,
            "loss": figures.loss,
            "lr": rate,
            "grad_norm": figures.grad_norm,
            "skipped": self.guard.skipped,
            "samples_per_s": round(speed, 1),
            **self.served.report(self.step),
        }

    def _start(self) -> None:
        """Take the start weights, of a run that has no checkpoint of its own yet."""
        if self.config.start is not None and checkpoint.newest_checkpoint(self.checkpoints) is None:
            self._say(load_start(self.objective, self.config.start))

    def _resume(self) -> None:
        found = checkpoint.newest_checkpoint(self.checkpoints)
        if found is None:
            return
        progress = checkpoint.restore(found, self.objective, self.optimizer, self.trained, self.stream.can_resume)
        self.stream.load_state_dict(progress.stream)
        self.step = progress.step
        self.served.tally.load_state_dict(progress.served)
        self.guard.load_state_dict(progress.spikes)

    def _save(self) -> None:
        served = self.served.tally.sum_over_ranks(self.ranks.sum).state_dict()
        progress = TrainProgress(self.step, self.stream.state_dict(), served, self.guard.state_dict())
        state = vars(progress) | {"trained": self.trained}
        checkpoint.save(self.checkpoints, self.objective, self.optimizer, state, self.config.run.keep, self.ranks)

    def _summary(self, done: int, seconds: float) -> dict[str, Any]:
        newest = checkpoint.newest_checkpoint(self.checkpoints)
        return {
            "out": str(self.out),
            "steps": self.step,
            "steps_now": done,
            "loss": last_loss(self.out),
            "position": self.stream.position,
            **self.served.report(self.step),
            "samples_per_s": round(self.samples / seconds, 1) if done else None,
            "checkpoint": str(newest) if newest else None,
            "metrics": str(self.out / METRICS),
        }

    def _say(self, sentence: str) -> None:
        if self.ranks.is_first:
            sys.stderr.write(f"{sentence}\n")


def _unsharded(config: Config, manifest: Path, objective: Objective, summary: dict[str, Any]) -> Outcome:
    """The outcome with the whole weights, which the first rank alone is given; all call it together."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, clip = get_model_state_dict(objective, options=options), build(config.model)
    whole = prepare.build(config, clip, manifest).objective
    whole.load_state_dict(weights, strict=bool(weights))
    return Outcome(clip, whole, summary)


def law_size(objective: Objective) -> int | None:
    """The N of MM1's law: the language model's parameters, embeddings aside; None where there is no language model."""
    return objective.net.language.size() if isinstance(objective, MultimodalObjective) else None


def parts_by_stage(objective: Objective, stages: Stages) -> list[tuple[str, frozenset[str]]]:
    """Of each stage its name and the parts that it trains: those it says, or the objective's own."""
    return [
        (stage.name, objective.trained if stage.train is None else frozenset(stage.train))
        for stage in stages.mixture.manifest.stages
    ]
