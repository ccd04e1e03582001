"""BLIP-2's stage one: a Q-Former learns from a frozen tower to say what a picture shows (2301.12597, 3.2).

Where paper and code (LAVIS) differ, this follows the code. Shapes: B pairs of this rank, N of all ranks, P vectors of a
picture, Q queries, T tokens, D width, E width of the features that are compared, V ids.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.blip import blip_folder
from curate.models.bootstrap import BootstrapNetwork, similarities
from curate.models.features import Features, ReadTexts, pictures_in
from curate.models.matching import MATCHED
from curate.models.qformer import Seen
from curate.models.qformer_weights import start_from_bert
from curate.models.towers.tower import VisionTower
from train.config import BootstrapConfig
from train.objectives.matching import NO_NEGATIVE, draw_negatives
from train.objectives.parts import Parts
from train.ranks import first_row, gather


def itc_loss(i2t_BN: Tensor, t2i_BN: Tensor, first: int, smoothing: float) -> Tensor:
    """Mean of the cross entropies of pictures to texts and texts to pictures; row b's own is column `first` + b."""
    own_B = first + torch.arange(len(i2t_BN), device=i2t_BN.device)
    both = [F.cross_entropy(logits_BN.float(), own_B, label_smoothing=smoothing) for logits_BN in (i2t_BN, t2i_BN)]
    return (both[0] + both[1]) / 2


class BootstrapObjective(nn.Module):
    """Contrast (ITC), matching with hard negatives (ITM) and telling (ITG), summed, by one Q-Former's passes.

    ITC and ITM are over the pairs of all ranks. What ITC gathers has no gradient: a picture learns from its row
    against texts that stand still, and the other way round (on one rank too, so that ranks change nothing). ITM's
    hard pairs are drawn by the softmax of ITC's logits, and gathered pictures do carry a gradient. A text that reads
    the same is no negative of a pair, which LAVIS leaves to chance. ITG reads the keys and values that the queries
    left in ITC. ITM and ITG are means over the rows and tokens of all ranks; LAVIS's are means on each.
    """

    trained = frozenset({"connector", "heads"})

    def __init__(self, towers: Mapping[str, VisionTower], settings: BootstrapConfig) -> None:
        super().__init__()
        self.smoothing = settings.smoothing
        self.net = BootstrapNetwork(towers, settings.connector, settings.features, settings.temperature)
        if settings.bert is not None:
            start_from_bert(self.net.connector, blip_folder(settings.bert))

    def parts(self) -> Parts:
        """The image tower, the Q-Former with its queries, the heads of the three losses."""
        return self.net.parts()

    def check_resolution(self, size_px: int) -> None:
        """Raise ModelError if the image tower cannot take images of that size."""
        self.net.tower.shape_at(size_px)

    def counts(self, batch: Mapping[str, Tensor]) -> list[float]:
        """Pairs, of all sources together."""
        return [float(len(batch["image"]))]

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Number of this rank's pairs times the sum of the three losses, scaled."""
        ids_BT = batch["text"]
        found = pictures_in(batch)
        assert found is not None, "a pair has a picture"
        text, picture = ReadTexts.of(ids_BT), self.net.tower(found.groups[0][0])
        images_BQE, kept = self.net.image_features(picture)
        i2t_BN, t2i_BN = self._logits(images_BQE, self.net.text_features(text))
        itc = itc_loss(i2t_BN, t2i_BN, first_row(len(ids_BT)), self.smoothing)
        itm = self._matching_loss(picture, ids_BT, i2t_BN.detach(), t2i_BN.detach())
        loss = (itc + itm + self._telling_loss(text, kept)) * len(ids_BT)
        return loss * batch["scale"][0] if "scale" in batch else loss

    def after_step(self) -> None:
        """Do nothing: nothing is bounded."""

    def _logits(self, images_BQE: Tensor, texts_BE: Tensor) -> tuple[Tensor, Tensor]:
        """(logits_BN of pictures and all ranks' texts, logits_BN of texts and all ranks' pictures)."""
        i2t_BN = similarities(images_BQE, gather(texts_BE.detach()))
        t2i_BN = similarities(gather(images_BQE.detach()), texts_BE).T
        return i2t_BN / self.net.heads.temperature, t2i_BN / self.net.heads.temperature

    def _matching_loss(self, picture: Features, ids_BT: Tensor, i2t_BN: Tensor, t2i_BN: Tensor) -> Tensor:
        """Cross entropy over three pairs a sample: its own, its text with another's picture, the other way round."""
        all_NT, all_NPD = gather(ids_BT), gather(picture.x_MPD)
        same_BN = (ids_BT[:, None] == all_NT[None]).all(2)
        other_image, has_image = draw_negatives(t2i_BN, same_BN, least=0.0)
        other_text, has_text = draw_negatives(i2t_BN, same_BN, least=0.0)
        ids = torch.cat((ids_BT, ids_BT, all_NT[other_text]))
        pictures = torch.cat((picture.x_MPD, all_NPD[other_image], picture.x_MPD))
        logits = self.net.match(Features(pictures, picture.grid), ReadTexts.of(ids))
        wanted = torch.full((3, len(ids_BT)), MATCHED, device=ids_BT.device)
        wanted[1:] = torch.where(torch.stack((has_image, has_text)), 1 - MATCHED, NO_NEGATIVE)
        total = F.cross_entropy(logits, wanted.flatten(), ignore_index=NO_NEGATIVE, reduction="sum")
        return total / _mean_count(wanted != NO_NEGATIVE)

    def _telling_loss(self, text: ReadTexts, kept: list[Seen]) -> Tensor:
        """Cross entropy of each next token."""
        words, wanted_BT = self.net.connector.words, text.there_NT[:, 1:]
        assert words is not None
        y_ND = self.net.tell(text, kept)[:, :-1][wanted_BT]
        logits_NV = self.net.heads.tell(y_ND, words.weight).float()
        next_N = text.ids_NT[:, 1:][wanted_BT]
        total = F.cross_entropy(logits_NV, next_N, label_smoothing=self.smoothing, reduction="sum")
        return total / _mean_count(wanted_BT)


def _mean_count(counted: Tensor) -> Tensor:
    """How many there are on a rank, in the mean of the ranks."""
    return gather(counted.sum().float()[None]).mean().clamp(min=1)
