"""The op text_masked_clip_score: image-caption similarity once the text that the image shows is painted over."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curate.models.clip import BUNDLED_CLIP, clip_identity, load_clip
from curate.models.devices import CPU, Device, Precision
from curate.ops.alignment._towers import ImageTower, TextTower, normalise_rows
from curate.ops.spec import Columns, Count, Failed, Knobs, Share, op
from curate.page.ocr import OcrError
from curate.page.text_regions import boxes_of, detector_identity, load_detector, paint_over

if TYPE_CHECKING:
    from PIL.Image import Image

_MASKED = {
    "masked_clip_score": pa.float32(),
    "text_area_share": pa.float32(),
    "text_boxes": pa.list_(pa.list_(pa.int32())),
}
_LEAST_SIDE_PX = 64


@op(
    reads=("image", "text"),
    writes=_MASKED,
    version=1,
    batch_size=32,
    needs=("open_clip", "rapidocr"),
    timeout_s=3600,
    runs_on="accelerator",
    memory_gb=4.0,
)
class text_masked_clip_score:  # noqa: N801 - ops are named as recipes name them
    """Cosine of a text and its image with what is written in it painted over, -1 to 1; where that is; its share.

    T-MARS (Maini et al. 2023): a caption that is printed on a picture scores by what is read, and not by what is seen.
    `clip_score`, with the same model, is the score as the picture stands: of one without text both are equal. Regions
    are found by RapidOCR's detector in the picture made smaller to `long_side_px`, and painted over in the mean colour
    of what is around each; what is higher than `max_line_share` of the short side is taken for a thing and not for a
    line of text. `text_boxes`: left, top, right and bottom in pixels. The model's knobs are those of
    `clip_score`. Errors: ocr_failed.
    """

    def __init__(
        self,
        *,
        model: str = BUNDLED_CLIP,
        pretrained: str = "",
        precision: Precision = "auto",
        long_side_px: Count = 640,
        max_line_share: Share = 0.25,
        device: Device = CPU,
    ) -> None:
        if long_side_px < _LEAST_SIDE_PX:
            raise ValueError(f"text_masked_clip_score: long_side_px {long_side_px} must be at least {_LEAST_SIDE_PX}")
        self._find, self._long_side_px = load_detector(long_side_px, max_line_share), long_side_px
        clip = load_clip(model, pretrained, precision, device)
        self._images, self._texts = ImageTower(clip), TextTower(clip)
        self._threads = ThreadPoolExecutor(device.threads)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """The detector, and digests of what changes the model's values beside the knobs."""
        return f"{detector_identity()}; {clip_identity(knobs['model'], knobs['pretrained'])}"

    def __call__(self, images: Sequence[Image], texts: Sequence[str]) -> Columns:
        """One score, one share and a list of boxes a pair."""
        import torch

        found = [self._mask(image) for image in images]
        with torch.inference_mode():
            image_ND = normalise_rows(self._images([masked for masked, _, _ in found], self._threads))
            text_ND = normalise_rows(self._texts(texts))
        scores = [float(np.dot(image_D, text_D)) for image_D, text_D in zip(image_ND, text_ND, strict=True)]
        return {
            "masked_clip_score": scores,
            "text_area_share": [share for _, share, _ in found],
            "text_boxes": [boxes for _, _, boxes in found],
        }

    def _mask(self, image: Image) -> tuple[Image, float | Failed, list[list[int]]]:
        try:
            regions = self._find(image)
        except OcrError as error:
            return image, Failed(error.error, error.detail), []
        if not regions:
            return image, 0.0, []
        masked, share = paint_over(image, regions, self._long_side_px)
        return masked, share, boxes_of(regions, image.size)
