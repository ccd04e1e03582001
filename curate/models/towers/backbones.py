"""Networks behind towers: found by name, file or configuration, with what their pictures must look like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from curate.extras import require
from curate.models.dual_encoder import (
    ClipConfig,
    exported_config,
    load_network,
    load_pretrained,
    named_config,
    new_network,
    open_clip_preprocessing,
)
from curate.models.files import ModelError
from curate.models.image_tower import MEAN, STD
from curate.settings import unknown_message

TIMM = "timm:"
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A network that gives a raster of vectors, and the side and normalisation of the pictures it was made for."""

    net: nn.Module
    size_px: int
    mean: Colour = MEAN
    std: Colour = STD


def load_backbone(model: str | Mapping[str, Any], weights: str | None, where: str, whole: bool = False) -> Backbone:
    """The network, on the CPU; random weights come from torch's seed. Raises ModelError.

    `model` and `weights` are those of `TowerConfig`; `where` begins messages. `whole`: see `of_dual_encoder`.
    """
    if isinstance(model, str) and model.startswith(TIMM):
        if whole:
            raise ModelError(
                f"{where}: {model} shares no space with texts: leave embedding out, or name a dual encoder"
            )
        return _timm(model.removeprefix(TIMM), weights, where)
    return of_dual_encoder(*_dual_encoder(model, weights, where), whole)


def _dual_encoder(model: str | Mapping[str, Any], weights: str | None, where: str) -> tuple[nn.Module, ClipConfig]:
    if isinstance(model, str) and model.endswith(".safetensors"):
        config = exported_config(Path(model))
        return load_network(config, Path(model)), config
    if isinstance(model, str) and model.endswith(".json"):
        model = json.loads(Path(model).read_text(encoding="utf-8"))
    config = ClipConfig({"model_cfg": named_config(model, where), "preprocess_cfg": {}})
    if isinstance(model, str):
        prepare = open_clip_preprocessing(model, weights)
        config = replace(config, open_clip={**config.open_clip, "preprocess_cfg": prepare})
    if weights is None:
        return new_network(config), config
    if weights.endswith(".safetensors"):
        return load_network(config, Path(weights)), config
    return load_pretrained(model, weights, where), config


def of_dual_encoder(net: nn.Module, config: ClipConfig, whole: bool = False) -> Backbone:
    """The image tower of one of open_clip's dual encoders; of one that timm made, timm's network in it.

    `whole`: with what makes an embedding of its vectors.
    """
    visual = net.visual
    assert isinstance(visual, nn.Module)
    trunk = visual if whole else getattr(visual, "trunk", visual)
    prepare = config.open_clip["preprocess_cfg"]
    mean, std = tuple(prepare.get("mean", MEAN)), tuple(prepare.get("std", STD))
    return Backbone(of_any_size(trunk), config.size_px, mean, std)


def _timm(name: str, weights: str | None, where: str) -> Backbone:
    require("a timm tower", "timm")
    import timm

    if not timm.is_model(name):
        raise ModelError(f"{where}: {unknown_message('timm model', name, timm.list_models())}")
    if weights is not None and weights != "pretrained" and not weights.endswith(".safetensors"):
        raise ModelError(f"{where}: weights of a timm model are `pretrained` or a .safetensors file, not {weights!r}")
    try:
        net: nn.Module = timm.create_model(name, pretrained=weights == "pretrained", num_classes=0)
    except Exception as error:  # what timm and its hub raise has no common base
        raise ModelError(f"{where}: timm model {name!r} does not load: {str(error)[:400]}") from error
    if weights is not None and weights != "pretrained":
        _load_file(net, Path(weights), where)
    prepare: Mapping[str, Any] = net.pretrained_cfg  # type: ignore[assignment]
    size = prepare.get("input_size", (3, 224, 224))[-1]
    return Backbone(of_any_size(net), int(size), tuple(prepare["mean"]), tuple(prepare["std"]))


def _load_file(net: nn.Module, path: Path, where: str) -> None:
    """Load a state dict of which the network has every weight; a head that the file has besides is left out."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        missing = net.load_state_dict(load_file(path), strict=False).missing_keys
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{where}: {path} does not load: {str(error)[:400]}") from error
    if missing:
        raise ModelError(f"{where}: {path} lacks weights of this network: {', '.join(missing[:5])}")


def of_any_size(net: Any) -> nn.Module:
    """The network; a vision transformer of timm interpolates its positions (bicubic) for pictures of other sizes."""
    embed: Any = getattr(net, "patch_embed", None)
    if hasattr(net, "dynamic_img_size") and hasattr(embed, "strict_img_size"):
        net.dynamic_img_size = True
        embed.strict_img_size, embed.flatten, embed.output_fmt = False, False, type(embed.output_fmt)("NHWC")
    found: nn.Module = net
    return found
