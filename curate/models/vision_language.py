"""Towers, a connector and a language model as one network: pictures and texts in, the next token's scores out.

What the trainer trains (`train.objectives.multimodal`) and what writes captions and answers is this one module.

Shapes: N pictures, P places of a picture, B rows, T tokens, E width of the language model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from curate.models.connectors.sva import Sva
from curate.models.connectors.table import AnyConnector
from curate.models.features import Features, Pictures, ReadTexts, pictures_in
from curate.models.files import ModelError
from curate.models.fusion import AnyFusion, TokensConfig
from curate.models.gated_attention import GatedBlocks, GatedConfig, Media
from curate.models.languages.face import Between, Language
from curate.models.towers.tower import VisionTower

PICTURE = -1
"""Stands in ids where a vector of a picture goes."""


class VisionLanguage(nn.Module):
    """`towers`: by name, in the connector's order. `places`: of a picture among the tokens, over all its `views`.

    Where pictures come in by cross-attention, that is one place, and the connector's vectors have the first tower's
    width.
    """

    def __init__(
        self,
        towers: Mapping[str, VisionTower],
        connector: AnyConnector,
        language: Language,
        fusion: AnyFusion = TokensConfig(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.towers = nn.ModuleDict(dict(towers))
        self.language: Any = language  # a module with the face of a language model
        shapes = [tower.shape for tower in towers.values()]
        self.gated: GatedBlocks | None = None
        if isinstance(fusion, GatedConfig):
            self.gated = fusion.build(language.depth, language.width, shapes[0].width)
        self.connector = connector.build(shapes, shapes[0].width if self.gated else language.width)
        self.places: int = 1 if self.gated else self.connector.places
        self.views: int = 1 if self.gated else self.connector.views

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the towers, of the connector with the towers' norms, of gated blocks, of the language model."""
        towers = self.all_towers().values()
        norms = [p for tower in towers for p in tower.norm.parameters()]
        own = {
            "tower": [p for tower in towers for p in tower.net.parameters()],
            "connector": [*norms, *self.connector.parameters()],
        }
        gated = {} if self.gated is None else {"gated": list(self.gated.parameters())}
        return {**own, **gated, **self.language.parts()}

    def all_towers(self) -> dict[str, VisionTower]:
        """The towers by their names."""
        return {name: tower for name, tower in self.towers.items() if isinstance(tower, VisionTower)}

    @property
    def _aggregator(self) -> Sva | None:
        """The connector, where it has layers inside the language model."""
        return self.connector if isinstance(self.connector, Sva) and self.connector.inside is not None else None

    def check_resolution(self, size_px: int) -> None:
        """Raise ModelError if pictures of that size for the first tower would become another number of vectors."""
        first, *others = self.all_towers().values()
        shapes = [first.shape_at(size_px), *(tower.shape for tower in others)]
        device = next(self.connector.parameters()).device
        blank = [
            Features(torch.zeros(shape.views, shape.vectors, shape.width, device=device), shape.grid)
            for shape in shapes
        ]
        with torch.no_grad():
            found = self.connector(blank).shape[1]
        if found != self.connector.places:
            raise ModelError(
                f"an image of {size_px} pixels becomes {found} vectors, of the model's own size"
                f" {self.connector.places}; take a connector with a number of its own, as {{type: mlp, vectors: 144}}"
            )

    def see(self, pictures: Sequence[Pictures], asked: ReadTexts | None = None) -> Tensor:
        """vectors_NPE of N pictures, as each tower is shown them, for what is `asked` if the connector reads that."""
        towers = self.all_towers().values()
        return self.connect([tower(shown) for tower, shown in zip(towers, pictures, strict=True)], asked)

    def connect(self, found: Sequence[Features], asked: ReadTexts | None = None) -> Tensor:
        """vectors_NPE of what each tower found.

        Of an aggregator with layers inside the language model, the windows that it looks at there.
        """
        if (aggregator := self._aggregator) is not None:
            return aggregator.look(found)
        vectors_NPE: Tensor = self.connector(found) if asked is None else self.connector(found, text=asked)
        return vectors_NPE

    def see_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """vectors_NPE of all pictures of a batch of the stream in the order of their places.

        How the batch holds them: `curate.image.tensors`. Where it has none, a blank picture is looked at and nothing of
        it taken: so towers and connector take part in the exchange with ranks that have some, with gradients of 0.
        """
        found = pictures_in(batch, tuple(self.towers)[1:])
        if found is None:
            return self.see_nothing(batch["ids"].device)
        vectors_NPE = torch.cat([self.see(*of) for of in zip(found.groups, found.asked, strict=True)])
        return vectors_NPE if found.order is None else vectors_NPE[found.order]

    def see_nothing(self, device: torch.device) -> Tensor:
        """vectors_NPE of no pictures, by looking at a blank one."""
        return self.see([tower.blank(device) for tower in self.all_towers().values()])[:0]

    def embed(self, ids_BT: Tensor, vectors_NPE: Tensor) -> Tensor:
        """x_BTE of tokens; where an id is negative, the pictures' vectors come one after another, or each one's tag."""
        x_BTE: Tensor = self.language.embed(ids_BT.clamp(min=0))
        pictured_BT1 = (ids_BT < 0).unsqueeze(-1)
        if self.gated is not None:
            return torch.where(pictured_BT1, self.gated.tag_E.to(x_BTE.dtype), x_BTE)
        if (aggregator := self._aggregator) is not None:
            vectors_NPE = aggregator.gather(vectors_NPE)
        return x_BTE.masked_scatter(pictured_BT1, vectors_NPE.to(x_BTE.dtype))

    def between(
        self, ids_BT: Tensor, vectors_NPE: Tensor, segments_BT: Tensor | None = None, last: int | None = None
    ) -> Between | None:
        """The function that the language model calls between its layers, so that texts or places look at the pictures.

        None where pictures do no more than stand among the tokens. `last`: for so many of the last places, those before
        being kept.
        """
        if (aggregator := self._aggregator) is not None:
            return aggregator.between(vectors_NPE, (ids_BT < 0)[:, -(last or ids_BT.shape[1]) :])
        if self.gated is None:
            return None
        media = Media.of(vectors_NPE, ids_BT < 0, segments_BT)
        return self.gated.between(media if last is None else media.of_last(last))

    def writer(self, vectors_NPE: Tensor, begun_BT: Tensor) -> Callable[[Tensor], Tensor]:
        """scores_BV of what comes next, given ids_BT of all so far, one token more at each call.

        `begun_BT`: what the rows begin with, in place of the ids of the first call, PICTURE where a vector of a picture
        goes: any number of pictures, in any places. Keys and values are kept.
        """
        seen: list[Any] = []
        first = [0]

        def scores_of(ids_BT: Tensor) -> Tensor:
            if not seen:
                first[0] = ids_BT.shape[1]
            whole_BT = torch.cat((begun_BT, ids_BT[:, first[0] :]), 1)
            new_BT = whole_BT[:, -1:] if seen else whole_BT
            between = self.between(whole_BT, vectors_NPE, last=new_BT.shape[1])
            y_BTE = self.language.go_on(self.embed(new_BT, vectors_NPE), seen, between)
            scores_BV: Tensor = self.language.logits(y_BTE[:, -1])
            return scores_BV

        return scores_of
