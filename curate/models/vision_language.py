"""A tower, a connector and a language model as one network: pictures and texts in, the next token's scores out.

What the trainer trains (`train.objectives.multimodal`) and what writes captions and answers is this one module.

Shapes: N pictures, P places of a picture, B rows, T tokens, E width of the language model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from curate.models.connectors.table import AnyConnector
from curate.models.files import ModelError
from curate.models.image_tower import features_of, normalised, tower_shape
from curate.models.language import LanguageModel

PARTS = ("tower", "connector", "language")


class VisionLanguage(nn.Module):
    """`tower`: an open_clip image tower for pictures of `size_px`. `places`: of a picture among the tokens."""

    def __init__(self, tower: nn.Module, size_px: int, connector: AnyConnector, language: LanguageModel) -> None:
        super().__init__()
        self.tower, self.language = tower, language
        self.connector = connector.build([tower_shape(tower, size_px)], language.width)
        self.places: int = self.connector.places

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of tower, connector and language model."""
        return {name: list(getattr(self, name).parameters()) for name in PARTS}

    def train(self, mode: bool = True) -> VisionLanguage:
        """Set training mode; a frozen tower stays in evaluation mode: its batch statistics do not move."""
        super().train(mode)
        self.tower.train(mode and self._tower_trained())
        return self

    def check_resolution(self, size_px: int) -> None:
        """Raise ModelError if pictures of that size would become another number of vectors."""
        with torch.no_grad():
            found = self.see(torch.zeros(1, 3, size_px, size_px)).shape[1]
        if found != self.places:
            raise ModelError(
                f"an image of {size_px} pixels becomes {found} vectors, of the model's own size {self.places}; take a"
                " connector with a number of its own, as {type: mlp, vectors: 144}"
            )

    def see(self, images_NCHW: Tensor) -> Tensor:
        """vectors_NPE of pictures that are normalised for the tower."""
        with torch.set_grad_enabled(self._tower_trained() and torch.is_grad_enabled()):
            features = features_of(self.tower, images_NCHW)
        vectors_NPE: Tensor = self.connector([features])
        return vectors_NPE

    def see_batch(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """vectors_NPE of all pictures of a batch of the stream in the order of their places; None if it has none.

        The batch is as `curate.stream.packing.assemble` makes it: a tensor a size, and `order`.
        """
        found = [batch[name] for name in sorted(batch) if name.startswith("image") and batch[name].numel()]
        if not found:
            return None
        vectors_NPE = torch.cat([self.see(normalised(images.flatten(0, -4))) for images in found])
        return vectors_NPE[batch["order"]] if "order" in batch else vectors_NPE

    def embed(self, ids_BT: Tensor, vectors_NPE: Tensor | None) -> Tensor:
        """x_BTE of tokens; where an id is negative, the pictures' vectors come one after another."""
        x_BTE = self.language.embed(ids_BT.clamp(min=0))
        if vectors_NPE is None:
            return x_BTE
        return x_BTE.masked_scatter((ids_BT < 0).unsqueeze(-1), vectors_NPE.to(x_BTE.dtype))

    def writer(self, vectors_NPE: Tensor) -> Callable[[Tensor], Tensor]:
        """scores_BV of what comes next, given ids_BT of all so far, one token more at each call.

        One picture a row, whose vectors stand behind the begin mark as in training. Keys and values are kept.
        """
        seen: list[list[Tensor]] = [[] for _ in range(self.language.depth)]

        def scores_of(ids_BT: Tensor) -> Tensor:
            if seen[0]:
                x_BTE = self.language.embed(ids_BT[:, -1:])
            else:
                x_BTE = self.language.embed(ids_BT)
                x_BTE = torch.cat((x_BTE[:, :1], vectors_NPE.to(x_BTE.dtype), x_BTE[:, 1:]), 1)
            scores_BV: Tensor = self.language.logits(self.language.go_on(x_BTE, seen)[:, -1])
            return scores_BV

        return scores_of

    def _tower_trained(self) -> bool:
        return any(p.requires_grad for p in self.tower.parameters())
