"""Pixels as a model wants them, and the device and precision that it runs in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Prepare = Callable[["Image"], "Tensor"]
"""From an RGB image to image_CHW, float32."""

LONGEST_ASPECT = 16
"""Wider pictures are cropped to this about their centre before they are resized: open_clip resizes the short side and
then crops, so that a picture of 1 x 30,000 pixels would grow to 224 x 6,720,000 on its way."""


def open_clip_pixels(prepare: Mapping[str, Any]) -> Prepare:
    """open_clip's own transform of inference, by its preprocess_cfg."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(**prepare), is_train=False)

    def prepared(image: Image) -> Tensor:
        tensor: Tensor = transform(not_too_long(image))
        return tensor

    return prepared


def not_too_long(image: Image) -> Image:
    """The image, or its middle where it is longer than LONGEST_ASPECT times its short side."""
    width, height = image.size
    keep = LONGEST_ASPECT * min(width, height)
    if max(width, height) <= keep:
        return image
    left, top = max(0, (width - keep) // 2), max(0, (height - keep) // 2)
    return image.crop((left, top, min(width, left + keep), min(height, top + keep)))
