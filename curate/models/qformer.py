"""The querying transformer of BLIP-2 (2301.12597, 3.1): learnt queries that look at a picture and at a text.

BERT's blocks (Devlin et al. 1810.04805: a norm after each sum). Queries and text share self-attention and have feed-
forwards of their own; every second block, the first one included, lets the queries look at the picture. What sees what:

    see     queries alone (ITC, stage two)     queries see queries
    read    a text alone (ITC)                 text sees text
    join    both (ITM, InstructBLIP)           all see all
    tell    a text behind its queries (ITG)    queries see queries; a token sees the queries and tokens up to itself

Shapes: B rows, Q queries, T tokens, S of either or both, D width, H heads, K width of a head, P vectors of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.features import Features, ReadTexts

EPS = 1e-12
"""What BERT's norms add to a variance."""
STD = 0.02
"""Of BERT's new weights, and of the queries."""

Seen = tuple[Tensor, Tensor]
"""Keys and values of what attention looks at, BHSK each."""


@dataclass(frozen=True)
class QFormerShape:
    """The sizes of a Q-Former; the defaults are BERT-base's. `vision`: width of a picture's vectors.

    `ids`: of texts, the last of them [DEC], which begins a text that is told; none: there are no texts, and what is
    theirs alone is left out. `cross_every`: blocks from one look at the picture to the next.
    """

    vision: int
    queries: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    cross_every: int = 2
    ids: int | None = None
    positions: int = 512
    dropout: float = 0.1


class QFormerAttention(nn.Module):
    """Attention of vectors of one width to vectors of another, added to the first and normed."""

    def __init__(self, shape: QFormerShape, context: int) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, nn.Dropout(shape.dropout)
        self.q = nn.Linear(shape.width, shape.width)
        self.k, self.v = nn.Linear(context, shape.width), nn.Linear(context, shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=EPS)

    def keys_values(self, x_BSC: Tensor) -> Seen:
        """Keys and values that `forward` looks at."""
        return self._by_head(self.k(x_BSC)), self._by_head(self.v(x_BSC))

    def forward(self, x_BSD: Tensor, seen: Seen, mask: Tensor | None = None) -> Tensor:
        """y_BSD; `mask` says which of what is seen a vector may see, B1SS or what spreads to it."""
        dropout = self.dropout.p if self.training else 0.0
        y_BHSK = F.scaled_dot_product_attention(self._by_head(self.q(x_BSD)), *seen, attn_mask=mask, dropout_p=dropout)
        y_BSD: Tensor = self.norm(x_BSD + self.dropout(self.out(y_BHSK.transpose(1, 2).flatten(2))))
        return y_BSD

    def _by_head(self, x_BSD: Tensor) -> Tensor:
        B, S, _ = x_BSD.shape
        return x_BSD.view(B, S, self.heads, -1).transpose(1, 2)


class QFormerFeedForward(nn.Module):
    """Two linear layers with a GELU between, added to what came in and normed."""

    def __init__(self, shape: QFormerShape) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(shape.width, shape.hidden), nn.Linear(shape.hidden, shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.norm = nn.LayerNorm(shape.width, eps=EPS)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """y_BSD."""
        y_BSD: Tensor = self.norm(x_BSD + self.dropout(self.down(F.gelu(self.up(x_BSD)))))
        return y_BSD


class QFormerBlock(nn.Module):
    """Self-attention of all, cross-attention of the queries in some blocks, feed-forwards of queries and of text."""

    def __init__(self, shape: QFormerShape, looks: bool) -> None:
        super().__init__()
        self.queries = shape.queries
        self.attention = QFormerAttention(shape, shape.width)
        self.cross = QFormerAttention(shape, shape.vision) if looks else None
        self.query_mlp = QFormerFeedForward(shape)
        self.text_mlp = QFormerFeedForward(shape) if shape.ids else None

    def forward(
        self, x_BSD: Tensor, picture: Features | None, mask: Tensor | None = None, kept: Seen | None = None
    ) -> tuple[Tensor, Seen]:
        """(y_BSD, the keys and values of x). With a picture its queries come first; `kept` is seen besides x."""
        own = self.attention.keys_values(x_BSD)
        seen = own if kept is None else (torch.cat((kept[0], own[0]), 2), torch.cat((kept[1], own[1]), 2))
        x_BSD = self.attention(x_BSD, seen, mask)
        queries = 0 if picture is None else self.queries
        rows = [] if picture is None else [self._look(x_BSD[:, :queries], picture)]
        if queries < x_BSD.shape[1]:
            assert self.text_mlp is not None, "a Q-Former without ids reads no text"
            rows.append(self.text_mlp(x_BSD[:, queries:]))
        return torch.cat(rows, 1), own

    def _look(self, x_BQD: Tensor, picture: Features) -> Tensor:
        if self.cross is not None:
            mask = None if picture.there_MP is None else picture.there_MP[:, None, None]
            x_BQD = self.cross(x_BQD, self.cross.keys_values(picture.x_MPD), mask)
        y_BQD: Tensor = self.query_mlp(x_BQD)
        return y_BQD


class QFormer(nn.Module):
    """Queries, blocks, and of texts their ids and positions, which begin at 0 whether or not queries stand before.

    The LayerNorm that BLIP-2 trains on a frozen tower's vectors is the tower's (`TowerConfig.norm`).
    """

    def __init__(self, shape: QFormerShape) -> None:
        super().__init__()
        self.shape = shape
        self.queries = nn.Parameter(torch.empty(shape.queries, shape.width))
        self.words = nn.Embedding(shape.ids, shape.width) if shape.ids else None
        self.positions = nn.Embedding(shape.positions, shape.width) if shape.ids else None
        self.norm = nn.LayerNorm(shape.width, eps=EPS)
        self.dropout = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(QFormerBlock(shape, not n % shape.cross_every) for n in range(shape.layers))
        self.apply(_draw)
        nn.init.normal_(self.queries, std=STD)

    def see(self, picture: Features) -> tuple[Tensor, list[Seen]]:
        """(y_BQD of the queries alone, what `tell` looks at: their keys and values in every block)."""
        x_BQD = self._start(self.queries.expand(len(picture.x_MPD), -1, -1))
        kept = []
        for block in self.blocks:
            x_BQD, own = block(x_BQD, picture)
            kept.append(own)
        return x_BQD, kept

    def read(self, text: ReadTexts) -> Tensor:
        """y_BTD of a text alone, each token seeing all of it."""
        x_BTD = self._start(self._words(text))
        for block in self.blocks:
            x_BTD, _ = block(x_BTD, None, text.there_NT[:, None, None])
        return x_BTD

    def join(self, picture: Features, text: ReadTexts) -> Tensor:
        """y_BQD of the queries where all see all."""
        query_BQD = self.queries.expand(len(text.ids_NT), -1, -1)
        x_BSD = self._start(torch.cat((query_BQD, self._words(text)), 1))
        there_BS = F.pad(text.there_NT, (self.shape.queries, 0), value=True)
        for block in self.blocks:
            x_BSD, _ = block(x_BSD, picture, there_BS[:, None, None])
        return x_BSD[:, : self.shape.queries]

    def tell(self, text: ReadTexts, kept: list[Seen]) -> Tensor:
        """y_BTD of a text from left to right behind the queries that `see` ran."""
        x_BTD = self._start(self._words(text))
        T, device = x_BTD.shape[1], x_BTD.device
        before_TT = torch.ones(T, T, dtype=torch.bool, device=device).tril()
        mask_BTS = F.pad(before_TT & text.there_NT[:, None], (self.shape.queries, 0), value=True)
        for block, seen in zip(self.blocks, kept, strict=True):
            x_BTD, _ = block(x_BTD, None, mask_BTS[:, None], seen)
        return x_BTD

    def _start(self, x_BSD: Tensor) -> Tensor:
        y_BSD: Tensor = self.dropout(self.norm(x_BSD))
        return y_BSD

    def _words(self, text: ReadTexts) -> Tensor:
        assert self.words is not None and self.positions is not None, "a Q-Former without ids reads no text"
        x_BTD: Tensor = self.words(text.ids_NT) + self.positions.weight[: text.ids_NT.shape[1]]
        return x_BTD


def _draw(module: nn.Module) -> None:
    """BERT's own beginning: weights N(0, .02), no biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
