"""Training with towers of one's own: their pictures on the way from shards to the connector, and their settings."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from train_samples import TINY, mixture, of_every_kind

from curate.stream.reading import ReadOptions
from curate.stream.stream import Batch, Stream
from train import prepare
from train.config import Config
from train.models.dual_encoder import build
from train.prepare import PreparedObjective

NATIVE = {"model": "timm:test_vit4", "fit": "native", "size_px": 64, "shortest_px": 32, "split": {}}
LATENTS = {"type": "idefics2", "latents": 2, "depth": 1, "heads": 2, "head_width": 16, "key_value_heads": 1}


def settings(objective: dict[str, Any], **towers: Any) -> Config:
    model = {"tokenizer": "simple:1024", "towers": towers} if towers else TINY["model"]
    return Config.model_validate({**TINY, "model": model, "objective": objective})


def made(manifest: Path, config: Config) -> PreparedObjective:
    torch.manual_seed(0)
    return prepare.build(config, build(config.model), manifest)


def batches(manifest: Path, prepared: PreparedObjective, count: int = 2, size: int = 4) -> list[Batch]:
    stream = Stream(manifest, size, prepared.prepare, options=ReadOptions(threads=1), packing=prepared.packing)
    try:
        return list(itertools.islice(stream, count))
    finally:
        stream.close()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_every_kind(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("pairs"))
