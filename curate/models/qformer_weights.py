"""Weights of published Q-Formers and of BERT as those of ours (`curate.models.qformer`), by name.

`transformers` keeps BLIP-2's and InstructBLIP's with the names of BERT's, from which they come. Files are safetensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from curate.models.files import ModelError
from curate.models.qformer import STD, QFormer

_OWNERS = re.compile(r"^(model\.|qformer\.|bert\.)+")

_NAMES = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^query_tokens$", "queries"),
        (r"^language_projection\.", "out."),
        (r"^embeddings\.word_embeddings\.", "words."),
        (r"^embeddings\.position_embeddings\.", "positions."),
        (r"^(embeddings\.)?(layernorm|LayerNorm)\.", "norm."),
        (r"^encoder\.layer\.(\d+)\.attention\.", r"blocks.\1.attention."),
        (r"^encoder\.layer\.(\d+)\.crossattention\.", r"blocks.\1.cross."),
        (r"^encoder\.layer\.(\d+)\.(?:intermediate|output)_query\.", r"blocks.\1.query_mlp."),
        (r"^encoder\.layer\.(\d+)\.(?:intermediate|output)\.", r"blocks.\1.text_mlp."),
    )
)
_WITHIN_ATTENTION = {
    "query": "q",
    "key": "k",
    "value": "v",
    "output.dense": "out",
    "output.LayerNorm": "norm",
}


def of_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names of a Q-Former's weights as `transformers` names them, alone or as a part of BLIP-2 or InstructBLIP.

    Of BERT's, those that a Q-Former takes over. All others are left out.
    """
    found = {our_name(name): weight for name, weight in weights.items()}
    return {
        name: weight.reshape(weight.shape[-2:]) if name == "queries" else weight
        for name, weight in found.items()
        if name is not None
    }


def our_name(theirs: str) -> str | None:
    """Our name of a weight of theirs; None for one that we have not."""
    name = _OWNERS.sub("", theirs)
    for pattern, ours in _NAMES:
        if found := pattern.match(name):
            return _within(found.expand(ours), name, name[found.end() :])
    return None


def _within(part: str, whole: str, rest: str) -> str | None:
    if part.endswith((".attention.", ".cross.")):
        module, _, kind = rest.removeprefix("attention.").removeprefix("self.").rpartition(".")
        return f"{part}{_WITHIN_ATTENTION[module]}.{kind}" if module in _WITHIN_ATTENTION else None
    if part.endswith("_mlp."):
        module, _, kind = rest.rpartition(".")
        up = ".intermediate" in whole
        return f"{part}{'norm' if module == 'LayerNorm' else 'up' if up else 'down'}.{kind}"
    return part + rest


def load_published(module: QFormer, folder: Path) -> None:
    """Load into a Q-Former all that it has from the safetensors of a published one. Raises ModelError.

    A projection to another decoder's width, which is no part of the Q-Former, stays as it is.
    """
    found, wanted = of_transformers(read_folder(folder)), module.state_dict()
    fits = {name: weight for name, weight in found.items() if name in wanted and weight.shape == wanted[name].shape}
    missing = sorted(name for name in wanted if name not in fits and not name.startswith("out."))
    if missing:
        raise ModelError(
            f"{folder}: is no Q-Former of this shape: {len(missing)} weights are missing or of another shape,"
            f" {missing[0]} for one; take its sizes from its config.json"
        )
    module.load_state_dict(fits, strict=False)


def start_from_bert(module: QFormer, folder: Path) -> None:
    """Begin a Q-Former as BLIP-2's did: blocks and words from BERT's, the queries' feed-forwards copies of the text's.

    Queries, cross-attention and the rows of ids that BERT has not stay as drawn, N(0, .02). Raises ModelError.
    """
    found, wanted = of_transformers(read_folder(folder)), module.state_dict()
    copies = {name.replace(".text_mlp.", ".query_mlp."): weight for name, weight in found.items() if "text_mlp" in name}
    found |= copies
    words, rows = found.pop("words.weight", torch.empty(0, 0)), wanted["words.weight"]
    if words.shape[1:] != rows.shape[1:] or len(words) > len(rows):
        raise ModelError(
            f"{folder}: has {tuple(words.shape)} words, and the Q-Former room for {tuple(rows.shape)}; `ids` is its"
            " vocabulary and one more, `width` its own"
        )
    found["words.weight"] = torch.cat((words, torch.randn(len(rows) - len(words), rows.shape[1]) * STD))
    new = ("queries", "out.")
    missing = [n for n in wanted if not n.startswith(new) and ".cross." not in n and not _fits(found, n, wanted[n])]
    if missing:
        raise ModelError(f"{folder}: is no BERT of this shape: {sorted(missing)[0]} is missing or of another shape")
    module.load_state_dict({name: found[name] for name in wanted.keys() & found.keys()}, strict=False)


def read_folder(folder: Path) -> dict[str, Tensor]:
    """The weights of a folder's safetensors that have a name of ours, by theirs. Raises ModelError."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no *.safetensors in it; other formats are not read")
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                weights |= {name: opened.get_tensor(name) for name in opened.keys() if our_name(name)}  # noqa: SIM118
        except SafetensorError as error:
            raise ModelError(f"{file}: cannot be read: {error}") from error
    return weights


def _fits(found: Mapping[str, Tensor], name: str, wanted: Tensor) -> bool:
    return name in found and found[name].shape == wanted.shape
