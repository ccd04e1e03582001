"""Next-token prediction over packed sequences of texts and images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.files import ModelError
from curate.models.image_tower import features_of, normalised, tower_shape
from curate.tokens.encoders import TextCode
from train.config import Caption, Multimodal
from train.models.dual_encoder import DualEncoder
from train.objectives.parts import Parts


class MultimodalObjective(nn.Module):
    """Next-token objective: an image's vectors, through a connector, take its places among the tokens; only texts and
    ends are scored.

    A batch is rows of one sample, or packs of documents that do not see each other: {ids, scored: B x T, image: N
    pictures in the order of their places (or see `curate.stream.packing.assemble`), source: B or B x T}, of packs
    {segments, positions: B x T}. Sources are numbered below `sources`.
    """

    def __init__(self, clip: DualEncoder, settings: Caption | Multimodal, code: TextCode, sources: int = 1) -> None:
        super().__init__()
        self.sources = sources
        visual = clip.net.visual
        assert isinstance(visual, nn.Module)
        self.tower = visual
        self.trained = frozenset({"connector", "language", *(["tower"] if settings.train_tower else [])})
        self.language = settings.language.build(code)
        self.connector = settings.connector.build([tower_shape(self.tower, clip.size_px)], self.language.width)
        self.visual_tokens = self.connector.places

    def parts(self) -> Parts:
        """Tower, connector and language model."""
        return {name: list(getattr(self, name).parameters()) for name in ("tower", "connector", "language")}

    def train(self, mode: bool = True) -> MultimodalObjective:
        """Set training mode; a frozen tower stays in evaluation mode: its batch statistics do not move."""
        super().train(mode)
        self.tower.train(mode and self._tower_trained())
        return self

    def check_resolution(self, size_px: int) -> None:
        """Raise ModelError if images of that size would become another number of vectors."""
        with torch.no_grad():
            found = self.connector([features_of(self.tower, torch.zeros(1, 3, size_px, size_px))])
        if found.shape[1] != self.visual_tokens:
            raise ModelError(
                f"an image of {size_px} pixels becomes {found.shape[1]} vectors, of the model's own size"
                f" {self.visual_tokens}; take a connector with a number of its own, as {{type: mlp, vectors: 144}}"
            )

    def counts(self, batch: Mapping[str, Tensor]) -> list[float]:
        """Tokens scored, of each source."""
        found = torch.bincount(_sources(batch)[batch["scored"]], minlength=self.sources)
        return [float(count) for count in found.tolist()]

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Sum of the scored tokens' cross entropies, scaled."""
        ids_BT = batch["ids"]
        x_BTD = self.language.embed(ids_BT.clamp(min=0))
        if (vectors_NVD := self._image_vectors(batch)) is not None:
            x_BTD = x_BTD.masked_scatter((ids_BT < 0).unsqueeze(-1), vectors_NVD.to(x_BTD.dtype))
        y_BTD = self.language(x_BTD, batch.get("positions"), batch.get("segments"))
        wanted = batch["scored"][:, 1:]
        scores_NV = self.language.logits(y_BTD[:, :-1][wanted])
        losses_N = F.cross_entropy(scores_NV.float(), ids_BT[:, 1:][wanted], reduction="none")
        return (losses_N * batch["scale"][_sources(batch)[:, 1:][wanted]]).sum() if "scale" in batch else losses_N.sum()

    def after_step(self) -> None:
        """Do nothing: nothing is bounded."""

    def _image_vectors(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """The vectors of all pictures in the order of their places, NVD; None where there is no picture."""
        found = [batch[name] for name in sorted(batch) if name.startswith("image") and batch[name].numel()]
        if not found:
            return None
        parts = []
        for images in found:
            with torch.set_grad_enabled(self._tower_trained() and torch.is_grad_enabled()):
                features = features_of(self.tower, normalised(images.flatten(0, -4)))
            parts.append(self.connector([features]))
        vectors_NVD: Tensor = torch.cat(parts)
        return vectors_NVD[batch["order"]] if "order" in batch else vectors_NVD

    def _tower_trained(self) -> bool:
        return any(p.requires_grad for p in self.tower.parameters())


def _sources(batch: Mapping[str, Tensor]) -> Tensor:
    """The number of each token's source, BT."""
    source = batch["source"]
    return source if source.ndim == 2 else source[:, None].expand_as(batch["ids"])
