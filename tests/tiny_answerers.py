"""Tiny models that answer, as `curate train --export` writes them: untrained, or trained on a few hundred squares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from train_samples import CAPTION, TINY, dataset, settings

from curate import mix
from curate.settings import validate
from train.__main__ import main
from train.config import Config
from train.export import export
from train.models.dual_encoder import build
from train.models.dual_encoder import export as export_dual_encoder
from train.objectives.choice import objective_of


def untrained(path: Path, **objective: Any) -> Path:
    """A captioner with drawn weights; what it says is noise, the same each time."""
    config = validate({**TINY, "objective": {**CAPTION, **objective}}, Config, "tiny")
    torch.manual_seed(3)
    clip = build(config.model)
    export(clip, objective_of(config, clip), config, path)
    return path


def trained(folder: Path, steps: int) -> Path:
    """The folder of a run that learnt to name coloured squares; `folder`/model.safetensors is what it exported."""
    many = dataset(folder / "many", 200, seed=1)
    mix.build([(many, 1.0)], 7, folder / "mixture.json")
    optim = {"steps": steps, "warmup": 10, "lr": 3e-3}
    run = {**TINY["run"], "log_every": steps, "checkpoint_every": steps}
    config = settings(folder, objective=CAPTION, optim=optim, run=run, data={"batch_size": 32})
    words = [
        folder / "mixture.json",
        "--config",
        config,
        "--out",
        folder / "run",
        "--export",
        folder / "model.safetensors",
    ]
    assert main([str(word) for word in words]) == 0
    return folder / "run"


def dual_encoder(path: Path) -> Path:
    """A dual encoder with drawn weights."""
    torch.manual_seed(5)
    clip = build(validate({**TINY}, Config, "tiny").model)
    export_dual_encoder(clip, path)
    return path
