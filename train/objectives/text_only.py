"""Training on texts alone: CLIP's text tower stands where its image tower will (TOMGPT, TKDD 18(7):171).

The two towers of a dual encoder end in one space. A text's embedding is given to the connector as a picture's would be:
in stage one the language model says the text again, in stage two it answers a question about it. Then the image tower
takes the text tower's place, nothing else touched: what is exported is a model that sees.

Shapes: B rows, T token ids of a context, D width of the space, N contexts, P places of each, E the decoder's width.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.mix.content import own_text, texts_under
from curate.models.features import Features
from curate.models.towers.tower import tower_of
from curate.stream.reading import DrawnSample
from train.config import GapConfig, TextOnly
from train.evaluation.dual_encoders import embed_pairs
from train.models.dual_encoder import DualEncoder
from train.objectives.multimodal import MultimodalObjective

CONTEXT, QUESTION = "context", "question"
"""Keys of a sample's JSON, as the op text_only_tuning writes them: what is embedded, and the prompt behind it."""


class TextOnlyObjective(MultimodalObjective):
    """Next-token objective whose pictures are texts (see the module): a batch's `image` has a context's ids, B x 1 x T.

    Nothing is added to an embedding unless the settings say so: no source on TOMGPT that could be read speaks of noise.
    """

    gap_D: Tensor

    def __init__(self, clip: DualEncoder, settings: TextOnly, sources: int = 1) -> None:
        super().__init__({"clip": tower_of(clip.net, clip.config, embedding=True)}, settings, sources)
        self.texts = FrozenTexts(clip.net)
        self.trained -= set() if settings.train_language else {"language"}
        self.noise, self.shifts = settings.noise, settings.gap is not None
        width = self.net.all_towers()["clip"].shape.width
        gap_D = torch.zeros(width) if settings.gap is None else measure_gap(clip, settings.gap)
        self.register_buffer("gap_D", gap_D, persistent=False)

    def vectors(self, batch: Mapping[str, Tensor]) -> Tensor:
        """vectors_NPE of the contexts."""
        with torch.no_grad():
            x_ND = self.texts(batch["image"].flatten(0, 1))
            x_ND = F.normalize(x_ND + self.gap_D, dim=-1) if self.shifts else x_ND
            if self.noise and self.training:
                x_ND = F.normalize(x_ND + self.noise * torch.randn_like(x_ND), dim=-1)
        vectors_NPE: Tensor = self.net.connector([Features(x_ND[:, None], (1, 1))])
        return vectors_NPE


class FrozenTexts(nn.Module):
    """The text side of a dual encoder: unit embeddings_BD of ids_BT. Never trained, so neither counted nor kept."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._net = [net.requires_grad_(False).eval()]  # in a list: no submodule, whose weights would be saved

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Embeddings of texts."""
        [net] = self._net
        if next(net.parameters()).device != ids_BT.device:
            net.to(ids_BT.device)
        embeddings_BD: Tensor = net.encode_text(ids_BT, normalize=True)  # type: ignore[operator]
        return embeddings_BD.float()


def as_document(drawn: DrawnSample) -> DrawnSample:
    """A text as a document whose picture is its context; a question stands behind that and is no answer.

    The context is the sample's own text where its JSON names none. Raises ValueError, as whoever reads a sample does.
    """
    text = own_text(drawn.parts)
    [context] = texts_under(drawn.parts, CONTEXT)[:1] or [text]
    asked = [{"type": "text", "text": each, "block": QUESTION} for each in texts_under(drawn.parts, QUESTION)[:1]]
    segments = [{"type": "image", "part": CONTEXT}, *asked, {"type": "text", "text": text, "block": "paragraph"}]
    parts = {CONTEXT: context.encode(), "json": json.dumps({"segments": segments}).encode()}
    return dataclasses.replace(drawn, kind="interleaved", parts=parts)


def measure_gap(clip: DualEncoder, gap: GapConfig) -> Tensor:
    """Mean embedding of pictures less that of their texts, D. Raises ValueError where too few pairs can be read."""
    pairs = embed_pairs(clip, Path(gap.pairs), gap.samples)
    found_D: Tensor = pairs.images_ND.mean(0) - pairs.texts_ND.mean(0)
    return found_D
