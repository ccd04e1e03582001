"""Ranks that hold shards (FSDP): the same training, checkpoints whole or not at all, gone on from by any number."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from train_samples import MULTIMODAL, TINY, command, composed, every_kind, lines, settings

from curate.mix.count_tokens import add_text_tokens
from curate.models.files import ModelError
from train.__main__ import main
from train.checkpoint import read_weights
from train.config import Config, RunConfig
from train.groups import Treatment
from train.models.dual_encoder import build
from train.objectives.contrastive import ContrastiveObjective
from train.parallel import Parallel
from train.ranks import Ranks

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
MOSTLY_TEXT = "seed: 3\nsources: [{path: interleaved, weight: 0.2}, {path: text, weight: 0.8}]\n"
SHARDED = ("--set", "run.parallel=fsdp")
LANGUAGE = {"width": 32, "layers": 2, "heads": 2}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of which many packs have no image: one of two ranks often sees none."""
    folder = every_kind(tmp_path_factory.mktemp("texts"))
    for kind in ("interleaved", "text"):
        add_text_tokens(folder / kind, "bytes")
    return composed(folder, MOSTLY_TEXT)


def written(folder: Path, **changed: Any) -> Path:
    """Settings of a run on packs of 96 tokens, with rows of the embedding that alone train."""
    objective = {**MULTIMODAL, "language": LANGUAGE, "pack": {"tokens": 96, "images": 4, "window": 32}}
    optimizer = {**TINY["optim"], "groups": [{"match": ["net.language.embedding.weight"], "rows": [97, -1]}]}
    more = {"objective": objective, "data": {"batch_size": 2}, "optim": optimizer, "run": {**TINY["run"], "keep": 99}}
    return settings(folder, **{**more, **changed})


def two_ranks(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TORCHRUN, *words], check=True, capture_output=True, text=True, timeout=300)


def assert_alike(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """The same batches; losses and gradients within rounding."""
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine["position"] == theirs["position"] and mine["served"] == theirs["served"]
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


@pytest.mark.slow
def test_ranks_that_hold_shards_train_as_one_and_go_on_from_each_others_checkpoints(
    texts: Path, tmp_path: Path
) -> None:
    """From one to two ranks, from shards to one, and the export is the whole model."""
    config, one, two, back = written(tmp_path), tmp_path / "one", tmp_path / "two", tmp_path / "back"
    assert main(command(texts, config, one)[2:]) == 0
    shutil.copytree(one / "checkpoints" / "00000005", two / "checkpoints" / "00000005")
    file = tmp_path / "whole.safetensors"
    two_ranks(*command(texts, config, two, *SHARDED, "--export", str(file)))
    assert [line["step"] for line in lines(two)] == list(range(6, 13))
    shutil.copytree(two / "checkpoints" / "00000010", back / "checkpoints" / "00000010")
    assert sorted(p.name for p in (back / "checkpoints" / "00000010").iterdir()) == ["shards", "state.json"]
    assert main(command(texts, config, back)[2:]) == 0
    assert_alike(lines(two), lines(one)[5:])
    assert_alike(lines(back), lines(one)[10:])
    sharded, exported = read_weights(two / "checkpoints" / "00000012"), load_file(file)
    assert sharded.keys() == {f"net.{name}" for name in exported}
    assert all(torch.equal(sharded[f"net.{name}"], exported[name]) for name in exported)
    start = load_file(one / "checkpoints" / "00000005" / "model.safetensors")["net.language.embedding.weight"]
    moved = (sharded["net.language.embedding.weight"] != start).any(1).nonzero().flatten().tolist()
    assert moved == [97, len(start) - 1]


@pytest.mark.slow
@pytest.mark.systems
def test_ranks_killed_in_the_middle_of_sharded_checkpoints_go_on_from_the_last_whole_one(
    texts: Path, tmp_path: Path
) -> None:
    changed = {"optim": {**TINY["optim"], "steps": 40}, "run": {**TINY["run"], "checkpoint_every": 1}}
    config, whole, killed = written(tmp_path, **changed), tmp_path / "whole", tmp_path / "killed"
    two_ranks(*command(texts, config, whole, *SHARDED))
    for at in (1, 15):
        process = subprocess.Popen(
            [*TORCHRUN, *command(texts, config, killed, *SHARDED)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 240
        while process.poll() is None and not _writes(killed / "checkpoints", at) and time.monotonic() < deadline:
            time.sleep(0.001)
        for pid in (*_ranks(process.pid), process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()
    two_ranks(*command(texts, config, killed, *SHARDED))
    assert lines(killed) == lines(whole)
    ends = [read_weights(out / "checkpoints" / "00000040") for out in (whole, killed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert not list((killed / "checkpoints").glob(".*"))


def _ranks(torchrun: int) -> list[int]:
    """The processes that torchrun started: each leads a session of its own, and outlives a torchrun that is killed."""
    listed = Path(f"/proc/{torchrun}/task/{torchrun}/children")
    return [int(pid) for pid in listed.read_text().split()] if listed.exists() else []


def _writes(folder: Path, step: int) -> bool:
    """Whether a checkpoint of that step or a later one is being written."""
    return any(int(path.name.split(".")[1]) >= step for path in folder.glob(".*.tmp"))


def test_network_that_cannot_be_sharded_is_refused_by_name() -> None:
    ranks, options = Ranks(0, 2, torch.device("cpu")), RunConfig(parallel="fsdp")
    config = Config.model_validate(TINY)
    clip = ContrastiveObjective(build(config.model), 100.0)
    with pytest.raises(ModelError, match=r"fsdp shards no scalars, and net\.logit_scale is one"):
        Parallel(clip, options, ranks, {})
    del clip.net.logit_scale
    with pytest.raises(ModelError, match=r"net\.text_projection is frozen in some stages only; use ddp, or a run a"):
        Parallel(clip, options, ranks, {"net.text_projection": (Treatment(), Treatment(1.0))})
