"""Captioners and matching networks in exported files: what the metadata says of them beside the dual encoder's.

The metadata is a dual encoder's (`curate.models.dual_encoder`: of a captioner, what its image tower is part of), and
`captioner` or `matcher`, a JSON object with the fields of its shape below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from curate.models.dual_encoder import metadata_of
from curate.models.files import ModelError

if TYPE_CHECKING:
    from torch import nn

Net = TypeVar("Net", bound="nn.Module")


@dataclass(frozen=True)
class CaptionerShape:
    """The language model behind the towers, what joins them, and the tags that texts are spelled with.

    `language`, `connector`, `fusion`, `towers`: their settings, as a settings file says them
    (`curate.models.languages.table`, `curate.models.connectors.table`, `curate.models.fusion`,
    `curate.models.towers.tower`); without towers, the dual encoder's own. `form`: that of its sequences
    (`curate.stream.forms`); `picture`: the ids that a picture is there, its tags and -1 where its vectors go.
    """

    language: Mapping[str, Any]
    tags: Sequence[str]
    connector: Mapping[str, Any]
    fusion: Mapping[str, Any]
    towers: Mapping[str, Any]
    form: Mapping[str, Any]
    picture: Sequence[int]

    def metadata(self) -> dict[str, str]:
        """Its entry in the metadata of an exported file."""
        return {"captioner": json.dumps(asdict(self), sort_keys=True)}


@dataclass(frozen=True)
class MatcherShape:
    """The text encoder behind the dual encoder. `connector`: see `CaptionerShape`."""

    width: int
    layers: int
    heads: int
    connector: Mapping[str, Any]

    def metadata(self) -> dict[str, str]:
        """Its entry in the metadata of an exported file."""
        return {"matcher": json.dumps(asdict(self), sort_keys=True)}


def captioner_shape(path: Path) -> CaptionerShape:
    """The captioner in an exported file. Raises ModelError."""
    return CaptionerShape(**_entry(path, "captioner", "caption or multimodal"))


def matcher_shape(path: Path) -> MatcherShape:
    """The matching network in an exported file. Raises ModelError."""
    return MatcherShape(**_entry(path, "matcher", "matching"))


def _entry(path: Path, name: str, objective: str) -> dict[str, Any]:
    metadata = metadata_of(path)
    if name not in metadata:
        holds = next((f"a {other}" for other in ("captioner", "matcher") if other in metadata), "no such network")
        raise ModelError(
            f"{path} holds {holds}, and a {name} is wanted: name a file that `curate train --export` wrote of the"
            f" objective {objective}"
        )
    found: dict[str, Any] = json.loads(metadata[name])
    return found


def load_weights(net: Net, path: Path) -> Net:
    """The network with the weights of an exported file, in fp32 on the CPU. Raises ModelError."""
    from safetensors.torch import load_model

    try:
        load_model(net, path, strict=True)
    except RuntimeError as error:
        raise ModelError(f"{path} does not hold the weights that its metadata speaks of: {str(error)[:400]}") from error
    return net
