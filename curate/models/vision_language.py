"""Towers, a connector and a language model as one network: pictures and texts in, the next token's scores out.

What the trainer trains (`train.objectives.multimodal`) and what writes captions and answers is this one module.

Shapes: N pictures, P places of a picture, B rows, T tokens, E width of the language model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from curate.models.connectors.table import AnyConnector
from curate.models.features import Features, Pictures, pictures_in
from curate.models.files import ModelError
from curate.models.language import LanguageModel
from curate.models.towers.tower import VisionTower


class VisionLanguage(nn.Module):
    """`towers`: by name, in the connector's order. `places`: of a picture among the tokens."""

    def __init__(self, towers: Mapping[str, VisionTower], connector: AnyConnector, language: LanguageModel) -> None:
        super().__init__()
        self.towers, self.language = nn.ModuleDict(dict(towers)), language
        self.connector = connector.build([tower.shape for tower in towers.values()], language.width)
        self.places: int = self.connector.places

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the towers, of the connector with the towers' own norms, and of the language model."""
        towers = self.all_towers().values()
        norms = [p for tower in towers for p in tower.norm.parameters()]
        return {
            "tower": [p for tower in towers for p in tower.net.parameters()],
            "connector": [*norms, *self.connector.parameters()],
            "language": list(self.language.parameters()),
        }

    def all_towers(self) -> dict[str, VisionTower]:
        """The towers by their names."""
        return {name: tower for name, tower in self.towers.items() if isinstance(tower, VisionTower)}

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
        if found != self.places:
            raise ModelError(
                f"an image of {size_px} pixels becomes {found} vectors, of the model's own size {self.places}; take a"
                " connector with a number of its own, as {type: mlp, vectors: 144}"
            )

    def see(self, pictures: Sequence[Pictures]) -> Tensor:
        """vectors_NPE of N pictures, as each tower is shown them."""
        towers = self.all_towers().values()
        vectors_NPE: Tensor = self.connector([tower(shown) for tower, shown in zip(towers, pictures, strict=True)])
        return vectors_NPE

    def see_batch(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """vectors_NPE of all pictures of a batch of the stream in the order of their places; None if it has none.

        How the batch holds them: `curate.image.tensors`.
        """
        found = pictures_in(batch, tuple(self.towers)[1:])
        if found is None:
            return None
        vectors_NPE = torch.cat([self.see(group) for group in found.groups])
        return vectors_NPE if found.order is None else vectors_NPE[found.order]

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
