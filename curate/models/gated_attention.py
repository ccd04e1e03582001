"""Gated cross-attention: a language model looks at pictures between its layers, not in its sequence.

Flamingo (Alayrac et al. 2204.14198, 3.1.2 and A.1.2). In the sequence a picture is one place, its tag; its vectors are
media that the text behind the tag looks at. The gates begin at 0, by which the language model's scores are at first
what they were, to the bit.

Shapes: B batch, T places, E width of the language model; I pictures of a row, P vectors of each, D their width; N
pictures of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from curate.models.cross_attention import Activation, CrossAttention, FeedForward
from curate.models.files import ModelError
from curate.models.languages.face import Between
from curate.settings import Settings

Count = Annotated[int, Field(ge=1)]


class GatedConfig(Settings):
    """Settings of the blocks. OpenFlamingo has 8 heads of 64 and GELU, Flamingo 16 of 128 and the squared ReLU.

    `interval`: one block before each decoder layer i (from 0) of which i + 1 is a multiple of it. `all_before`: text
    looks at all pictures before it in its document, not only the last.
    """

    type: Literal["cross_attention"] = "cross_attention"
    interval: Count = 4
    heads: Count = 8
    head_width: Count = 64
    activation: Activation = "gelu"
    all_before: bool = False

    def build(self, depth: int, width: int, media_width: int) -> GatedBlocks:
        """The blocks for a decoder of `depth` layers. Raises ModelError where it has fewer than the interval."""
        if self.interval > depth:
            raise ModelError(
                f"fusion cross_attention: a block every {self.interval} layers, and the language model has {depth}:"
                " no block would stand in it; take a smaller interval"
            )
        return GatedBlocks(depth, width, media_width, self)


def phi(tags_BT: Tensor, segments_BT: Tensor | None = None) -> Tensor:
    """Number, from 1, of the last picture whose tag is at or before each place: a running count; 0 before the first.

    With segments, within each: a document never sees another's picture. Flamingo (2204.14198), 3.1.3.
    """
    count_BT = tags_BT.long().cumsum(1)
    if segments_BT is None:
        return count_BT
    begins_BT = torch.ones_like(tags_BT, dtype=torch.bool)
    begins_BT[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    earlier_BT = (count_BT - tags_BT.long()).masked_fill(~begins_BT, 0).cummax(1).values
    return count_BT - earlier_BT


@dataclass(frozen=True)
class Media:
    """The pictures' vectors by row, and how many of them stand before each place.

    `vectors_BIPD` is filled up with zeros, and has at least one picture a row: so the blocks run, and their parameters
    have gradients, on a rank whose batch has no picture. `last_BT`: see `phi`. `earlier_BT`: pictures of the row that
    belong to documents before this place's.
    """

    vectors_BIPD: Tensor
    last_BT: Tensor
    earlier_BT: Tensor

    @classmethod
    def of(cls, vectors_NPD: Tensor, tags_BT: Tensor, segments_BT: Tensor | None = None) -> Media:
        """Media of a batch: N pictures in the order of their tags, row by row."""
        images_B = tags_BT.sum(1)
        assert int(images_B.sum()) == len(vectors_NPD), "a picture a tag"
        slots_I = torch.arange(max(int(images_B.max()), 1), device=tags_BT.device)
        vectors_BIPD = vectors_NPD.new_zeros(len(tags_BT), len(slots_I), *vectors_NPD.shape[1:])
        vectors_BIPD[slots_I < images_B[:, None]] = vectors_NPD
        last_BT = phi(tags_BT, segments_BT)
        return cls(vectors_BIPD, last_BT, phi(tags_BT) - last_BT)

    def of_last(self, places: int) -> Media:
        """Media of so many of the last places: of what is generated, when all before is kept."""
        return replace(self, last_BT=self.last_BT[:, -places:], earlier_BT=self.earlier_BT[:, -places:])

    def seen(self, all_before: bool) -> Tensor:
        """seen_BTS: which of the row's S = I x P vectors each place looks at."""
        images, vectors = self.vectors_BIPD.shape[1:3]
        number_I = torch.arange(1, images + 1, device=self.last_BT.device)
        number_BTI = number_I - self.earlier_BT.unsqueeze(2)
        last_BT1 = self.last_BT.unsqueeze(2)
        reached_BTI = number_BTI <= last_BT1 if all_before else number_BTI == last_BT1
        return (reached_BTI & (number_BTI > 0)).repeat_interleave(vectors, dim=2)


class GatedBlocks(nn.Module):
    """The blocks of a decoder; block k stands before its layer (k + 1) x interval - 1.

    `tag_E`: what stands in the sequence where a picture is.
    """

    def __init__(self, depth: int, width: int, media_width: int, config: GatedConfig) -> None:
        super().__init__()
        self.interval, self.all_before = config.interval, config.all_before
        self.tag_E = nn.Parameter(torch.randn(width) * width**-0.5)
        self.blocks = nn.ModuleList(GatedBlock(width, media_width, config) for _ in range(depth // config.interval))

    def between(self, media: Media) -> Between:
        """The blocks with these media, as a decoder calls them between its layers."""
        media_BSD = media.vectors_BIPD.flatten(1, 2)
        seen_BTS = media.seen(self.all_before)
        none_BT1 = ~seen_BTS.any(2, keepdim=True)
        allowed_BTS = seen_BTS | none_BT1  # a softmax over nothing is not a number: what it gives there is left out

        def block_before(layer: int, x_BTE: Tensor) -> Tensor:
            number, rest = divmod(layer + 1, self.interval)
            if rest or number > len(self.blocks):
                return x_BTE
            found: Tensor = self.blocks[number - 1](x_BTE, media_BSD, allowed_BTS, none_BT1)
            return found

        return block_before


class GatedBlock(nn.Module):
    """x + tanh(a) attention(x, media), then x + tanh(b) feed-forward(x); a and b begin at 0.

    Where text has no picture to look at, its attention is 0, and the feed-forward applies all the same.
    """

    def __init__(self, width: int, media_width: int, config: GatedConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, media_width, config.heads, config.head_width)
        self.attention_gate = nn.Parameter(torch.zeros(1))
        self.feed_forward = FeedForward(width, config.activation)
        self.feed_forward_gate = nn.Parameter(torch.zeros(1))

    def forward(self, x_BTE: Tensor, media_BSD: Tensor, allowed_BTS: Tensor, none_BT1: Tensor) -> Tensor:
        """x_BTE after the block."""
        looked_BTE = self.attention(self.norm(x_BTE), media_BSD, allowed_BTS).masked_fill(none_BT1, 0)
        x_BTE = x_BTE + self.attention_gate.tanh() * looked_BTE
        y_BTE: Tensor = x_BTE + self.feed_forward_gate.tanh() * self.feed_forward(x_BTE)
        return y_BTE
