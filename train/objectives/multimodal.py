"""Next-token prediction over packed sequences of texts and images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from curate.models.files import ModelError
from curate.models.towers.tower import VisionTower
from curate.models.vision_language import VisionLanguage
from train.config import Caption, Multimodal, TextOnly
from train.objectives.cross_entropy import token_losses
from train.objectives.parts import Parts


class MultimodalObjective(nn.Module):
    """Next-token objective: an image's vectors, through a connector, take its places among the tokens, or are what its
    tag's text looks at between layers; only texts and ends are scored.

    A batch is rows of one sample, or packs of documents that do not see each other: {ids, scored: B x T, image: N
    pictures in the order of their places (or see `curate.image.tensors`), source: B or B x T}, of packs
    {segments, positions: B x T}. Sources are numbered below `sources`.
    """

    def __init__(
        self, towers: Mapping[str, VisionTower], settings: Caption | TextOnly | Multimodal, sources: int = 1
    ) -> None:
        super().__init__()
        language = settings.language.build(settings.form.tags())
        self.net = VisionLanguage(towers, settings.connector, language, settings.fusion)
        self.sources, self.visual_tokens = sources, self.net.places
        if self.net.gated is not None and settings.form.image_tag != "none":
            raise ModelError(
                f"objective.form.image_tag is {settings.form.image_tag!r}, and with the fusion cross_attention a"
                " picture's one place is its tag already; leave image_tag out"
            )
        frozen = self.net.language.parts().keys() - self.net.language.trained
        self.trained = frozenset(self.net.parts()) - frozen - (set() if settings.train_tower else {"tower"})

    def parts(self) -> Parts:
        """Towers, connector and language model, and gated blocks where there are any."""
        return self.net.parts()

    def check_resolution(self, size_px: int) -> None:
        """Raise ModelError if images of that size would become another number of vectors."""
        self.net.check_resolution(size_px)

    def counts(self, batch: Mapping[str, Tensor]) -> list[float]:
        """Tokens scored, of each source."""
        found = torch.bincount(sources_of(batch)[batch["scored"]], minlength=self.sources)
        return [float(count) for count in found.tolist()]

    def vectors(self, batch: Mapping[str, Tensor]) -> Tensor:
        """vectors_NPE of the batch's pictures."""
        return self.net.see_batch(batch)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Sum of the scored tokens' cross entropies, scaled, and of what a language model costs beside, with each."""
        ids_BT, segments_BT = batch["ids"], batch.get("segments")
        vectors_NPE = self.vectors(batch)
        x_BTD, between = self.net.embed(ids_BT, vectors_NPE), self.net.between(ids_BT, vectors_NPE, segments_BT)
        y_BTD = self.net.language(x_BTD, batch.get("positions"), segments_BT, between)
        wanted = batch["scored"][:, 1:]
        losses_N = token_losses(y_BTD[:, :-1][wanted], ids_BT[:, 1:][wanted], self.net.language.logits)
        if (extra := self.net.language.extra_losses()) is not None:
            losses_N = losses_N + extra  # a mean over tokens: a token's share of a step is its share of it
        return (
            (losses_N * batch["scale"][sources_of(batch)[:, 1:][wanted]]).sum() if "scale" in batch else losses_N.sum()
        )

    def after_step(self) -> None:
        """Do nothing: nothing is bounded."""


def sources_of(batch: Mapping[str, Tensor]) -> Tensor:
    """The number of each token's source, BT."""
    source = batch["source"]
    return source if source.ndim == 2 else source[:, None].expand_as(batch["ids"])
