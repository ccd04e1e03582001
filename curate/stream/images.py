"""Decode and vary an image into a tensor of the size a tower takes, keyed by the sample.

The plain path (nothing varied) is open_clip's: short side to the size, bicubic, centre cut. Values stay uint8 until
the device, where they are normalised.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from curate.image.rgb import RGB, WHITE
from curate.image.scaled import scaled_image
from curate.image.shown import fitted
from curate.mix.content import image_name
from curate.stream.augment import Augment

LEAST = 2.0
"""A JPEG is decoded at a fraction only where its short side then is at least this many times the target."""


def image_part(parts: Mapping[str, bytes]) -> bytes:
    """The bytes of the sample's image. Raises ValueError if it has none."""
    name = image_name(parts)
    if name is None:
        raise ValueError(f"no image among the sample's parts ({', '.join(sorted(parts)) or 'none'})")
    return parts[name]


def keyed_rng(seed: int, uid: str, epoch: int, what: str = "") -> np.random.Generator:
    """The randomness of one sample in one epoch, for one purpose: the same on every rank, thread and machine."""
    key = hashlib.blake2b(f"{seed}/{uid}/{epoch}{what and '/' + what}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def plain(data: bytes, size_px: int) -> Tensor:
    """image_CHW uint8 of `data` as open_clip shows it to a model of `size_px`. Raises ImageError."""
    return _to_tensor(_whole(scaled_image(data, LEAST * size_px), size_px))


def varied(data: bytes, size_px: int, augment: Augment, rng: np.random.Generator, *, whole: bool = False) -> Tensor:
    """image_CHW uint8 of `data`, varied by `augment` with draws from `rng`; with `whole`, made square before.

    Raises ImageError.
    """
    background = augment.background
    if rng.random() < augment.random_background:
        red, green, blue = rng.integers(0, 256, 3).tolist()
        background = red, green, blue
    image = scaled_image(data, LEAST * size_px, background)
    around = background or WHITE
    if whole:
        side = min(max(image.size), 2 * size_px)
        image = ImageOps.pad(image, (side, side), Image.Resampling.BICUBIC, around)
    image = _crop(image, size_px, augment.crop_min_area, rng) if augment.crop_min_area < 1 else _whole(image, size_px)
    if augment.rotate_degrees or augment.zoom or augment.stretch or augment.shift:
        image = _moved(image, augment, rng, around)
    if rng.random() < augment.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _to_tensor(_recoloured(image, augment, rng))


def _recoloured(image: Image.Image, augment: Augment, rng: np.random.Generator) -> Image.Image:
    if augment.color_jitter:
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhancer(image).enhance(1 + augment.color_jitter * float(rng.uniform(-1, 1)))
    if augment.tint:
        gains = 1 + augment.tint * rng.uniform(-1, 1, 3)
        image = image.point([min(255, round(level * gain)) for gain in gains.tolist() for level in range(256)])
    if rng.random() < augment.grayscale:
        image = image.convert("L").convert("RGB")
    return image.filter(ImageFilter.BoxBlur(1)) if rng.random() < augment.blur else image


def _moved(image: Image.Image, augment: Augment, rng: np.random.Generator, colour: RGB) -> Image.Image:
    """Turned, zoomed, stretched and shifted about the centre; `colour` around it."""
    turn, zoom, stretch, right, down = rng.uniform(-1, 1, 5).tolist()
    angle, side = math.radians(augment.rotate_degrees * turn), image.width
    scale, aspect = 1 + augment.zoom * zoom, math.sqrt(1 + augment.stretch * stretch)
    cos, sin = math.cos(angle), math.sin(angle)
    # Pillow asks where in the old image each new pixel comes from: the inverse of the move.
    a, b, d, e = cos / (scale * aspect), sin / (scale * aspect), -sin * aspect / scale, cos * aspect / scale
    x, y = side / 2 + augment.shift * right * side, side / 2 + augment.shift * down * side
    matrix = (a, b, side / 2 - a * x - b * y, d, e, side / 2 - d * x - e * y)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=colour)


def _whole(image: Image.Image, size_px: int) -> Image.Image:
    """Short side to `size_px`, centre cut."""
    size = fitted(*image.size, size_px)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - size_px) / 2), round((size[1] - size_px) / 2)
    return image.crop((left, top, left + size_px, top + size_px)) if size != (size_px, size_px) else image


def _crop(image: Image.Image, size_px: int, min_area: float, rng: np.random.Generator) -> Image.Image:
    """A box of a random area and aspect (3/4 to 4/3), resized to a square: Inception's crop (Szegedy et al. 2015)."""
    width, height = image.size
    area = float(rng.uniform(min_area, 1)) * width * height
    ratio = math.exp(float(rng.uniform(math.log(3 / 4), math.log(4 / 3))))
    w, h = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h))
    return image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
