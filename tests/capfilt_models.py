"""Tiny captioners and matchers for tests: random weights, in the files and folders that real ones come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from train_samples import CAPTION, TINY

from train.config import Caption, Config, MatchingConfig
from train.export import export
from train.models.dual_encoder import build
from train.models.towers import towers_of
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
    objective = MultimodalObjective(towers_of(config.model, clip), config.objective)
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


WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] [DEC] [ENC] a picture of red square on blue green cat dog the , x ##y ##z"


def blip(folder: Path, kind: str, seed: int = 0, spread: float = 8.0) -> Any:
    """Write a BLIP of random weights as `transformers` saves one: `BlipForConditionalGeneration`, for one."""
    import transformers

    words = WORDS.split()
    text = {
        "vocab_size": len(words), "hidden_size": 32, "encoder_hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 48, "projection_dim": 16,
        "bos_token_id": words.index("[DEC]"), "sep_token_id": words.index("[SEP]"), "pad_token_id": 0,
        "eos_token_id": 2,
    }  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8, "initializer_range": 0.02}  # fmt: skip
    torch.manual_seed(seed)
    config = transformers.BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=16)
    net = getattr(transformers, kind)(config).eval()
    with torch.no_grad():  # its own initialisation is so small that neither picture nor text makes a difference
        for name, parameter in net.named_parameters():
            parameter.mul_(40.0 if "patch_embedding" in name else 1.0 if name.startswith("vision") else spread)
    folder.mkdir(parents=True, exist_ok=True)
    net.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    transformers.BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return net


COCA: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2,
                   "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2, "embed_cls": True,
                 "output_tokens": True},
    "multimodal_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    "custom_text": True,
}  # fmt: skip


def coca(folder: Path, seed: int = 0) -> Any:
    """Write a CoCa of random weights as the folder that open_clip opens."""
    from open_clip.coca_model import CoCa

    torch.manual_seed(seed)
    net = CoCa(**{name: value for name, value in COCA.items() if name != "custom_text"}).eval()
    # open_clip 3.3 leaves this one matrix as the memory was: zeros on one machine, anything on another.
    torch.nn.init.normal_(net.text_decoder.text_projection, std=0.2)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": COCA, "preprocess_cfg": {}}))
    return net
