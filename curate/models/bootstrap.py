"""The network of BLIP-2's stage one (Li et al. 2301.12597, 3.1): a Q-Former on a tower, and what is read off it.

Shapes: B pictures or texts, N texts, Q queries, D width of the Q-Former, E of the features that are compared, V ids.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.qformer import QFormerConfig
from curate.models.features import Features, Texts
from curate.models.image_tower import features_of, normalised, tower_shape
from curate.models.qformer import EPS, QFormer, Seen


def similarities(images_BQE: Tensor, texts_NE: Tensor) -> Tensor:
    """Similarities_BN of pictures and texts: of a picture's queries the one that is closest counts."""
    return torch.einsum("bqe,ne->bqn", images_BQE, texts_NE).amax(1)


class BootstrapHeads(nn.Module):
    """What stage one reads off a Q-Former, and stage two leaves out.

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
    """`tower`: an open_clip image tower for pictures of `size_px`. Its parts have the names of `VisionLanguage`'s."""

    def __init__(self, tower: nn.Module, size_px: int, connector: QFormerConfig, features: int, temp: float) -> None:
        super().__init__()
        self.tower = tower
        self.connector = QFormer(connector.sizes([tower_shape(tower, size_px)], reads=True), connector.norm)
        assert self.connector.shape.ids is not None
        self.tell_id = self.connector.shape.ids - 1
        self.heads = BootstrapHeads(connector.width, features, self.tell_id + 1, temp)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the tower, the Q-Former with its queries, the heads of the three losses."""
        return {name: list(getattr(self, name).parameters()) for name in ("tower", "connector", "heads")}

    def train(self, mode: bool = True) -> BootstrapNetwork:
        """Set training mode; a frozen tower stays in evaluation mode: its batch statistics do not move."""
        super().train(mode)
        self.tower.train(mode and self._tower_trained())
        return self

    def see(self, images_BCHW: Tensor) -> Features:
        """The tower's features of pictures in uint8."""
        with torch.set_grad_enabled(self._tower_trained() and torch.is_grad_enabled()):
            return features_of(self.tower, normalised(images_BCHW))

    def image_features(self, picture: Features) -> tuple[Tensor, list[Seen]]:
        """(unit images_BQE, what `tell` looks at)."""
        query_BQD, kept = self.connector.see(picture)
        return F.normalize(self.heads.image(query_BQD).float(), dim=-1), kept

    def text_features(self, text: Texts) -> Tensor:
        """Unit texts_BE, by their first tokens."""
        return F.normalize(self.heads.text(self.connector.read(text)[:, 0]).float(), dim=-1)

    def match(self, picture: Features, text: Texts) -> Tensor:
        """logits_B2 of each text with its picture: the mean of the queries'."""
        logits_BQ2: Tensor = self.heads.match(self.connector.join(picture, text))
        return logits_BQ2.mean(1).float()

    def tell(self, text: Texts, kept: list[Seen]) -> Tensor:
        """y_BTD for `heads.tell`, left to right; [DEC] stands in the place of a text's first token."""
        told_BT = text.ids_NT.clone()
        told_BT[:, 0] = self.tell_id
        return self.connector.tell(Texts(told_BT, text.there_NT), kept)

    def _tower_trained(self) -> bool:
        return any(p.requires_grad for p in self.tower.parameters())
