"""The road of MM1's recipe, by the command line alone: counted, mixed, packed, trained, killed, gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from train_samples import every_kind

from curate.commit import file_sha256
from pipelines.cli.main import main as curate

SPEC = """seed: 3
sources:
  - {group: captions, weight: 0.40, sources: [{path: caption}]}
  - {path: interleaved, weight: 0.40}
  - {path: ocr, weight: 0.10}
  - {path: text, weight: 0.10}
"""
SMALLER = {
    "data.batch_size": 4,
    "objective.pack": "{tokens: 640, images: 3, window: 64}",
    "objective.language": "{width: 32, layers: 1, heads: 2}",
    "model.clip.vision_cfg": "{image_size: 96, patch_size: 8, width: 32, head_width: 16, layers: 1}",
    "optim.steps": 20,
    "optim.warmup": 4,
    "run.checkpoint_every": 2,
    "run.log_every": 1,
    "run.device": "cpu",
    "run.tensorboard": "false",
}


def lines(out: Path) -> list[dict[str, Any]]:
    path = out / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{k: v for k, v in line.items() if k != "samples_per_s"} for line in found]


@pytest.mark.slow
@pytest.mark.systems
def test_mm1s_recipe_trains_on_samples_of_every_kind_and_survives_a_kill(tmp_path: Path) -> None:
    every_kind(tmp_path)
    for kind in ("caption", "interleaved", "ocr", "text"):
        assert curate(["index", str(tmp_path / kind), "--tokenizer", "bytes", "--workers", "1"]) == 0
    (tmp_path / "spec.yaml").write_text(SPEC)
    with chdir(tmp_path):
        assert curate(["mix", "spec.yaml", "-o", "mixture.json"]) == 0
    sets = [part for key, value in SMALLER.items() for part in ("--set", f"{key}={value}")]
    recipe = str(ROOT / "recipes" / "mm1-train.yaml")
    arguments = ["-m", "train", str(tmp_path / "mixture.json"), "--config", recipe, *sets]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, *arguments, "--out", str(whole)], check=True, capture_output=True)
    again = [sys.executable, *arguments, "--out", str(killed)]
    process = subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(lines(killed)) < 9:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(again, check=True, capture_output=True)
    assert lines(killed) == lines(whole)
    ends = [out / "checkpoints" / "00000020" / "model.safetensors" for out in (whole, killed)]
    assert file_sha256(ends[0]) == file_sha256(ends[1])
    first, *_, last = lines(whole)
    assert last["loss"] < 0.9 * first["loss"]
    assert last["alarms"] == [] and all(served["samples"] for served in last["served"].values())
