"""Metrics of a run: a line a logged step, samples served by source, alarms, replaced samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate import mix, strict_json
from curate.commit import commit_text
from curate.extras import require
from curate.stream.served import ServedTally
from curate.stream.stream import Batch
from train.faults import SKIPPED
from train.ranks import Ranks

METRICS = "metrics.jsonl"
UNREADABLE = "unreadable.{:05d}.jsonl"
"""Samples that were replaced: one file a rank, one line a sample."""


class ServedReport:
    """Samples that all ranks were served since position 0, by source; an alarm is said the first time."""

    def __init__(self, mixture: mix.Mixture, out: Path, ranks: Ranks) -> None:
        self.tally, self.ranks = ServedTally(mixture), ranks
        self.path = out / UNREADABLE.format(ranks.rank)
        self.alarmed: set[tuple[str, str]] = set()

    def add(self, batch: Batch) -> None:
        """Count this rank's share of a batch, and list what of it was replaced."""
        self.tally.add(batch)
        if batch.replaced:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(vars(r), ensure_ascii=False) + "\n" for r in batch.replaced)

    def report(self, step: int) -> dict[str, Any]:
        """Report by source, with alarms and padding; a new alarm is said. All ranks call it together."""
        whole = self.tally.sum_over_ranks(self.ranks.sum)
        alarms = whole.find_alarms()
        for alarm in alarms:
            if self.ranks.is_first and (alarm.source, alarm.promise) not in self.alarmed:
                sys.stderr.write(f"alarm at step {step}: {alarm.text}\n")
            self.alarmed.add((alarm.source, alarm.promise))
        packs = {"padding_waste": whole.padding_waste} if whole.tokens_room else {}
        return {**packs, "served": whole.report(), "alarms": [alarm.text for alarm in alarms]}


class Metrics:
    """One JSON line a logged step, the same to TensorBoard, and a line for whoever watches. Of the first rank only."""

    def __init__(self, out: Path, step: int, position: int, tensorboard: bool) -> None:
        self.path = out / METRICS
        out.mkdir(parents=True, exist_ok=True)
        _keep(self.path, "step", step)
        for pattern, key, last in ((UNREADABLE, "position", position - 1), (SKIPPED, "step", step)):
            for path in sorted(out.glob(pattern.replace("{:05d}", "*"))):
                _keep(path, key, last)
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


def last_loss(out: Path) -> float | None:
    """The last logged loss, where there is one."""
    path = out / METRICS
    lines: Sequence[str] = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return json.loads(lines[-1])["loss"] if lines else None


def _keep(path: Path, key: str, last: int) -> None:
    """Cut from a JSONL file what a killed run wrote beyond its checkpoint: lines whose `key` is past `last`."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)[key] <= last]
    commit_text(path, "".join(f"{line}\n" for line in kept))


def _board(out: Path, step: int) -> Any:
    require("run.tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
