"""The training loop: steps with metrics, checkpoints and an exact resume.

Randomness inside a step (dropout) is keyed by (seed, step, rank), so a resumed step draws what it would have drawn;
on a CPU with the same number of threads and ranks, a killed and resumed run ends in the same bits.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from curate import strict_json
from curate.commit import commit_text
from curate.extras import require
from curate.stream.served import ServedTally
from curate.stream.stages import Stages
from curate.stream.stream import ReadOptions, Share, Stream
from train import checkpoint, optim, prepare
from train.checkpoint import TrainProgress
from train.config import Config, Contrastive, digest, trained_settings
from train.models.dual_encoder import DualEncoder, build
from train.objectives.choice import Objective, set_trained
from train.objectives.multimodal import MultimodalObjective
from train.ranks import Ranks

METRICS = "metrics.jsonl"
UNREADABLE = "unreadable.{:05d}.jsonl"
"""Samples that were replaced: one file a rank, one line a sample."""


class TrainError(RuntimeError):
    """A run that cannot go on; the message says at which step, why and what to do."""


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
    objective = prepared.objective
    objective.to(ranks.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    part = config.data.batch_size // config.optim.accumulate
    settings = config.run
    cache = Path(settings.cache) if settings.cache else None
    options = ReadOptions(
        settings.decode_threads, settings.prefetch, config.data.max_unreadable, cache, round(settings.cache_gb * 1e9)
    )
    stream = Stream(manifest, part, prepared.prepare, Share(ranks.rank, ranks.world), options, prepared.packing)
    try:
        trainer = Trainer(config, ranks, out, objective, stream, prepared.stages)
        return Outcome(clip, objective, trainer.train())
    finally:
        stream.close()


class Trainer:
    """One run's moving parts. The step is the only clock; everything else follows from it."""

    def __init__(
        self,
        config: Config,
        ranks: Ranks,
        out: Path,
        objective: Objective,
        stream: Stream,
        stages: Stages,
    ) -> None:
        self.config, self.ranks, self.out = config, ranks, out
        self.objective, self.stream, self.stages = objective, stream, stages
        ever = {self._parts_at(start) for start in stages.starts}
        self.parts: frozenset[str] = frozenset()
        self._train(frozenset().union(*ever))
        size = objective.net.language.size() if isinstance(objective, MultimodalObjective) else None
        self.settings = optim.resolve_rate(config.optim, size)
        self.optimizer = optim.adamw(objective, self.settings)
        self.checkpoints = out / "checkpoints"
        self.trained = trained_settings(config)
        self.step = self.samples = 0
        self.tally = ServedTally(stream.mixture)
        self.alarmed: set[tuple[str, str]] = set()
        self._resume()
        self.parallel: nn.Module = objective
        if ranks.world > 1:
            idle = not isinstance(config.objective, Contrastive) or len(ever) > 1
            self.parallel = DistributedDataParallel(objective, find_unused_parameters=idle)

    def train(self) -> dict[str, Any]:
        """Run all remaining steps, if any; returns the summary."""
        first, started = self.step, time.perf_counter()
        if first and self.ranks.is_first:
            over = f"step {first} was the last: nothing is left to do"
            sys.stderr.write(
                f"{over if self._is_over() else f'going on after step {first}, from {self.checkpoints}'}\n"
            )
        if not self._is_over():
            self._run_steps()
        return self._summary(first, time.perf_counter() - started)

    def _run_steps(self) -> None:
        steps, options = self.config.optim.steps, self.config.run
        metrics = (
            Metrics(self.out, self.step, self.stream.position, options.tensorboard) if self.ranks.is_first else None
        )
        self.ranks.barrier()
        logged, since, over = time.perf_counter(), self.samples, False
        while not over:
            loss, norm, rate = self.advance()
            over = self._is_over()
            logs = self.step % options.log_every == 0 or self.step == 1 or over
            saves = self.step % options.checkpoint_every == 0 or over
            if logs or saves:
                self._check(loss, norm)
            if logs:
                speed = (self.samples - since) / (time.perf_counter() - logged)
                line = self._line(loss, norm, rate, speed)
                logged, since = time.perf_counter(), self.samples
                if metrics:
                    metrics.write(line, steps)
            if saves:
                self._save()
        if metrics:
            metrics.close()
            if self.step < steps:
                sys.stderr.write(
                    f"the mixture ends at position {self.stream.mixture.manifest.end}: step {self.step} was the last\n"
                )

    def _is_over(self) -> bool:
        """Whether the last step is done: of the run, or the last for which the mixture has samples."""
        return self.step >= self.config.optim.steps or not self.stream.has_batches(self.settings.accumulate)

    def advance(self) -> tuple[Tensor, Tensor, float]:
        """Take one optimizer step: (loss, gradient norm before clipping, learning rate)."""
        settings, position = self.settings, self.stream.position
        self._train(self._parts_at(position))
        torch.manual_seed(int(digest({"seed": self.config.seed, "step": self.step, "rank": self.ranks.rank})[:15], 16))
        batches = [self._next_batch() for _ in range(settings.accumulate)]
        counted = zip(*(self.objective.counts(batch) for batch in batches), strict=True)
        counts = self.ranks.sum([sum(of_source) for of_source in counted])
        scale = torch.tensor(self.stages.scale(position, counts), device=self.ranks.device)
        rate = optim.learning_rate(self.step, settings)
        optim.set_rate(self.optimizer, rate)
        loss = torch.zeros((), device=self.ranks.device)
        for number, tensors in enumerate(batches):
            with self._without_sync(number < len(batches) - 1), self._precision():
                part = self.parallel({**tensors, "scale": scale})
            with self._without_sync(number < len(batches) - 1):
                (part * self.ranks.world).backward()
            loss += part.detach()
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.after_step()
        self.step += 1
        return loss, norm, rate

    def _parts_at(self, position: int) -> frozenset[str]:
        """The parts that are trained in the stage at a position."""
        names = self.stages.trained(position)
        return self.objective.trained if names is None else names

    def _train(self, parts: frozenset[str]) -> None:
        """Train these parts from now on, and no others."""
        if parts != self.parts:
            set_trained(self.objective, parts)
        self.parts = parts

    def _next_batch(self) -> dict[str, Tensor]:
        batch = next(self.stream)
        self.tally.add(batch)
        self.samples += len(batch.positions)
        if batch.replaced:
            with (self.out / UNREADABLE.format(self.ranks.rank)).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(vars(r), ensure_ascii=False) + "\n" for r in batch.replaced)
        return {name: value.to(self.ranks.device, non_blocking=True) for name, value in batch.tensors.items()}

    def _without_sync(self, wanted: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged between ranks only with a step's last part."""
        if wanted and isinstance(self.parallel, DistributedDataParallel):
            return self.parallel.no_sync()
        return nullcontext()

    def _precision(self) -> AbstractContextManager[Any]:
        if self.config.optim.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.ranks.device.type, dtype=torch.bfloat16)

    def _line(self, loss: Tensor, norm: Tensor, rate: float, speed: float) -> dict[str, Any]:
        return {
            "step": self.step,
            "position": self.stream.position,
            "loss": self.ranks.sum([loss.item()])[0],
            "lr": rate,
            "grad_norm": norm.item(),
            "samples_per_s": round(speed, 1),
            **self._served(),
        }

    def _served(self) -> dict[str, Any]:
        """What all ranks were served since position 0, by source, and the alarms; each alarm is said the first time."""
        whole = self.tally.sum_over_ranks(self.ranks.sum)
        alarms = whole.find_alarms()
        for alarm in alarms:
            if self.ranks.is_first and (alarm.source, alarm.promise) not in self.alarmed:
                sys.stderr.write(f"alarm at step {self.step}: {alarm.text}\n")
            self.alarmed.add((alarm.source, alarm.promise))
        packs = {"padding_waste": whole.padding_waste} if whole.tokens_room else {}
        return {**packs, "served": whole.report(), "alarms": [alarm.text for alarm in alarms]}

    def _check(self, loss: Tensor, norm: Tensor) -> None:
        """Stop before anything that is not finite is logged or saved."""
        if self.ranks.sum([float(not math.isfinite(loss.item() + norm.item()))])[0]:
            raise TrainError(
                f"step {self.step}: the loss is {loss.item()} and the gradient's norm {norm.item()}; lower optim.lr,"
                " raise optim.warmup, or use optim.precision=fp32; the last checkpoint is from before"
            )

    def _resume(self) -> None:
        found = checkpoint.newest_checkpoint(self.checkpoints)
        if found is None:
            return
        progress = checkpoint.restore(found, self.objective, self.optimizer, self.trained, self.stream.can_resume)
        self.stream.load_state_dict(progress.stream)
        self.step = progress.step
        self.tally.load_state_dict(progress.served)

    def _save(self) -> None:
        served = self.tally.sum_over_ranks(self.ranks.sum).state_dict()
        if self.ranks.is_first:
            progress = TrainProgress(self.step, self.stream.state_dict(), served)
            checkpoint.save(
                self.checkpoints, self.objective, self.optimizer, progress, self.trained, self.config.run.keep
            )
        self.ranks.barrier()

    def _summary(self, first: int, seconds: float) -> dict[str, Any]:
        done = self.step - first
        newest = checkpoint.newest_checkpoint(self.checkpoints) if self.ranks.is_first else None
        metrics = self.out / METRICS
        lines = metrics.read_text(encoding="utf-8").splitlines() if self.ranks.is_first else []
        return {
            "out": str(self.out),
            "steps": self.step,
            "steps_now": done,
            "loss": json.loads(lines[-1])["loss"] if lines else None,
            "position": self.stream.position,
            **self._served(),
            "samples_per_s": round(self.samples / seconds, 1) if done else None,
            "checkpoint": str(newest) if newest else None,
            "metrics": str(metrics),
        }


class Metrics:
    """One JSON line a logged step, the same to TensorBoard, and a line for whoever watches."""

    def __init__(self, out: Path, step: int, position: int, tensorboard: bool) -> None:
        self.path = out / METRICS
        out.mkdir(parents=True, exist_ok=True)
        _keep(self.path, "step", step)
        for path in sorted(out.glob(UNREADABLE.replace("{:05d}", "*"))):
            _keep(path, "position", position - 1)
        self.board = _board(out, step) if tensorboard else None

    def write(self, line: Mapping[str, Any], steps: int) -> None:
        """Record one logged step."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(strict_json.plain(line), allow_nan=False) + "\n")
        speed = line["samples_per_s"]
        message = f"step {line['step']}/{steps}  loss {line['loss']:.4f}  lr {line['lr']:.2e}  {speed:.0f} samples/s"
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
        if self.board:
            for name in ("loss", "lr", "grad_norm", "samples_per_s"):
                self.board.add_scalar(f"train/{name}", line[name], line["step"])
            for name, figures in line["served"].items():
                for figure, value in figures.items():
                    if value is not None:
                        self.board.add_scalar(f"{figure}/{name}", value, line["step"])

    def close(self) -> None:
        """Flush what is not yet written."""
        if self.board:
            self.board.close()


def _keep(path: Path, key: str, last: int) -> None:
    """Cut from a JSONL file what a killed run wrote beyond its checkpoint: lines whose `key` is past `last`."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)[key] <= last]
    commit_text(path, "".join(f"{line}\n" for line in kept))


def _board(out: Path, step: int) -> Any:
    require("run.tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
