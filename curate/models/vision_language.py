"""A tower, a connector and a language model as one network: pictures and texts in, the next token's scores out.

What the trainer trains (`train.objectives.multimodal`) and what writes captions and answers is this one module.

Shapes: N pictures, P places of a picture, B rows, T tokens, E width of the language model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from curate.models.connectors.table import AnyConnector
from curate.models.features import Texts, asked_in
from curate.models.files import ModelError
from curate.models.fusion import AnyFusion, TokensConfig
from curate.models.gated_attention import GatedBlocks, GatedConfig, Media
from curate.models.image_tower import features_of, normalised, tower_shape
from curate.models.languages.face import Between, Language

PICTURE = -1
"""Stands in ids where a vector of a picture goes."""


class VisionLanguage(nn.Module):
    """`tower`: an open_clip image tower for pictures of `size_px`. `places`: of a picture among the tokens.

    Where pictures come in by cross-attention, that is one place, and the connector's vectors have the tower's width.
    """

    def __init__(
        self,
        tower: nn.Module,
        size_px: int,
        connector: AnyConnector,
        language: Language,
        fusion: AnyFusion = TokensConfig(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.tower, self.size_px = tower, size_px
        self.language: Any = language  # a module with the face of a language model
        shape = tower_shape(tower, size_px)
        self.gated: GatedBlocks | None = None
        if isinstance(fusion, GatedConfig):
            self.gated = fusion.build(language.depth, language.width, shape.width)
        self.connector = connector.build([shape], shape.width if self.gated else language.width)
        self.places: int = 1 if self.gated else self.connector.places

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of tower and connector, of gated blocks where there are any, of the language model's own parts."""
        names = ("tower", "connector", *(["gated"] if self.gated is not None else []))
        own = {name: list(getattr(self, name).parameters()) for name in names}
        return {**own, **self.language.parts()}

    def train(self, mode: bool = True) -> VisionLanguage:
        """Set training mode; a frozen tower stays in evaluation mode: its batch statistics do not move."""
        super().train(mode)
        self.tower.train(mode and self._tower_trained())
        return self

    def check_resolution(self, size_px: int) -> None:
        """Raise ModelError if pictures of that size would become another number of vectors."""
        with torch.no_grad():
            found = self.see(torch.zeros(1, 3, size_px, size_px)).shape[1]
        if found != self.connector.places:
            raise ModelError(
                f"an image of {size_px} pixels becomes {found} vectors, of the model's own size"
                f" {self.connector.places}; take a connector with a number of its own, as {{type: mlp, vectors: 144}}"
            )

    def see(self, images_NCHW: Tensor, asked: Texts | None = None) -> Tensor:
        """vectors_NPE of pictures that are normalised for the tower; `asked`: of them, if the connector reads it."""
        with torch.set_grad_enabled(self._tower_trained() and torch.is_grad_enabled()):
            features = features_of(self.tower, images_NCHW)
        vectors_NPE: Tensor = self.connector([features], **({} if asked is None else {"text": asked}))
        return vectors_NPE

    def see_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """vectors_NPE of all pictures of a batch of the stream in the order of their places.

        The batch is as `curate.stream.packing.assemble` makes it: a tensor a size, and `order`. Where it has none, a
        blank picture is looked at and nothing of it taken: so tower and connector take part in the exchange with ranks
        that have some, with gradients of 0.
        """
        found = [batch[name] for name in sorted(batch) if name.startswith("image") and batch[name].numel()]
        if not found:
            return self.see_nothing(batch["ids"].device)
        parts = [images.flatten(0, -4) for images in found]
        asked = asked_in(batch, [len(part) for part in parts])
        vectors_NPE = torch.cat([self.see(normalised(part), text) for part, text in zip(parts, asked, strict=True)])
        return vectors_NPE[batch["order"]] if "order" in batch else vectors_NPE

    def see_nothing(self, device: torch.device) -> Tensor:
        """vectors_NPE of no pictures, by looking at a blank one."""
        return self.see(torch.zeros(1, 3, self.size_px, self.size_px, device=device))[:0]

    def embed(self, ids_BT: Tensor, vectors_NPE: Tensor) -> Tensor:
        """x_BTE of tokens; where an id is negative, the pictures' vectors come one after another, or each one's tag."""
        x_BTE: Tensor = self.language.embed(ids_BT.clamp(min=0))
        pictured_BT1 = (ids_BT < 0).unsqueeze(-1)
        if self.gated is not None:
            return torch.where(pictured_BT1, self.gated.tag_E.to(x_BTE.dtype), x_BTE)
        return x_BTE.masked_scatter(pictured_BT1, vectors_NPE.to(x_BTE.dtype))

    def between(
        self, ids_BT: Tensor, vectors_NPE: Tensor, segments_BT: Tensor | None = None, last: int | None = None
    ) -> Between | None:
        """The function that the language model calls between its layers, so that texts look at the pictures.

        None where pictures stand among the tokens. `last`: for so many of the last places, those before being kept.
        """
        if self.gated is None:
            return None
        media = Media.of(vectors_NPE, ids_BT < 0, segments_BT)
        return self.gated.between(media if last is None else media.of_last(last))

    def writer(self, vectors_NPE: Tensor, begun_BT: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """scores_BV of what comes next, given ids_BT of all so far, one token more at each call.

        `begun_BT`: what the rows begin with, in place of the ids of the first call, for any number of pictures in any
        places. Without it, one picture a row, whose vectors stand behind the begin mark as in training. Keys and values
        are kept.
        """
        seen: list[Any] = []
        begun: list[Tensor] = [] if begun_BT is None else [begun_BT]
        first = [0]

        def scores_of(ids_BT: Tensor) -> Tensor:
            if not seen:
                first[0] = ids_BT.shape[1]
                begun[:] = begun or [self._with_picture(ids_BT)]
            whole_BT = torch.cat((begun[0], ids_BT[:, first[0] :]), 1)
            new_BT = whole_BT[:, -1:] if seen else whole_BT
            between = self.between(whole_BT, vectors_NPE, last=new_BT.shape[1])
            y_BTE = self.language.go_on(self.embed(new_BT, vectors_NPE), seen, between)
            scores_BV: Tensor = self.language.logits(y_BTE[:, -1])
            return scores_BV

        return scores_of

    def _with_picture(self, ids_BT: Tensor) -> Tensor:
        """Rows of ids with a picture's places behind the first."""
        picture_BP = torch.full((len(ids_BT), self.places), PICTURE, device=ids_BT.device)
        return torch.cat((ids_BT[:, :1], picture_BP, ids_BT[:, 1:]), 1)

    def _tower_trained(self) -> bool:
        return any(p.requires_grad for p in self.tower.parameters())
