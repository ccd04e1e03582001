"""Matchers, one face for all: whether a text says what a picture shows. Our trainer's own, BLIP by `transformers`.

Shapes: B images, C x H x W pixels, N vectors of an image, E their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from curate.models.blip import blip_folder, blip_identity, is_blip
from curate.models.devices import Place
from curate.models.dual_encoder import exported_config, new_network
from curate.models.exports import load_weights, matcher_shape
from curate.models.files import ModelError, file_digest
from curate.models.pixels import Prepare, open_clip_pixels
from curate.tokens.clip import described_tokens

if TYPE_CHECKING:
    from torch import Tensor


class Matcher(Protocol):
    """A matching head over a text encoder that sees the picture."""

    prepare: Prepare

    def look(self, images_BCHW: Tensor) -> Tensor:
        """vectors_BNE of prepared images, for `match`."""

    def match(self, vectors_BNE: Tensor, texts: Sequence[str]) -> Tensor:
        """Probability_B that each text matches its image: above 1/2 where the head's larger score says so."""


def matcher_identity(model: str) -> str:
    """Digest of a matcher's files, which are fetched where they lie on a hub. Raises ModelError."""
    if Path(model).suffix == ".safetensors":
        matcher_shape(Path(model))
        return file_digest(Path(model))
    return blip_identity(_checked(model))


def weights_of(model: str) -> set[str]:
    """Digests of a local model's files of weights."""
    path = Path(model)
    files = [path] if path.is_file() else [p for end in ("safetensors", "bin", "pt") for p in path.glob(f"*.{end}")]
    return {file_digest(file) for file in files}


def load_matcher(model: str, place: Place) -> Matcher:
    """Load a matcher for inference. Raises ModelError.

    `model`: a `.safetensors` that `curate train --export` wrote of the objective matching; or a folder of
    `transformers` with BLIP for retrieval, or its name on the hub (owner/name).
    """
    if Path(model).suffix == ".safetensors":
        return TrainedMatcher(Path(model), place)
    from curate.models.blip import BlipMatcher

    return BlipMatcher(blip_folder(_checked(model)), place)


def _checked(model: str) -> str:
    if not is_blip(model):
        raise ModelError(
            f"matcher {model}: neither a .safetensors of `curate train --export` nor BLIP of `transformers` (a folder"
            " with config.json, or owner/name); open_clip's models have no matching head, clip_score is what they give"
        )
    return model


class TrainedMatcher:
    """Our trainer's filter (`curate.models.matching`)."""

    def __init__(self, path: Path, place: Place) -> None:
        from curate.models.matching import MatchingNetwork

        described, config = exported_config(path), matcher_shape(path)
        if described.tokenizer is None:
            raise ModelError(f"{path} has no tokenizer in its metadata; was it written by `curate train --export`?")
        self._tokens = described_tokens(described.tokenizer, described.context_length)
        net = MatchingNetwork(new_network(described), described.size_px, self._tokens.vocab_size, config)
        self._place = place
        self._net: Any = load_weights(net, path).to(place.device, place.dtype).eval()
        self.prepare = open_clip_pixels(described.open_clip["preprocess_cfg"])

    def look(self, images_BCHW: Tensor) -> Tensor:
        """See `Matcher`."""
        vectors_BNE: Tensor = self._net.see(images_BCHW.to(self._place.device, self._place.dtype))[0]
        return vectors_BNE

    def match(self, vectors_BNE: Tensor, texts: Sequence[str]) -> Tensor:
        """See `Matcher`."""
        import torch

        from curate.models.matching import MATCHED

        ids_BT = torch.zeros(len(texts), self._tokens.context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            ids = self._tokens(text)
            ids_BT[row, : len(ids)] = torch.tensor(ids)
        logits_B2 = self._net.match(vectors_BNE, ids_BT.to(self._place.device))
        return torch.softmax(logits_B2.float(), 1)[:, MATCHED].cpu()
