"""The prediction of answers by an encoder-decoder that reads pictures and questions (BLIP-2 with FlanT5)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from train.objectives.cross_entropy import token_losses
from train.objectives.multimodal import MultimodalObjective, sources_of


class EncoderDecoderObjective(MultimodalObjective):
    """The caption objective where the language model is an encoder-decoder: what stands before the first scored token
    of a row, pictures among it, is what the encoder reads; the rest is the decoder's (Li et al. 2301.12597, 3.3).
    """

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Sum of the scored tokens' cross entropies, scaled."""
        ids_BT, scored_BT = batch["ids"], batch["scored"]
        asked_B = torch.where(scored_BT.any(1), scored_BT.int().argmax(1), ids_BT.shape[1])
        y_BAD = self.net.language(self.net.embed(ids_BT, self.vectors(batch)), asked_B)
        place_BA = asked_B[:, None] + torch.arange(y_BAD.shape[1], device=ids_BT.device)
        inside_BA = place_BA < ids_BT.shape[1]
        place_BA = place_BA.clamp(max=ids_BT.shape[1] - 1)
        wanted_BA = scored_BT.gather(1, place_BA) & inside_BA
        losses_N = token_losses(y_BAD[wanted_BA], ids_BT.gather(1, place_BA)[wanted_BA], self.net.language.logits)
        sources_N = sources_of(batch).gather(1, place_BA)[wanted_BA]
        return (losses_N * batch["scale"][sources_N]).sum() if "scale" in batch else losses_N.sum()
