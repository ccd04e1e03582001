"""The matching network: a two-way head on a text encoder that sees the picture.

BLIP's image-grounded text encoder and its ITM head (Li et al. 2201.12086, 3.1 and 3.2), with a dual encoder beside it
whose cosines (ITC) choose the hard pairs in training. BLIP's texts look at the picture's vectors by cross-attention;
here these stand before the text's tokens in one sequence in which all see all (as in UNITER, 1909.11740): the same
question by the blocks that the language model has already.

Shapes: B images, C x H x W pixels, N vectors of an image, E width of the encoder, D of the dual encoder, T token ids.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.table import connector_of
from curate.models.exports import MatcherShape
from curate.models.image_tower import features_and_embedding, tower_shape
from curate.models.language import LanguageModel

MATCHED = 1
"""The class of a text that says what the picture shows; 0 is that of one which does not."""


class MatchingNetwork(nn.Module):
    """`net`: an open_clip dual encoder for images of `size_px` and ids below `vocab_size`, the largest the end mark."""

    def __init__(self, net: nn.Module, size_px: int, vocab_size: int, shape: MatcherShape) -> None:
        super().__init__()
        self.net = net
        self.connector = connector_of(shape.connector).build([tower_shape(self.visual, size_px)], shape.width)
        self.encoder = LanguageModel(vocab_size, shape.width, shape.layers, shape.heads, causal=False)
        self.head = nn.Linear(shape.width, 2)

    @property
    def visual(self) -> nn.Module:
        """The image tower."""
        found = self.net.visual
        assert isinstance(found, nn.Module)
        return found

    def see(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(vectors_BNE for `match`, unit features_BD) of normalised images."""
        features, embedding_BD = features_and_embedding(self.visual, images_BCHW)
        return self.connector([features]), F.normalize(embedding_BD, dim=-1)

    def read(self, ids_BT: Tensor) -> Tensor:
        """Unit features_BD of texts by themselves."""
        features_BD: Tensor = self.net.encode_text(ids_BT, normalize=True)  # type: ignore[operator]
        return features_BD

    def match(self, vectors_BNE: Tensor, ids_BT: Tensor) -> Tensor:
        """logits_B2 of each text with its image, read off at the end mark."""
        B, N, _ = vectors_BNE.shape
        end_B = N + ids_BT.argmax(1)
        x_BSE = torch.cat((vectors_BNE, self.encoder.embed(ids_BT).to(vectors_BNE.dtype)), 1)
        there_BS = torch.arange(x_BSE.shape[1], device=ids_BT.device) <= end_B[:, None]
        y_BSE = self.encoder(x_BSE, segments_BT=there_BS.long())
        logits_B2: Tensor = self.head(y_BSE[torch.arange(B, device=ids_BT.device), end_B])
        return logits_B2
