"""The contrastive objective of a dual encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from curate.models.files import ModelError
from curate.models.image_tower import at_resolution, normalised
from train.models.dual_encoder import DualEncoder
from train.objectives.parts import Parts
from train.ranks import gather


def contrastive_loss(images_BD: Tensor, texts_BD: Tensor, scale: Tensor) -> Tensor:
    """Mean of the two cross entropies of a batch of unit vectors (Radford et al. 2021, figure 3)."""
    logits_BB = scale * images_BD @ texts_BD.T
    truth_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, truth_B) + F.cross_entropy(logits_BB.T, truth_B)) / 2


class ContrastiveObjective(nn.Module):
    """The CLIP loss over the pairs of all ranks; every rank computes it whole."""

    trained = frozenset({"image", "text"})

    def __init__(self, clip: DualEncoder, max_logit_scale: float) -> None:
        super().__init__()
        self.net = clip.net
        self.bound = math.log(max_logit_scale)

    @property
    def _visual(self) -> nn.Module:
        visual = self.net.visual
        assert isinstance(visual, nn.Module)
        return visual

    def parts(self) -> Parts:
        """The two towers."""
        named = [(name, p) for name, p in self.net.named_parameters() if name != "logit_scale"]
        image = [p for name, p in named if name.startswith("visual.")]
        return {"image": image, "text": [p for name, p in named if not name.startswith("visual.")]}

    def check_resolution(self, size_px: int) -> None:
        """Raise ModelError if the image tower cannot take images of that size."""
        with torch.no_grad():
            try:
                changed = at_resolution(self._visual, size_px, "")
                functional_call(self._visual, changed, (torch.zeros(1, 3, size_px, size_px),))
            except (RuntimeError, AssertionError) as err:
                raise ModelError(f"the image tower cannot take images of {size_px} pixels: {err}") from err

    def counts(self, batch: Mapping[str, Tensor]) -> list[float]:
        """Pairs, of all sources together."""
        return [float(len(batch["image"]))]

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Sum of the losses of this rank's pairs, scaled: their number times the mean over all ranks' pairs."""
        changed = at_resolution(self._visual, batch["image"].shape[-1], "visual.")
        given = normalised(batch["image"]), batch["text"]
        images_BD, texts_BD, scale = functional_call(self.net, changed, given)[:3]
        loss = contrastive_loss(gather(images_BD.float()), gather(texts_BD.float()), scale.float())
        loss = loss * len(images_BD)
        return loss * batch["scale"][0] if "scale" in batch else loss

    def after_step(self) -> None:
        """Clamp the logits' scale between 1 and its bound."""
        with torch.no_grad():
            self.net.logit_scale.clamp_(0, self.bound)  # type: ignore[operator]
