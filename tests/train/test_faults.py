"""Faults by name: a spike is skipped or stops the run, memory that ends and batches beyond reason say what to do."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from train_samples import TINY, command, lines, mixture, settings

from train.__main__ import main
from train.config import Config
from train.faults import SpikeGuard, StepFigures, TrainError, told_of_memory
from train.optim import Spikes
from train.ranks import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"))


def test_step_that_is_not_finite_is_skipped_by_rule_and_its_uids_are_listed(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {**TINY["optim"], "warmup": 0, "lr": 1e30, "clip_norm": 1e30, "spikes": {"action": "skip", "most": 3}}
    config = settings(tmp_path, optim=broken)
    assert main([str(manifest), "--config", str(config), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "skipped step 2: the loss is nan and the gradient's norm nan" in said
    assert "the 4th step in a row; look at them, lower optim.lr" in said
    listed = [json.loads(line) for line in (tmp_path / "out" / "skipped.00000.jsonl").read_text().splitlines()]
    assert [line["step"] for line in listed] == [2, 3, 4, 5]
    assert all(len(set(line["uids"])) == 16 for line in listed)
    logged = [(line["step"], line["loss"], line["skipped"]) for line in lines(tmp_path / "out")]
    assert logged[1:] == [(2, None, 1), (3, None, 2), (4, None, 3)]
    assert f"its samples are in {tmp_path / 'out' / 'skipped.00000.jsonl'} ({listed[0]['uids'][0]}, " in said


def test_skipped_step_leaves_the_weights_as_they_were(manifest: Path, tmp_path: Path) -> None:
    ends = []
    for times, steps in ((1.0001, 40), (None, 40)):
        spikes = {"action": "skip", "times": times, "window": 8, "most": 100}
        config = settings(tmp_path / str(times), optim={**TINY["optim"], "steps": steps, "spikes": spikes})
        out = tmp_path / str(times) / "out"
        assert main([str(manifest), "--config", str(config), "--out", str(out)]) == 0
        ends.append(lines(out)[-1]["skipped"])
    assert ends[0] > 3 and ends[1] == 0
    listed = [
        json.loads(line)["step"] for line in (tmp_path / "1.0001/out/skipped.00000.jsonl").read_text().splitlines()
    ]
    norms = {line["step"]: line["grad_norm"] for line in lines(tmp_path / "1.0001/out")}
    taken: list[float] = []
    for step, norm in norms.items():
        median = sorted(taken[-8:])[3:5]
        spike = len(taken) >= 8 and norm > 1.0001 * sum(median) / 2
        assert spike == (step in listed), step
        taken += [] if spike else [norm]


def guard(tmp_path: Path, **rule: Any) -> SpikeGuard:
    return SpikeGuard(Spikes.model_validate(rule), tmp_path, ALONE)


def test_spike_is_a_norm_of_many_times_the_median_and_never_enters_it(tmp_path: Path) -> None:
    found = guard(tmp_path, action="skip", times=3, window=8)
    assert all(found.admits(StepFigures(n, 1.0, 1.0 + n % 2), ["a"]) for n in range(8))
    assert [found.admits(StepFigures(8, 1.0, norm), ["a"]) for norm in (4.6, 4.4, 100.0)] == [False, True, False]
    assert 100.0 not in found.norms and (found.skipped, found.in_a_row) == (2, 1)
    other = guard(tmp_path, action="skip", times=3, window=8)
    other.load_state_dict(json.loads(json.dumps(found.state_dict())))
    assert other.state_dict() == found.state_dict()


def test_spike_stops_a_run_that_says_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"step 7: the loss is 1.0 and .* norm inf; its samples are in .*\(a, b, "):
        guard(tmp_path).admits(StepFigures(7, 1.0, math.inf), ["a", "b"])
    found = guard(tmp_path, times=2, window=8)
    assert all(found.admits(StepFigures(9, 1.0, 1.0), ["a"]) for _ in range(8))
    with pytest.raises(TrainError, match="norm is 9, more than 2 times the median 1 of the 8 steps before"):
        found.admits(StepFigures(9, 1.0, 9.0), ["a"])


@pytest.mark.slow
def test_run_gone_on_after_skipped_steps_skips_the_same_ones(manifest: Path, tmp_path: Path) -> None:
    spikes = {"action": "skip", "times": 1.05, "window": 8, "most": 100}
    config = settings(tmp_path, optim={**TINY["optim"], "steps": 40, "spikes": spikes}, run={**TINY["run"], "keep": 99})
    whole, gone_on = tmp_path / "whole", tmp_path / "gone_on"
    assert main(command(manifest, config, whole)[2:]) == 0
    shutil.copytree(whole / "checkpoints" / "00000020", gone_on / "checkpoints" / "00000020")
    shutil.copy(whole / "skipped.00000.jsonl", gone_on)
    shutil.copy(whole / "metrics.jsonl", gone_on)
    assert main(command(manifest, config, gone_on)[2:]) == 0
    assert lines(gone_on) == lines(whole) and lines(whole)[-1]["skipped"]
    assert (gone_on / "skipped.00000.jsonl").read_text() == (whole / "skipped.00000.jsonl").read_text()


def test_memory_that_ends_is_told_with_the_shapes_of_the_batch() -> None:
    batch = {"ids": torch.zeros(2, 8, dtype=torch.long), "image": torch.zeros(3, 3, 4, 4, dtype=torch.uint8)}
    with (
        pytest.raises(
            TrainError, match=r"step 3: out of memory on cpu, .* of ids 2 x 8 int64, image 3 x 3 x 4 x 4 uint8;"
        ),
        told_of_memory(3, batch, Config(), ALONE),
    ):
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), told_of_memory(3, batch, Config(), ALONE):
        torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": {"batch_size": 1600}}, "data.batch_size: 1,600 is more than the 81 samples of the mixture"),
        (
            {"data": {"batch_size": 64}, "run": {**TINY["run"], "prefetch": 10**9}},
            r"64 samples a step in 1 part\(s\) on 1 rank\(s\), 1000000001 parts of them in memory at once, take .* GB",
        ),
    ],
)
def test_batch_beyond_reason_is_refused_before_anything_is_read(
    manifest: Path, tmp_path: Path, changed: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, **changed)
    assert main([str(manifest), "--config", str(config), "--out", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_manifest_that_moved_away_from_its_datasets_is_refused_with_where_it_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = mixture(tmp_path / "mixture")
    arguments = [
        "--config",
        str(settings(tmp_path, optim={**TINY["optim"], "steps": 1})),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([str(manifest), *arguments]) == 0
    moved = tmp_path / "elsewhere" / "mixture.json"
    moved.parent.mkdir()
    manifest.rename(moved)
    capsys.readouterr()
    assert main([str(moved), *arguments]) == 2
    assert str(moved.parent) in capsys.readouterr().err
