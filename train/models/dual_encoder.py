"""The dual encoder: built from an open_clip configuration, exported as self-describing safetensors.

What such a file holds, and how it is read, is said in `curate.models.dual_encoder`.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from curate.commit import commit_file
from curate.extras import require
from curate.models.dual_encoder import ClipConfig, check_model_config, exported_config, load_network
from curate.models.files import ModelError
from curate.settings import unknown_message
from curate.tokens.clip import Tokenizer, described_tokens
from train.config import Model

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own normalisation (Radford et al. 2021), which open_clip assumes unless told otherwise."""

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
    """The dual encoder that `model` describes, on the CPU; random weights come from torch's seed. Raises ModelError."""
    if model.exported:
        return load_export(Path(str(model.clip)))
    config = clip_config(model)
    if model.weights is not None and model.weights.endswith(".safetensors"):
        return DualEncoder(load_network(config, Path(model.weights)), config, _tokenizer(config))
    net = _network(config)
    if model.weights is not None:
        net.load_state_dict(_pretrained(model))
    return DualEncoder(net, config, _tokenizer(config))


def clip_config(model: Model) -> ClipConfig:
    """open_clip's configuration in full, the vocabulary's size filled in from the tokenizer. Raises ModelError."""
    require("objective contrastive", "open_clip")
    import open_clip

    found: dict[str, Any] | None
    if isinstance(model.clip, str):
        found = copy.deepcopy(open_clip.get_model_config(model.clip))
        if found is None:
            raise ModelError(f"model.clip: {unknown_message('open_clip model', model.clip, open_clip.list_models())}")
    else:
        found = dict(copy.deepcopy(model.clip.get("model_cfg", model.clip)))
    check_model_config(found, "model.clip")
    text = found["text_cfg"]
    if not text.get("hf_model_name"):
        size = described_tokens(model.tokenizer, text.setdefault("context_length", 77)).vocab_size
        if text.setdefault("vocab_size", size) < size:
            raise ModelError(
                f"model.clip: text_cfg.vocab_size is {text['vocab_size']} but tokenizer {model.tokenizer[:20]!r} has"
                f" {size} ids; leave vocab_size out, or raise it"
            )
    return ClipConfig({"model_cfg": found, "preprocess_cfg": {}}, model.tokenizer)


def normalised(images_BCHW: Tensor) -> Tensor:
    """uint8 images to what CLIP's towers expect, on the images' device, channels last."""
    images_BCHW = images_BCHW.to(memory_format=torch.channels_last)
    mean = torch.tensor(MEAN, device=images_BCHW.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images_BCHW.device).view(1, 3, 1, 1)
    return (images_BCHW.float() / 255 - mean) / std


def patch_count_and_width(visual: nn.Module, size_px: int) -> tuple[int, int]:
    """The number of patch vectors that `patches` gives an image, and their width."""
    was_training = visual.training
    with torch.no_grad():
        visual.eval()
        x_BND = patches(visual, torch.zeros(1, 3, size_px, size_px))
    visual.train(was_training)
    return x_BND.shape[1], x_BND.shape[2]


def patches(visual: nn.Module, images_BCHW: Tensor) -> Tensor:
    """x_BND of an open_clip image tower's last block, before pooling: a vector a patch, no class vector."""
    changed = at_resolution(visual, images_BCHW.shape[-1], "visual.")
    out = functional_call(_LastBlock(visual), changed, (images_BCHW,))
    x_BDHW: Tensor = out
    return x_BDHW.flatten(2).transpose(1, 2)


def at_resolution(visual: nn.Module, size_px: int, prefix: str) -> dict[str, Tensor]:
    """Replacements in an image tower for images of another size than its own, by name; nothing at its own.

    A vision transformer's positions are interpolated (bicubic, as open_clip does when it loads weights of another
    size). Raises ModelError for a tower or a size for which that cannot be.
    """
    grid, patch = getattr(visual, "grid_size", None), getattr(visual, "patch_size", None)
    if grid is None or patch is None:
        return {}  # a convolutional tower takes any size
    if size_px % patch[0]:
        raise ModelError(f"the tower's patches have {patch[0]} pixels a side, so an image cannot have {size_px}")
    side = size_px // patch[0]
    if tuple(grid) == (side, side):
        return {}
    positions_LD = visual.positional_embedding
    assert isinstance(positions_LD, Tensor)
    extra = len(positions_LD) - grid[0] * grid[1]
    old_1DHW = positions_LD[extra:].T.reshape(1, -1, *grid)
    new_1DHW = F.interpolate(old_1DHW, (side, side), mode="bicubic", antialias=True)
    return {f"{prefix}positional_embedding": torch.cat((positions_LD[:extra], new_1DHW[0].flatten(1).T))}


class _LastBlock(nn.Module):
    """An image tower whose forward gives its last block's patches."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out = self.visual.forward_intermediates(images_BCHW, indices=1, intermediates_only=True)  # type: ignore[operator]
        last: Tensor = out["image_intermediates"][-1]
        return last


def export(clip: DualEncoder, path: Path, precision: Precision = "fp32") -> None:
    """Write the weights, and all that is needed to use them, as one file; the same weights, the same bytes."""
    dtype = DTYPES[precision]
    state = clip.net.state_dict()
    cast = {k: (v.to(dtype) if v.is_floating_point() else v).cpu().contiguous() for k, v in sorted(state.items())}
    preprocess = {
        "size": [clip.size_px, clip.size_px],
        "mode": "RGB",
        "mean": MEAN,
        "std": STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = ClipConfig({"model_cfg": clip.config.model, "preprocess_cfg": preprocess}, clip.tokenizer.spec)
    with commit_file(path) as temporary:
        temporary.write_bytes(_described(save(cast), config.metadata()))


def load_export(path: Path) -> DualEncoder:
    """The dual encoder in an exported file, in fp32 on the CPU. Raises ModelError."""
    config = exported_config(path)
    return DualEncoder(load_network(config, path), config, _tokenizer(config))


def _described(data: bytes, metadata: dict[str, str]) -> bytes:
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


def _network(config: ClipConfig) -> nn.Module:
    """The network with random weights."""
    require("objective contrastive", "open_clip")
    from open_clip import model as towers

    plain = copy.deepcopy(dict(config.model))
    custom = plain.pop("custom_text", False) or "hf_model_name" in plain["text_cfg"]
    try:
        net: nn.Module = (towers.CustomTextCLIP if custom else towers.CLIP)(**plain)
    except TypeError as err:
        raise ModelError(f"model.clip: open_clip does not accept this configuration: {err}") from err
    return net


def _pretrained(model: Model) -> dict[str, Tensor]:
    import open_clip

    if not isinstance(model.clip, str):
        raise ModelError("model.weights: a pretrained tag needs a model that open_clip names; give a .safetensors file")
    tags = open_clip.list_pretrained_tags_by_model(model.clip)
    if model.weights not in tags:
        raise ModelError(f"model.weights: {unknown_message(f'tag of {model.clip}', str(model.weights), tags)}")
    return dict(open_clip.create_model(model.clip, pretrained=model.weights).state_dict())
