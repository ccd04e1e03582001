"""Tiny captioners and matchers for tests: random weights, in the files and folders that real ones come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from train_samples import CAPTION, TINY

from curate.tokens.encoders import text_code
from train.config import Caption, Config, MatchingConfig
from train.export import export
from train.models.dual_encoder import build
from train.objectives.matching import MatchingObjective
from train.objectives.multimodal import MultimodalObjective

MATCHING = {"type": "matching", "encoder": {"width": 32, "layers": 1, "heads": 2}}


def pictures(count: int, seed: int = 1) -> list[Image.Image]:
    """Noise of many shapes."""
    rng = np.random.default_rng(seed)
    shapes = rng.integers(20, 120, (count, 2))
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in shapes]


def captioner(path: Path, seed: int = 0) -> MultimodalObjective:
    """Write a captioner as `curate train --export` does."""
    config = Config.model_validate({**TINY, "objective": CAPTION})
    assert isinstance(config.objective, Caption)
    torch.manual_seed(seed)
    clip = build(config.model)
    objective = MultimodalObjective(clip, config.objective, text_code("bytes"))
    export(clip, objective, config, path)
    return objective.eval()


def matcher(path: Path, seed: int = 0) -> MatchingObjective:
    """Write a matcher as `curate train --export` does."""
    config = Config.model_validate({**TINY, "objective": MATCHING})
    assert isinstance(config.objective, MatchingConfig)
    torch.manual_seed(seed)
    clip = build(config.model)
    objective = MatchingObjective(clip, config.objective)
    export(clip, objective, config, path)
    return objective.eval()
