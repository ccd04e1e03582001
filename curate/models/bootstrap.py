"""The network of BLIP-2's stage one (Li et al. 2301.12597, 3.1): a Q-Former on a tower, and what is read off it.

Shapes: B pictures or texts, N texts, Q queries, D width of the Q-Former, E of the features that are compared, V ids.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.qformer import QFormerConfig
from curate.models.features import Features, ReadTexts
from curate.models.qformer import EPS, QFormer, Seen
from curate.models.towers.tower import VisionTower


def similarities(images_BQE: Tensor, texts_NE: Tensor) -> Tensor:
    """Similarities_BN of pictures and texts: of a picture's queries the one that is closest counts."""
    return torch.einsum("bqe,ne->bqn", images_BQE, texts_NE).amax(1)


class BootstrapHeads(nn.Module):
    """Heads that stage one reads off a Q-Former, and stage two leaves out.

    ITC's two projections and its temperature (a plain number, not a logarithm, and not bounded), ITM's two classes,
    and of ITG all of BERT's head of words but the words themselves, which are the Q-Former's.
    """

    def __init__(self, width: int, features: int, ids: int, temperature: float) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(width, features), nn.Linear(width, features)
        self.temperature = nn.Parameter(torch.tensor(temperature))
        self.match = nn.Linear(width, 2)
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width, eps=EPS)
        self.bias = nn.Parameter(torch.zeros(ids))

    def tell(self, y_ND: Tensor, words_VD: Tensor) -> Tensor:
        """logits_NV of the next token."""
        return F.linear(self.norm(F.gelu(self.dense(y_ND))), words_VD, self.bias)


class BootstrapNetwork(nn.Module):
    """`towers`: one, by its name. The parts have the names of those of `VisionLanguage`, which starts from them."""

    def __init__(
        self, towers: Mapping[str, VisionTower], connector: QFormerConfig, features: int, temperature: float
    ) -> None:
        super().__init__()
        self.towers = nn.ModuleDict(dict(towers))
        self.connector = QFormer(connector.sizes([tower.shape for tower in towers.values()], reads=True))
        assert self.connector.shape.ids is not None
        self.tell_id = self.connector.shape.ids - 1
        self.heads = BootstrapHeads(connector.width, features, self.tell_id + 1, temperature)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the tower, of the Q-Former with its queries and the tower's norm, of the losses' heads."""
        return {
            "tower": list(self.tower.net.parameters()),
            "connector": [*self.tower.norm.parameters(), *self.connector.parameters()],
            "heads": list(self.heads.parameters()),
        }

    def all_towers(self) -> dict[str, VisionTower]:
        """The tower by its name."""
        return {name: tower for name, tower in self.towers.items() if isinstance(tower, VisionTower)}

    @property
    def tower(self) -> VisionTower:
        """The tower."""
        [tower] = self.all_towers().values()
        return tower

    def image_features(self, picture: Features) -> tuple[Tensor, list[Seen]]:
        """(unit images_BQE, what `tell` looks at)."""
        query_BQD, kept = self.connector.see(picture)
        return F.normalize(self.heads.image(query_BQD).float(), dim=-1), kept

    def text_features(self, text: ReadTexts) -> Tensor:
        """Unit texts_BE, by their first tokens."""
        return F.normalize(self.heads.text(self.connector.read(text)[:, 0]).float(), dim=-1)

    def match(self, picture: Features, text: ReadTexts) -> Tensor:
        """logits_B2 of each text with its picture: the mean of the queries'."""
        logits_BQ2: Tensor = self.heads.match(self.connector.join(picture, text))
        return logits_BQ2.mean(1).float()

    def tell(self, text: ReadTexts, kept: list[Seen]) -> Tensor:
        """y_BTD for `heads.tell`, left to right; [DEC] stands in the place of a text's first token."""
        told_BT = text.ids_NT.clone()
        told_BT[:, 0] = self.tell_id
        return self.connector.tell(ReadTexts(told_BT, text.there_NT), kept)
