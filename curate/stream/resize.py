"""Decode an image to the uint8 square a tower takes, fast: no variation, no floats, one resize.

Two ways, which refuse the same files. The fast one shows what the ops score: upright RGB on white, a large JPEG decoded
at a fraction of its size, resized once with an antialiased bicubic filter in integers. The exact one gives, to the last
bit, the pixels of open_clip's own transform. Both release Python's lock where they work, so threads scale. Values are
normalised on the device, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from curate.image.files import load_stored
from curate.image.scaled import scaled_pixels
from curate.image.shown import fitted, padded, square
from curate.sample import Kind
from curate.stream.images import LEAST, image_part
from curate.stream.reading import DrawnSample, check_count


@dataclass(frozen=True)
class Fit:
    """Prepares an image for a stream: {image: CHW uint8}, its short side fitted to `size_px`, its centre cut out."""

    size_px: int
    exact: bool = False
    kinds: ClassVar[tuple[Kind, ...]] = ("caption", "ocr")

    def __post_init__(self) -> None:
        check_count("Fit.size_px", self.size_px)

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample. Raises ValueError, which ImageError is."""
        data = image_part(drawn.parts)
        return {"image": exact(data, self.size_px) if self.exact else fast(data, self.size_px)}


def fast(data: bytes, size_px: int, least: float = LEAST) -> Tensor:
    """image_CHW uint8 of `data`: upright, transparency on white, within a level or two of open_clip's pixels.

    A JPEG is decoded at a fraction where `least` times `size_px` is left. Raises ImageError.
    """
    return square(torch.from_numpy(scaled_pixels(data, least * size_px)).permute(2, 0, 1), size_px)


def whole(data: bytes, size_px: int) -> Tensor:
    """image_CHW uint8 of all of `data`: its long side fitted to `size_px`, itself in the middle, white beside it.

    Raises ImageError.
    """
    return padded(torch.from_numpy(scaled_pixels(data, LEAST * size_px)).permute(2, 0, 1), size_px)[0]


def exact(data: bytes, size_px: int) -> Tensor:
    """image_CHW uint8 of `data` with the very pixels of open_clip's inference transform at `size_px`.

    As that does, it resizes before it converts to RGB, ignores orientation and drops an alpha channel. Raises
    ImageError.
    """
    image = load_stored(data)
    width, height = fitted(*image.size, size_px)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    top, left = round((height - size_px) / 2), round((width - size_px) / 2)
    image = image.crop((left, top, left + size_px, top + size_px)).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
