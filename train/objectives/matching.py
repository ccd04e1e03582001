"""Image-text matching with hard negatives of the batch, and the contrastive loss that finds them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.exports import MatcherShape
from curate.models.image_tower import normalised, tower_shape
from curate.models.matching import MATCHED, MatchingNetwork
from train.config import MatchingConfig
from train.models.dual_encoder import DualEncoder
from train.objectives.contrastive import contrastive_loss
from train.objectives.parts import Parts
from train.ranks import gather

NO_NEGATIVE = -100
"""The class of a pair that is none: nothing in the batch differs from it."""


def draw_negatives(logits_RC: Tensor, same_RC: Tensor, least: float = 1e-4) -> tuple[Tensor, Tensor]:
    """(a column for each row, drawn by the softmax of its logits; whether the row has one that is not the same).

    `least` is added to every share: BLIP's 1e-4, BLIP-2's 0. From torch's generator.
    """
    has_one = ~same_RC.all(1)
    logits_RC = logits_RC.float() if least else logits_RC.float().masked_fill(same_RC, -torch.inf)
    shares_RC = (F.softmax(logits_RC, dim=1) + least).masked_fill(same_RC, 0)
    drawn = torch.multinomial(shares_RC.masked_fill(~has_one[:, None], 1), 1)[:, 0]
    return drawn, has_one


class MatchingObjective(nn.Module):
    """BLIP's filter (2201.12086): the contrastive loss (ITC) and the matching loss (ITM), summed.

    ITM is over three pairs a sample: its own, its image with another's text, its text with another's image. Others are
    drawn from the samples of this rank, likelier the closer the dual encoder holds them; texts that are the same are
    no negatives of each other. BLIP's momentum encoder and queue, made for pre-training, are left out.
    """

    trained = frozenset({"image", "text", "connector", "encoder"})

    def __init__(self, clip: DualEncoder, settings: MatchingConfig) -> None:
        super().__init__()
        encoder = settings.encoder
        self.shape = MatcherShape(encoder.width, encoder.layers, encoder.heads, settings.connector.model_dump())
        self.network = MatchingNetwork(clip.net, clip.size_px, clip.tokenizer.vocab_size, self.shape)
        self.bound = math.log(settings.max_logit_scale)

    def parts(self) -> Parts:
        """The dual encoder's towers, the connector, the text encoder with its head."""
        network = self.network
        towers = [(name, p) for name, p in network.net.named_parameters() if name != "logit_scale"]
        return {
            "image": [p for name, p in towers if name.startswith("visual.")],
            "text": [p for name, p in towers if not name.startswith("visual.")],
            "connector": list(network.connector.parameters()),
            "encoder": [*network.encoder.parameters(), *network.head.parameters()],
        }

    def check_resolution(self, size_px: int) -> None:
        """Raise ModelError if the image tower cannot take images of that size."""
        tower_shape(self.network.visual, size_px)

    def counts(self, batch: Mapping[str, Tensor]) -> list[float]:
        """Pairs, of all sources together."""
        return [float(len(batch["image"]))]

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Number of this rank's pairs times the sum of both losses, scaled."""
        ids_BT, net = batch["text"], self.network.net
        vectors_BNE, images_BD = self.network.see(normalised(batch["image"]))
        texts_BD, scale = self.network.read(ids_BT), net.logit_scale.exp().float()  # type: ignore[operator]
        itc = contrastive_loss(gather(images_BD.float()), gather(texts_BD.float()), scale)
        with torch.no_grad():
            logits_BB = scale * images_BD.float() @ texts_BD.float().T
        loss = (itc + self._matching_loss(vectors_BNE, ids_BT, logits_BB)) * len(ids_BT)
        return loss * batch["scale"][0] if "scale" in batch else loss

    def after_step(self) -> None:
        """Clamp the logits' scale between 1 and its bound."""
        with torch.no_grad():
            self.network.net.logit_scale.clamp_(0, self.bound)  # type: ignore[operator]

    def _matching_loss(self, vectors_BNE: Tensor, ids_BT: Tensor, logits_BB: Tensor) -> Tensor:
        same_BB = (ids_BT[:, None] == ids_BT[None]).all(2)
        other_text, has_text = draw_negatives(logits_BB, same_BB)
        other_image, has_image = draw_negatives(logits_BB.T, same_BB)
        logits = self.network.match(
            torch.cat((vectors_BNE, vectors_BNE, vectors_BNE[other_image])),
            torch.cat((ids_BT, ids_BT[other_text], ids_BT)),
        )
        wanted = torch.full((3, len(ids_BT)), MATCHED, device=ids_BT.device)
        wanted[1:] = torch.where(torch.stack((has_text, has_image)), 1 - MATCHED, NO_NEGATIVE)
        return F.cross_entropy(logits.float(), wanted.flatten(), ignore_index=NO_NEGATIVE)
