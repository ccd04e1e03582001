"""Dual encoders held by ops: found, loaded once an actor, on which device and in which precision they run.

Nothing is unpickled: weights come from safetensors, or from torch files read with `weights_only=True`.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

from curate.models.files import ModelError, file_digest
from curate.settings import unknown_message
from curate.tokens.clip import Tokens, described_tokens, open_clip_tokens

if TYPE_CHECKING:
    import torch
    from torch import nn


BUNDLED_CLIP = "tiny-clip"
"""A dual encoder of a few megabytes that ships with the package: it knows drawings of everyday things, nothing else."""

Precision = Literal["auto", "float32", "bfloat16"]

BUNDLED_CLIP_FILE = Path(__file__).parents[1] / "weights" / "tiny-clip.safetensors"
CONFIG_FILE = "open_clip_config.json"
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
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class _Source:
    """A dual encoder's description and where its weights lie: `weights` is None where a hub has to be asked."""

    config: Mapping[str, Any] | None
    weights: Path | None
    tokenizer: str | None = None


def clip_identity(model: str, pretrained: str, precision: Precision) -> str:
    """Digests of the local files of a dual encoder, and the precision it will run in: what changes its values."""
    source = _clip_source(model, pretrained)
    parts = [clip_precision(precision)]
    if source.config is not None:
        parts.append(json.dumps(source.config, sort_keys=True))
    if source.weights is not None:
        parts.append(file_digest(source.weights))
    return " ".join(parts)


def load_clip(model: str, pretrained: str, precision: Precision) -> Clip:
    """Load a dual encoder for inference, on the GPU if there is one. Raises ModelError.

    `model`: BUNDLED_CLIP; the name of an open_clip model, with a tag or a checkpoint file as `pretrained`; a
    configuration (`.json`) with a checkpoint file; a folder with `open_clip_config.json` and weights; a `.safetensors`
    file whose metadata holds `open_clip_config`; or `hf-hub:owner/name`.
    """
    import torch

    source = _clip_source(model, pretrained)
    if source.config is None:
        net, tokens, length = _from_hub(model, pretrained)
    else:
        net, tokens, length = _from_files(source, model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype: torch.dtype = getattr(torch, clip_precision(precision))
    # The weights keep requires_grad, though nothing is trained: without it torch multiplies the masked attention's
    # transposed input position by position, each with a fresh copy of the weights: 3 times as long a text.
    net = net.to(device=device, dtype=dtype).eval()
    return Clip(net, tokens, length, dict(net.visual.preprocess_cfg), device, dtype)


def clip_precision(precision: Precision) -> str:
    """`auto` as bfloat16 where the GPU or the processor computes in it natively, else as float32."""
    import torch

    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    usable = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # true of any AVX-512, which may only emulate it, slowly
    return "bfloat16" if usable and _processor_has_bfloat16() else "float32"


def _processor_has_bfloat16() -> bool:
    """By the names that Linux gives the instructions on x86 (avx512_bf16, amx_bf16) and on Arm (bf16)."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", described) is not None


def _clip_source(model: str, pretrained: str) -> _Source:
    path = BUNDLED_CLIP_FILE if model == BUNDLED_CLIP else Path(model)
    if model.startswith("hf-hub:"):
        return _Source(None, None)
    if path.suffix == ".safetensors":
        return _described_safetensors(path)
    if path.suffix == ".json":
        return _Source(_config(path), _weights(pretrained, f"model {model}"))
    if path.is_dir():
        return _Source(_config(path / CONFIG_FILE), _weights_in(path))
    return _named(model, pretrained)


def _described_safetensors(path: Path) -> _Source:
    """A file that carries its own configuration, as `train --export` writes them."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"CLIP model: no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ModelError(f"CLIP model: {path} is not a whole safetensors file: {error}") from error
    if "open_clip_config" not in metadata:
        raise ModelError(
            f"CLIP model: {path} has no open_clip_config in its metadata; give the model's name or configuration"
            " as `model` and this file as `pretrained`"
        )
    return _Source(_checked_config(metadata["open_clip_config"], str(path)), path, metadata.get("tokenizer"))


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"CLIP model: no file {path}")
    return _checked_config(path.read_text(encoding="utf-8"), str(path))


def _checked_config(text: str, where: str) -> dict[str, Any]:
    """open_clip's configuration: `model_cfg` and `preprocess_cfg`, or the model's part alone."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ModelError(f"CLIP model: {where}: the configuration is not JSON: {error}") from error
    config = found if "model_cfg" in found else {"model_cfg": found, "preprocess_cfg": {}}
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config["model_cfg"]]
    if missing:
        raise ModelError(f"CLIP model: {where}: the configuration lacks {', '.join(missing)}")
    return dict(config)


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
    import open_clip

    config = open_clip.get_model_config(model)
    if config is None:
        hint = unknown_message("open_clip model", model, open_clip.list_models())
        raise ModelError(f"{hint}; a path must end in .safetensors or .json, or be a folder with {CONFIG_FILE}")
    if Path(pretrained).suffix in _WEIGHTS_SUFFIXES:
        return _Source({"model_cfg": config, "preprocess_cfg": {}}, _weights(pretrained, f"model {model}"))
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        hint = unknown_message(f"pretrained tag of {model}", pretrained, tags)
        raise ModelError(f"{hint}; or give a file of weights")
    return _Source(None, None)


def _from_hub(model: str, pretrained: str) -> tuple[Any, Tokens, int]:
    import open_clip

    try:
        net = open_clip.create_model(model, pretrained=pretrained or None, require_pretrained=True, weights_only=True)
        tokenizer = open_clip.get_tokenizer(model)
    except Exception as error:  # the hub's client raises its own, requests' and open_clip's errors
        said = shorten(str(error), 160, placeholder=" ...")
        raise ModelError(
            f"CLIP model {model} {pretrained}: cannot be had from the hub ({type(error).__name__}: {said});"
            " connect, set HF_ENDPOINT to a mirror, fill the cache (HF_HOME) beforehand, or give a local file"
        ) from error
    return net, open_clip_tokens(tokenizer, net.context_length), net.context_length


def _from_files(source: _Source, model: str) -> tuple[Any, Tokens, int]:
    """Let open_clip read a folder made for the purpose, so that its own loading rules hold for every kind of source."""
    import open_clip

    assert source.config is not None and source.weights is not None
    folder_name = model if Path(model).is_dir() else None
    with tempfile.TemporaryDirectory() as folder:
        name = "model.safetensors" if source.weights.suffix == ".safetensors" else "model.pth"
        os.symlink(source.weights.resolve(), Path(folder) / name)
        Path(folder, CONFIG_FILE).write_text(json.dumps(source.config), encoding="utf-8")
        try:
            net = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True, weights_only=True)
            if source.tokenizer is None:
                tokenizer = open_clip.get_tokenizer(f"local-dir:{folder_name or folder}")
                tokens = open_clip_tokens(tokenizer, net.context_length)
        except Exception as error:  # what torch, safetensors and open_clip raise for unfit files has no common base
            raise ModelError(f"CLIP model {model}: {source.weights.name} does not load: {str(error)[:400]}") from error
    if source.tokenizer is not None:
        tokens = described_tokens(source.tokenizer, net.context_length)
    return net, tokens, net.context_length
