"""The dual encoder: built from an open_clip configuration, exported as self-describing safetensors.

What such a file holds, and how it is read, is said in `curate.models.dual_encoder`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn

from curate.commit import commit_file
from curate.models.dual_encoder import (
    ClipConfig,
    exported_config,
    load_network,
    load_pretrained,
    named_config,
    new_network,
)
from curate.models.files import ModelError
from curate.models.image_tower import MEAN, STD
from curate.tokens.clip import Tokenizer, described_tokens
from train.config import Model

Precision = Literal["fp32", "fp16", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class DualEncoder:
    """A dual encoder and what it needs to be fed: `net` takes images_BCHW (normalised) and ids_BT."""

    net: nn.Module
    config: ClipConfig
    tokenizer: Tokenizer

    @property
    def size_px(self) -> int:
        """The side of an image."""
        return self.config.size_px


def build(model: Model) -> DualEncoder:
    """The dual encoder that `model` describes, on the CPU; random weights come from torch's seed. Raises ModelError.

    Where `model` names towers of their own, it is none but its description, on the meta device.
    """
    if model.towers:
        config = clip_config(model)
        with torch.device("meta"):
            return DualEncoder(new_network(config), config, _tokenizer(config))
    if model.exported:
        return load_export(Path(str(model.clip)))
    config = clip_config(model)
    if model.weights is not None and model.weights.endswith(".safetensors"):
        return DualEncoder(load_network(config, Path(model.weights)), config, _tokenizer(config))
    net = new_network(config)
    if model.weights is not None:
        net.load_state_dict(load_pretrained(model.clip, model.weights, "model.weights").state_dict())
    return DualEncoder(net, config, _tokenizer(config))


def clip_config(model: Model) -> ClipConfig:
    """open_clip's configuration in full, the vocabulary's size filled in from the tokenizer. Raises ModelError."""
    found = named_config(model.clip, "model.clip")
    text = found["text_cfg"]
    if not text.get("hf_model_name"):
        size = described_tokens(model.tokenizer, text.setdefault("context_length", 77)).vocab_size
        if text.setdefault("vocab_size", size) < size:
            raise ModelError(
                f"model.clip: text_cfg.vocab_size is {text['vocab_size']} but tokenizer {model.tokenizer[:20]!r} has"
                f" {size} ids; leave vocab_size out, or raise it"
            )
    return ClipConfig({"model_cfg": found, "preprocess_cfg": {}}, model.tokenizer)


def export(clip: DualEncoder, path: Path, precision: Precision = "fp32") -> None:
    """Write the weights, and all that is needed to use them, as one file; the same weights, the same bytes."""
    write_weights(clip.net.state_dict(), described(clip), path, precision)


def write_weights(
    state: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path, precision: Precision = "fp32"
) -> None:
    """Write weights with their metadata as one safetensors file, whole or not at all."""
    dtype = DTYPES[precision]
    cast = {k: (v.to(dtype) if v.is_floating_point() else v).cpu().contiguous() for k, v in sorted(state.items())}
    with commit_file(path) as temporary:
        temporary.write_bytes(_sorted_header(save(cast), metadata))


def described(clip: DualEncoder) -> dict[str, str]:
    """The metadata of a file with this dual encoder, or a part of it."""
    preprocess = {
        "size": [clip.size_px, clip.size_px],
        "mode": "RGB",
        "mean": MEAN,
        "std": STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    return ClipConfig({"model_cfg": clip.config.model, "preprocess_cfg": preprocess}, clip.tokenizer.spec).metadata()


def load_export(path: Path) -> DualEncoder:
    """The dual encoder in an exported file, in fp32 on the CPU. Raises ModelError."""
    config = exported_config(path)
    return DualEncoder(load_network(config, path), config, _tokenizer(config))


def _sorted_header(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file's bytes with metadata in sorted order: the library's own order differs from run to run."""
    size = int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _tokenizer(config: ClipConfig) -> Tokenizer:
    """Raises ModelError where none is described, or it cannot be understood."""
    if config.tokenizer is None:
        raise ModelError("no `tokenizer` in the file's metadata; was it written by `--export`?")
    try:
        return described_tokens(config.tokenizer, config.context_length)
    except ValueError as err:
        raise ModelError(f"model.tokenizer: {err}") from err
