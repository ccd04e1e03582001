"""Describe a dual encoder besides its weights, and load networks from files: for ops and the trainer alike.

An exported file is safetensors of open_clip's state dict, with metadata: `open_clip_config` (the text of what open_clip
calls open_clip_config.json: model_cfg and preprocess_cfg), `tokenizer` (see `curate.tokens.clip`) and `context_length`.
Nothing is unpickled: weights come from safetensors, or from torch files read with `weights_only=True`.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.extras import require
from curate.models.files import ModelError
from curate.settings import unknown_message

if TYPE_CHECKING:
    from torch import nn

CONFIG_FILE = "open_clip_config.json"


@dataclass(frozen=True)
class ClipConfig:
    """open_clip's configuration of a dual encoder (`model_cfg`, `preprocess_cfg`), and its tokenizer's description.

    `tokenizer` is None where open_clip knows by itself which one belongs to the model.
    """

    open_clip: Mapping[str, Any]
    tokenizer: str | None = None

    @property
    def model(self) -> Mapping[str, Any]:
        """The configuration of the network: embed_dim, vision_cfg, text_cfg and more."""
        cfg: Mapping[str, Any] = self.open_clip["model_cfg"]
        return cfg

    @property
    def context_length(self) -> int:
        """Token ids of a text at most."""
        return int(self.model["text_cfg"].get("context_length", 77))

    @property
    def size_px(self) -> int:
        """The side of an image."""
        size = self.model["vision_cfg"].get("image_size", 224)
        return int(size if isinstance(size, int) else size[0])

    def metadata(self) -> dict[str, str]:
        """The metadata of an exported file."""
        text = json.dumps(dict(self.open_clip), sort_keys=True)
        own = {} if self.tokenizer is None else {"tokenizer": self.tokenizer}
        return {"open_clip_config": text, "context_length": str(self.context_length), **own}


def parsed_config(text: str, where: str, tokenizer: str | None = None) -> ClipConfig:
    """The configuration in a JSON text: `model_cfg` and `preprocess_cfg`, or the former alone. Raises ModelError."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{where}: the configuration is not JSON: {error}") from error
    config = found if isinstance(found, dict) and "model_cfg" in found else {"model_cfg": found, "preprocess_cfg": {}}
    check_model_config(config["model_cfg"], where)
    return ClipConfig(config, tokenizer)


def check_model_config(model: object, where: str) -> None:
    """Raise ModelError for what is no open_clip `model_cfg`."""
    given = model if isinstance(model, Mapping) else {}
    missing = [key for key in ("vision_cfg", "text_cfg") if not isinstance(given.get(key), Mapping)]
    missing = ["embed_dim"] * ("embed_dim" not in given) + missing
    if missing:
        raise ModelError(
            f"{where}: {', '.join(missing)} is missing; an open_clip configuration has embed_dim, vision_cfg, text_cfg"
        )


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a `.safetensors` file. Raises ModelError."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise ModelError(f"{path} is not a whole safetensors file: {error}") from error


def exported_config(path: Path) -> ClipConfig:
    """The configuration that a `.safetensors` file carries, as `train --export` writes them. Raises ModelError."""
    metadata = metadata_of(path)
    if "open_clip_config" not in metadata:
        raise ModelError(
            f"{path} has no open_clip_config in its metadata; give the model's name or configuration, and this file as"
            " its weights"
        )
    return parsed_config(metadata["open_clip_config"], str(path), metadata.get("tokenizer"))


def named_config(clip: str | Mapping[str, Any], where: str) -> dict[str, Any]:
    """open_clip's `model_cfg` of a model that it names, or that is given, a copy. Raises ModelError."""
    require("a dual encoder", "open_clip")
    import open_clip

    found: dict[str, Any] | None
    if isinstance(clip, str):
        found = copy.deepcopy(open_clip.get_model_config(clip))
        if found is None:
            raise ModelError(f"{where}: {unknown_message('open_clip model', clip, open_clip.list_models())}")
    else:
        found = dict(copy.deepcopy(clip.get("model_cfg", clip)))
    check_model_config(found, where)
    return found


def open_clip_preprocessing(name: str, tag: str | None) -> dict[str, Any]:
    """Mean and std of a named model's pictures, of its weights `tag` or of the first that open_clip knows; {}: none."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(name)
    known = get_pretrained_cfg(name, tag if tag in tags else tags[0]) if tags else {}
    return {key: list(known[key]) for key in ("mean", "std") if key in known}


def load_pretrained(name: str | Mapping[str, Any], tag: str, where: str) -> nn.Module:
    """A network that open_clip names, with weights that it names. Raises ModelError."""
    import open_clip

    if not isinstance(name, str):
        raise ModelError(f"{where}: a pretrained tag needs a model that open_clip names; give a .safetensors file")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise ModelError(f"{where}: {unknown_message(f'tag of {name}', tag, tags)}")
    net: nn.Module = open_clip.create_model(name, pretrained=tag)
    return net


def new_network(config: ClipConfig) -> nn.Module:
    """The network with random weights, from torch's seed. Raises ModelError."""
    require("a dual encoder", "open_clip")
    from open_clip import model as towers

    plain = copy.deepcopy(dict(config.model))
    custom = plain.pop("custom_text", False) or "hf_model_name" in plain["text_cfg"]
    try:
        net: nn.Module = (towers.CustomTextCLIP if custom else towers.CLIP)(**plain)
    except TypeError as err:
        raise ModelError(f"model.clip: open_clip does not accept this configuration: {err}") from err
    return net


def load_network(config: ClipConfig, weights: Path) -> nn.Module:
    """The network with weights from a file, in fp32 on the CPU. Raises ModelError.

    open_clip reads a folder made for the purpose, so that its own loading rules hold for every kind of file.
    """
    require("a dual encoder", "open_clip")
    import open_clip

    with tempfile.TemporaryDirectory() as folder:
        name = "model.safetensors" if weights.suffix == ".safetensors" else "model.pth"
        os.symlink(weights.resolve(), Path(folder) / name)
        Path(folder, CONFIG_FILE).write_text(json.dumps(dict(config.open_clip)), encoding="utf-8")
        try:
            net: nn.Module = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True, weights_only=True)
        except Exception as error:  # what torch, safetensors and open_clip raise for unfit files has no common base
            raise ModelError(f"{weights} does not load: {str(error)[:400]}") from error
    return net
