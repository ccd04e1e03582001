"""Decode an image to the uint8 square a tower takes, fast: no variation, no floats, one resize.

Two ways. The fast one decodes JPEG with libjpeg-turbo, at a half, quarter or eighth of its size (in the DCT domain)
where enough pixels are left, and resizes once with an antialiased bicubic filter in integers; everything else goes
through Pillow to the same resize. The exact one gives, to the last bit, the pixels of open_clip's own transform.
Both release Python's lock where they work, so threads scale. Values are normalised on the device, not here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from curate.stream.images import MAX_PIXELS, decode, image_part
from curate.stream.reading import DrawnSample

JPEG = b"\xff\xd8\xff"
OVERSAMPLED = 2.0
"""A JPEG is decoded at a fraction only where its short side then is at least this many times the target."""
HEADERS = 1 << 16
ORIENTATION = 0x0112

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Fit:
    """Prepares a sample for a stream: {image: CHW uint8}, its short side fitted to `size_px`, its centre cut out."""

    size_px: int
    exact: bool = False

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample. Raises ValueError, or what a broken image raises."""
        data = image_part(drawn.parts)
        return {"image": exact(data, self.size_px) if self.exact else fast(data, self.size_px)}


def fast(data: bytes, size_px: int, oversampled: float = OVERSAMPLED) -> Tensor:
    """image_CHW uint8 of `data`: upright, transparency on white, within a level or two of open_clip's pixels.

    Raises ValueError for too many pixels, and what Pillow raises for damage.
    """
    pixels_HWC = _decoded(data, size_px, oversampled)
    height, width = _target(pixels_HWC.shape[0], pixels_HWC.shape[1], size_px)
    image_CHW = _resized(pixels_HWC, height, width)
    top, left = round((height - size_px) / 2), round((width - size_px) / 2)
    return image_CHW[:, top : top + size_px, left : left + size_px].contiguous()


def whole(data: bytes, size_px: int) -> Tensor:
    """image_CHW uint8 of all of `data`: its long side fitted to `size_px`, itself in the middle, white beside it.

    Raises what `fast` raises.
    """
    pixels_HWC = _decoded(data, size_px, OVERSAMPLED)
    scale = size_px / max(pixels_HWC.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels_HWC.shape[:2])
    out_CHW = torch.full((3, size_px, size_px), 255, dtype=torch.uint8)
    top, left = (size_px - height) // 2, (size_px - width) // 2
    out_CHW[:, top : top + height, left : left + width] = _resized(pixels_HWC, height, width)
    return out_CHW


def exact(data: bytes, size_px: int) -> Tensor:
    """image_CHW uint8 of `data` with the very pixels of open_clip's inference transform at `size_px`.

    As that does, it resizes before it converts to RGB, ignores orientation and drops an alpha channel.
    """
    image: Image.Image = Image.open(io.BytesIO(data))
    _check_pixels(image.height, image.width)
    height, width = _target(image.height, image.width, size_px)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    top, left = round((height - size_px) / 2), round((width - size_px) / 2)
    image = image.crop((left, top, left + size_px, top + size_px)).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _decoded(data: bytes, size_px: int, oversampled: float) -> Pixels:
    pixels_HWC = _turbo(data, oversampled * size_px) if data.startswith(JPEG) else None
    return np.array(decode(data, size_px)) if pixels_HWC is None else pixels_HWC


def _resized(pixels_HWC: Pixels, height: int, width: int) -> Tensor:
    image_CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)
    if (height, width) == tuple(image_CHW.shape[1:]):
        return image_CHW
    return F.interpolate(image_CHW[None], (height, width), mode="bicubic", antialias=True)[0]


def _target(height: int, width: int, size_px: int) -> tuple[int, int]:
    """(height, width) with the short side at `size_px`, rounded as torchvision rounds."""
    if width <= height:
        size = int(size_px * height / width), size_px
    else:
        size = size_px, int(size_px * width / height)
    _check_pixels(*size)
    return size


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels are more than {MAX_PIXELS}")


def _turbo(data: bytes, wanted: float) -> Pixels | None:
    """The JPEG as RGB, halved as often as leaves its short side `wanted` (at most to an eighth); None is for Pillow.

    Only powers of two: libjpeg-turbo has no vector code for other fractions, they take longer than the whole.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in ("CMYK", "YCCK") or not _upright(data):
            return None
        _check_pixels(height, width)
        parts = next((n for n in (8, 4, 2) if min(height, width) / n >= wanted), 1)
        least = {"min_height": -(-height // parts), "min_width": -(-width // parts)} if parts > 1 else {}
        return np.asarray(simplejpeg.decode_jpeg(data, **least))
    except ValueError:
        return None  # damaged, or a rare kind: Pillow knows more of them, and names what is wrong


def _upright(data: bytes) -> bool:
    if b"Exif\0\0" not in data[:HEADERS]:
        return True
    return bool(Image.open(io.BytesIO(data)).getexif().get(ORIENTATION, 1) == 1)
