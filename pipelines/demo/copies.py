"""Make copies as the web does (re-encoded, resized, cropped), and find drawings that look the same."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

WAYS = ("same bytes", "jpeg", "webp", "smaller", "larger", "cropped", "smaller jpeg", "cropped jpeg", "larger webp")
"""How a copy was made, in turn."""

SAME_RMS = 2.0
"""Drawings whose pixels differ by less than this (root mean square, of 255) show the same picture to any eye."""

_COARSE = 12


@dataclass(frozen=True)
class Copy:
    """The file of a copy."""

    data: bytes
    ext: str
    content_type: str


def lay_on_white(data: bytes) -> Image.Image:
    """Lay a drawing's file on white, as an RGB image."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def make_copy(data: bytes, way: str, rng: np.random.Generator) -> Copy:
    """Make a copy of a drawing's file in one of WAYS: to 70-90 % or 120-200 % of its size, or cropped to 94-97 %."""
    if way == "same bytes":
        return Copy(data, "png", "image/png")
    image = lay_on_white(data)
    if "cropped" in way:
        image = _cropped(image, rng)
    if "smaller" in way or "larger" in way:
        factor = float(rng.uniform(0.7, 0.9) if "smaller" in way else rng.uniform(1.2, 2.0))
        size = (round(image.width * factor), round(image.height * factor))
        image = image.resize(size, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if way.endswith("jpeg"):
        image.save(out, "JPEG", quality=int(rng.integers(60, 93)))
        return Copy(out.getvalue(), "jpg", "image/jpeg")
    if way.endswith("webp"):
        image.save(out, "WEBP", quality=int(rng.integers(60, 93)))
        return Copy(out.getvalue(), "webp", "image/webp")
    image.save(out, "PNG")
    return Copy(out.getvalue(), "png", "image/png")


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share = float(rng.uniform(0.94, 0.97))
    width, height = round(image.width * share), round(image.height * share)
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def shrink(data: bytes, side_px: int) -> bytes:
    """Shrink a drawing to a PNG of `side_px` x `side_px`."""
    out = io.BytesIO()
    lay_on_white(data).resize((side_px, side_px), Image.Resampling.LANCZOS).save(out, "PNG")
    return out.getvalue()


def same_pictures(files: Sequence[Path]) -> list[str]:
    """For each drawing file the name of its picture: that of the first file, by name, that looks the same.

    Likeness is by pixels and passed on: what looks like a picture's drawing shows that picture.
    """
    pixels = np.stack([np.asarray(lay_on_white(path.read_bytes()).resize((72, 72)), dtype=np.uint8) for path in files])
    picture = [path.stem for path in files]
    for number, earlier in _candidates(pixels):
        if picture[number] != picture[earlier] and _rms(pixels[number], pixels[earlier]) < SAME_RMS:
            name, gone = sorted((picture[number], picture[earlier]))
            picture = [name if one == gone else one for one in picture]
    return picture


def _candidates(pixels: npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Pairs (later, earlier) whose coarse means are close enough, in order; a mean differs no more than its pixels."""
    count, cells = len(pixels), 72 // _COARSE
    coarse = pixels.reshape(count, _COARSE, cells, _COARSE, cells, 3).mean(axis=(2, 4)).reshape(count, -1)
    pairs = []
    for number in range(1, count):
        distance = np.sqrt(np.mean((coarse[:number] - coarse[number]) ** 2, axis=1))
        pairs += [(number, int(earlier)) for earlier in np.flatnonzero(distance < SAME_RMS)]
    return pairs


def _rms(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    return float(np.sqrt(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2)))
