"""Pixels at speed: as open_clip shows them, bit for bit where asked for, within a hair otherwise."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from curate.image.files import ImageError
from curate.stream.resize import exact, fast, whole

SIZE = 32


def picture(width: int, height: int) -> Image.Image:
    """Something with edges and slopes, as photographs have."""
    rng = np.random.default_rng(width * 10007 + height)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def theirs(data: bytes, size: int = SIZE) -> torch.Tensor:
    from open_clip.transform import image_transform

    transform = image_transform(size, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    return (transform(Image.open(io.BytesIO(data))) * 255).round().to(torch.uint8)  # type: ignore[operator,arg-type]


def decibels(ours: torch.Tensor, other: torch.Tensor) -> float:
    error = (ours.double() - other.double()).square().mean().item()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
@pytest.mark.parametrize("size", [(64, 64), (91, 40), (57, 131), (33, 32), (20, 20)])
def test_exact_pixels_are_those_of_open_clips_transform(mode: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    image = (
        Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 200) if mode == "I;16" else image.convert(mode)
    )
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    assert torch.equal(exact(data, SIZE), theirs(data))


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 75, "progressive": True}, {"subsampling": 0}])
def test_exact_pixels_of_a_jpeg_are_those_of_open_clips_transform(options: dict[str, Any]) -> None:
    data = encoded(picture(570, 446), "JPEG", **options)
    assert torch.equal(exact(data, 224), theirs(data, 224))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_fast_pixels_are_within_a_level_or_two(form: str) -> None:
    data = encoded(picture(570, 446), form, quality=90)
    ours, other = fast(data, 224), theirs(data, 224)
    assert decibels(ours, other) > 55
    assert (ours.int() - other.int()).abs().max() <= 3


@pytest.mark.parametrize(("side", "least"), [(500, 40), (1000, 40), (2000, 40)])
def test_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same(side: int, least: float) -> None:
    data = encoded(picture(side + 37, side), "JPEG", quality=90)
    assert decibels(fast(data, 224), theirs(data, 224)) > least


def test_jpeg_is_shown_upright() -> None:
    image = picture(300, 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image.transpose(Image.Transpose.ROTATE_90)
    data = encoded(turned, "JPEG", quality=95, exif=exif)
    assert decibels(fast(data, SIZE), theirs(encoded(image, "PNG"))) > 35


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_come_out_in_colour(mode: str) -> None:
    data = encoded(picture(100, 80).convert(mode), "JPEG", quality=95)
    assert decibels(fast(data, SIZE), theirs(data)) > 40


def test_transparency_is_laid_on_white() -> None:
    data = encoded(Image.new("RGBA", (50, 40), (0, 0, 0, 0)), "PNG")
    assert fast(data, SIZE).min() == 255


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (64, 64), (2000, 1500), (500, 2)])
def test_whole_image_is_all_there_with_white_beside_it(width: int, height: int) -> None:
    shown = whole(encoded(Image.new("RGB", (width, height), (0, 0, 0)), "JPEG"), SIZE)
    dark = (shown < 128).all(0)
    rows, columns = int(dark.any(1).sum()), int(dark.any(0).sum())
    assert (columns, rows) == tuple(max(1, round(side * SIZE / max(width, height))) for side in (width, height))
    assert (shown[:, ~dark] > 128).all()


@pytest.mark.parametrize("pixels", [fast, exact])
def test_jpeg_that_is_cut_off_is_refused(pixels: Any) -> None:
    data = encoded(picture(570, 446), "JPEG", quality=90)
    with pytest.raises(ImageError, match="truncated_image"):
        pixels(data[: len(data) // 2], 224)


@pytest.mark.parametrize("pixels", [fast, exact])
def test_sliver_that_would_become_a_giant_is_refused(pixels: Any) -> None:
    data = encoded(Image.new("RGB", (30000, 4)), "PNG")
    with pytest.raises(ImageError, match="pixels are more than"):
        pixels(data, 224)
