"""Dual encoders held by ops: found, and loaded once a worker onto its device."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from curate.extras import require
from curate.models.devices import CPU, Device, Precision
from curate.models.dual_encoder import CONFIG_FILE, ClipConfig, exported_config, load_network, parsed_config
from curate.models.files import ModelError, file_digest
from curate.settings import unknown_message
from curate.tokens.clip import Tokens, described_tokens, open_clip_tokens

if TYPE_CHECKING:
    import torch
    from torch import nn


BUNDLED_CLIP = "tiny-clip"
"""A dual encoder of a few megabytes that ships with the package: it knows drawings of everyday things, nothing else."""

BUNDLED_CLIP_FILE = Path(__file__).parents[1] / "weights" / "tiny-clip.safetensors"
_WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Clip:
    """A dual encoder ready to score. `net`: open_clip's CLIP or CustomTextCLIP; `prepare`: open_clip's preprocess_cfg.

    `tokens`: the ids of one text, begin and end marks included, at most `context_length` of them.
    """

    net: nn.Module
    tokens: Tokens
    context_length: int
    prepare: Mapping[str, Any]
    device: Device
    dtype: torch.dtype


@dataclass(frozen=True)
class _Source:
    """A dual encoder's description and where its weights lie: `weights` is None where a hub has to be asked."""

    config: ClipConfig | None
    weights: Path | None


def clip_identity(model: str, pretrained: str) -> str:
    """Digests of the local files of a dual encoder: what changes its values beside device and precision."""
    source = _clip_source(model, pretrained)
    parts = []
    if source.config is not None:
        parts.append(json.dumps(source.config.open_clip, sort_keys=True))
    if source.weights is not None:
        parts.append(file_digest(source.weights))
    else:
        _fetch_from_hub(model, pretrained)
    return " ".join(parts)


def clip_dims(model: str, pretrained: str) -> int | None:
    """The width of a dual encoder's embeddings; None where a hub would have to be asked."""
    config = _clip_source(model, pretrained).config
    if config is None:
        require("a CLIP model", "open_clip")
        import open_clip

        named = open_clip.get_model_config(model)
        return None if named is None else int(named["embed_dim"])
    return int(config.model["embed_dim"])


def clip_tower(model: str, pretrained: str) -> str:
    """The name of a dual encoder, the same wherever it lies: `ViT-L-14/openai`, or the digest of its weights' file."""
    source = _clip_source(model, pretrained)
    if source.weights is not None:
        return f"sha256:{file_digest(source.weights)}"
    # OpenAI's weights always run with QuickGELU: open_clip has two names for one model.
    plain = model.removesuffix("-quickgelu") if pretrained == "openai" else model
    return f"{plain}/{pretrained}" if pretrained else plain


def load_clip(model: str, pretrained: str, precision: Precision, device: Device = CPU) -> Clip:
    """Load a dual encoder for inference onto its device. Raises ModelError, or MachineError without such a device.

    `model`: BUNDLED_CLIP; the name of an open_clip model, with a tag or a checkpoint file as `pretrained`; a
    configuration (`.json`) with a checkpoint file; a folder with `open_clip_config.json` and weights; a `.safetensors`
    file whose metadata holds `open_clip_config`; or `hf-hub:owner/name`.
    """
    where, dtype = device.torch(), device.dtype(precision)
    source = _clip_source(model, pretrained)
    if source.config is None or source.weights is None:
        net, tokens = _from_hub(model, pretrained)
    else:
        net, tokens = _from_files(source.config, source.weights, model)
    # The weights keep requires_grad, though nothing is trained: without it torch multiplies the masked attention's
    # transposed input position by position, each with a fresh copy of the weights: 3 times as long a text.
    net = net.to(device=where, dtype=dtype).eval()
    return Clip(net, tokens, net.context_length, dict(net.visual.preprocess_cfg), device, dtype)


def _clip_source(model: str, pretrained: str) -> _Source:
    path = BUNDLED_CLIP_FILE if model == BUNDLED_CLIP else Path(model)
    if model.startswith("hf-hub:"):
        return _Source(None, None)
    if path.suffix == ".safetensors":
        return _Source(exported_config(path), path)
    if path.suffix == ".json":
        return _Source(_config(path), _weights(pretrained, f"model {model}"))
    if path.is_dir():
        return _Source(_config(path / CONFIG_FILE), _weights_in(path))
    return _named(model, pretrained)


def _config(path: Path) -> ClipConfig:
    if not path.is_file():
        raise ModelError(f"CLIP model: no file {path}")
    return parsed_config(path.read_text(encoding="utf-8"), f"CLIP model: {path}")


def _weights(pretrained: str, what: str) -> Path:
    path = Path(pretrained)
    if path.suffix not in _WEIGHTS_SUFFIXES or not path.is_file():
        allowed = ", ".join(_WEIGHTS_SUFFIXES)
        raise ModelError(f"CLIP {what}: `pretrained` must be a file of weights ({allowed}), found {pretrained!r}")
    return path


def _weights_in(folder: Path) -> Path:
    found = sorted((p for p in folder.iterdir() if p.suffix in _WEIGHTS_SUFFIXES), key=lambda p: (p.suffix, p.name))
    for suffix in _WEIGHTS_SUFFIXES:
        alike = [path for path in found if path.suffix == suffix]
        if len(alike) == 1:
            return alike[0]
        if alike:
            raise ModelError(f"CLIP model: {folder} holds {len(alike)} files of weights; name one as `pretrained`")
    raise ModelError(f"CLIP model: {folder} holds no weights ({', '.join(_WEIGHTS_SUFFIXES)})")


def _named(model: str, pretrained: str) -> _Source:
    require("a CLIP model", "open_clip")
    import open_clip

    config = open_clip.get_model_config(model)
    if config is None:
        hint = unknown_message("open_clip model", model, open_clip.list_models())
        raise ModelError(f"{hint}; a path must end in .safetensors or .json, or be a folder with {CONFIG_FILE}")
    if Path(pretrained).suffix in _WEIGHTS_SUFFIXES:
        return _Source(ClipConfig({"model_cfg": config, "preprocess_cfg": {}}), _weights(pretrained, f"model {model}"))
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        hint = unknown_message(f"pretrained tag of {model}", pretrained, tags)
        raise ModelError(f"{hint}; or give a file of weights")
    return _Source(None, None)


@functools.cache
def _fetch_from_hub(model: str, pretrained: str) -> None:
    """Have a model's weights and tokenizer in the hub's cache, loading no weights. Raises ModelError."""
    import open_clip

    with _from_there(model, pretrained):
        if model.startswith("hf-hub:"):
            open_clip.pretrained.download_pretrained_from_hf(model.removeprefix("hf-hub:"))
        else:
            open_clip.download_pretrained(open_clip.get_pretrained_cfg(model, pretrained))
        open_clip.get_tokenizer(model)


def _from_hub(model: str, pretrained: str) -> tuple[Any, Tokens]:
    import open_clip

    with _from_there(model, pretrained):
        net = open_clip.create_model(model, pretrained=pretrained or None, require_pretrained=True, weights_only=True)
        tokenizer = open_clip.get_tokenizer(model)
    return net, open_clip_tokens(tokenizer, net.context_length)


@contextmanager
def _from_there(model: str, pretrained: str) -> Iterator[None]:
    """Say what could not be had from the hub, in one sentence."""
    try:
        yield
    except Exception as error:  # the hub's client raises its own, requests' and open_clip's errors
        said = shorten(str(error), 160, placeholder=" ...")
        raise ModelError(
            f"CLIP model {model} {pretrained}: cannot be had from the hub ({type(error).__name__}: {said});"
            " connect, set HF_ENDPOINT to a mirror, fill the cache (HF_HOME) beforehand, or give a local file"
        ) from error


def _from_files(config: ClipConfig, weights: Path, model: str) -> tuple[Any, Tokens]:
    net: Any = load_network(config, weights)
    if config.tokenizer is not None:
        return net, described_tokens(config.tokenizer, net.context_length)
    with tempfile.TemporaryDirectory() as made:
        Path(made, CONFIG_FILE).write_text(json.dumps(config.open_clip), encoding="utf-8")
        return net, _tokens_of(f"local-dir:{model if Path(model).is_dir() else made}", net.context_length)


def _tokens_of(model: str, context_length: int) -> Tokens:
    """The tokenizer that open_clip knows for a model. Raises ModelError."""
    import open_clip

    try:
        return open_clip_tokens(open_clip.get_tokenizer(model), context_length)
    except Exception as error:  # what open_clip and transformers raise has no common base
        raise ModelError(f"CLIP model {model}: no tokenizer: {str(error)[:400]}") from error
