"""The op rank_captions: candidate texts of an image in the order in which a dual encoder holds them close to it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curate.models.clip import BUNDLED_CLIP, clip_identity, load_clip
from curate.models.devices import CPU, Device, Precision
from curate.ops.alignment._towers import ImageTower, TextTower, normalise_rows
from curate.ops.spec import Columns, Count, Knobs, op

if TYPE_CHECKING:
    from PIL.Image import Image


@op(
    reads=("image", "text", "captions"),
    writes={
        "ranked_texts": pa.list_(pa.string()),
        "ranked_scores": pa.list_(pa.float32()),
        "ranked_from": pa.list_(pa.string()),
    },
    version=1,
    batch_size=32,
    needs=("open_clip",),
    runs_on="accelerator",
    memory_gb=4.0,
)
class rank_captions:  # noqa: N801 - ops are named as recipes name them
    """The `keep` texts closest to the image, of synthetic captions and its own text, best first, with their cosines.

    BLIP-2 (Li et al. 2301.12597, 3.4) keeps the best 2 of 10 captions and the web's text by CLIP ViT-L/14.
    `ranked_from`: `web` or `caption`, of each. A text that comes twice counts once, a blank one not at all; of equal
    cosines the web's text, then the earlier caption comes first. `model`, `pretrained`, `precision`: see clip_score.
    """

    def __init__(
        self,
        *,
        model: str = BUNDLED_CLIP,
        pretrained: str = "",
        precision: Precision = "auto",
        keep: Count = 2,
        include_original: bool = True,
        device: Device = CPU,
    ) -> None:
        clip = load_clip(model, pretrained, precision, device)
        self._images, self._texts = ImageTower(clip), TextTower(clip)
        self._keep, self._include_original = keep, include_original
        self._threads = ThreadPoolExecutor(device.threads)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of what changes the values beside the knobs: the model's files."""
        return clip_identity(knobs["model"], knobs["pretrained"])

    def __call__(self, images: Sequence[Image], texts: Sequence[str], captions: Sequence[list[str]]) -> Columns:
        """The best texts of each image."""
        import torch

        candidates = [self._candidates(text, made) for text, made in zip(texts, captions, strict=True)]
        flat = [text for row in candidates for text in row]
        with torch.inference_mode():
            image_ND = normalise_rows(self._images(images, self._threads))
            text_MD = normalise_rows(self._texts(flat)) if flat else image_ND[:0]
        rows, start = [], 0
        for image_D, row in zip(image_ND, candidates, strict=True):
            scores = [float(np.dot(image_D, text_D)) for text_D in text_MD[start : start + len(row)]]
            start += len(row)
            best = sorted(zip(scores, row, strict=True), key=lambda pair: -pair[0])[: self._keep]
            rows.append([(score, text, row[text]) for score, text in best])
        return {
            "ranked_texts": [[text for _, text, _ in row] for row in rows],
            "ranked_scores": [[score for score, _, _ in row] for row in rows],
            "ranked_from": [[name for _, _, name in row] for row in rows],
        }

    def _candidates(self, text: str, captions: Sequence[str]) -> dict[str, str]:
        """Where each text is from."""
        named = [(text, "web")] * self._include_original + [(made, "caption") for made in captions]
        found: dict[str, str] = {}
        for candidate, name in named:
            if candidate.strip():
                found.setdefault(candidate, name)
        return found
