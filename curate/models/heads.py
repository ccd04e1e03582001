"""Heads on kept embeddings: their files, and which tower's vectors they are for.

A head's file is safetensors: the layers' `weight` (out x in) and `bias` in the order of their names, as torch's state
dicts have them (`layers.0.weight`, `layers.2.weight`, ...), and under HEAD in its metadata what `HeadCard` holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curate.models.files import ModelError
from curate.settings import seen_from_here

HEAD = "curate_head"
"""The key of a head's card in its file's metadata."""

Activation = Literal["none", "relu"]
Output = Literal["identity", "sigmoid"]
Floats = npt.NDArray[np.float64]

_ROWS = 256
"""Rows of every product of matrices: a short batch is padded to them, for the order of a sum may hang on the shape."""


@dataclass(frozen=True)
class HeadCard:
    """The description of a head, which its file holds beside the weights.

    `tower`: whose vectors it was made on (`clip_towers`). `activation` stands between its layers, `output` after the
    last. `trained_on` and `licence` are for people.
    """

    tower: str = ""
    activation: Activation | None = None
    output: Output = "identity"
    licence: str = ""
    trained_on: str = ""


@dataclass(frozen=True)
class EmbeddingHead:
    """Layers (weight, out x in, and bias) in double precision, and their card."""

    layers: tuple[tuple[Floats, Floats], ...]
    card: HeadCard

    @property
    def dims(self) -> int:
        """The width of the vectors that it reads."""
        return int(self.layers[0][0].shape[1])

    def __call__(self, vectors: Floats) -> Floats:
        """Scores of vectors, which are made of length 1, N x D to N. A row's score depends on that row alone."""
        scores = np.empty(len(vectors))
        padded_BD = np.ones((_ROWS, self.dims))
        for start in range(0, len(vectors), _ROWS):
            some = vectors[start : start + _ROWS]
            padded_BD[: len(some)] = some
            scores[start : start + len(some)] = self._score(padded_BD)[: len(some)]
        return scores

    def _score(self, vectors: Floats) -> Floats:
        lengths_B1 = np.sqrt(np.einsum("bd,bd->b", vectors, vectors))[:, None]
        with np.errstate(invalid="ignore", over="ignore"):  # a vector of length 0 has no score: its row fails by name
            found = vectors / lengths_B1
            for number, (weight, bias) in enumerate(self.layers):
                if number and self.card.activation == "relu":
                    found = np.maximum(found, 0)
                found = found @ weight.T + bias
            scores: Floats = found[:, 0]
            return 1 / (1 + np.exp(-scores)) if self.card.output == "sigmoid" else scores


def load_head(path: Path, activation: Activation | None = None) -> EmbeddingHead:
    """Read a head. `activation`: of a file that says none and has several layers. Raises ModelError."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"head: no file {path}{seen_from_here(path)}")
    try:
        with safe_open(path, framework="numpy") as file:
            card = _card((file.metadata() or {}).get(HEAD), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, TypeError) as err:
        raise ModelError(f"head: {path} is no safetensors file of numbers: {err}") from err
    layers = _layers(tensors, path)
    said = card.activation or activation
    if len(layers) > 1 and said is None:
        raise ModelError(
            f"head: {path} has {len(layers)} layers and does not say what stands between them: write `activation: none`"
            " (LAION's aesthetic predictor) or `activation: relu`"
        )
    if said == "none":
        layers = [_composed(layers)]
    return EmbeddingHead(tuple(layers), HeadCard(**{**asdict(card), "activation": said}))


def save_head(path: Path, head: EmbeddingHead) -> None:
    """Write a head's file."""
    from safetensors.numpy import save_file

    tensors = {f"layers.{n}.{name}": value for n, layer in enumerate(head.layers)
               for name, value in zip(("weight", "bias"), layer, strict=True)}  # fmt: skip
    save_file(tensors, path, {HEAD: json.dumps(asdict(head.card), sort_keys=True)})


def _card(text: str | None, path: Path) -> HeadCard:
    if text is None:
        return HeadCard()
    try:
        said = json.loads(text)
        known: Mapping[str, Any] = {field.name: said[field.name] for field in fields(HeadCard) if field.name in said}
    except (ValueError, TypeError) as err:
        raise ModelError(f"head: {path}: its {HEAD} is no JSON object: {err}") from None
    card = HeadCard(**known)
    if card.activation not in ("none", "relu", None) or card.output not in ("identity", "sigmoid"):
        raise ModelError(f"head: {path}: activation {card.activation!r} or output {card.output!r} is not known here")
    return card


def _layers(tensors: Mapping[str, npt.NDArray[Any]], path: Path) -> list[tuple[Floats, Floats]]:
    """The layers in the order of the numbers in their names; each fits the one before, the last gives one number."""
    weights = sorted((name for name in tensors if name.rpartition(".")[2] == "weight"), key=_in_numbers)
    layers = []
    for name in weights:
        weight = np.atleast_2d(tensors[name]).astype(np.float64)
        bias = tensors.get(name.removesuffix("weight") + "bias", np.zeros(len(weight)))
        layers.append((weight, np.atleast_1d(bias).astype(np.float64)))
    shapes = [weight.shape for weight, _ in layers]
    fits = all(len(shape) == 2 and len(b) == shape[0] for shape, (_, b) in zip(shapes, layers, strict=True))
    joins = fits and all(a[0] == b[1] for a, b in pairwise(shapes))
    if not shapes or not joins or shapes[-1][0] != 1 or not all(np.isfinite(w).all() for w, _ in layers):
        told = ", ".join(f"{name} {list(tensors[name].shape)}" for name in list(tensors)[:6]) or "nothing"
        raise ModelError(
            f"head: {path} holds {told}: a head is finite layers `*.weight` (out x in) and `*.bias`, one after the"
            " other, the last of which gives one number"
        )
    return layers


def _in_numbers(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _composed(layers: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Layers with nothing between them as the one that they are."""
    weight, bias = layers[0]
    for next_weight, next_bias in layers[1:]:
        weight, bias = next_weight @ weight, next_weight @ bias + next_bias
    return weight, bias
