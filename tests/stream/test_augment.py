"""What a model sees of an image: open_clip's own pixels when nothing is varied, keyed variation otherwise."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from curate.stream import images
from curate.stream.augment import Augment


def png(pixels: np.ndarray) -> bytes:  # type: ignore[type-arg]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(64, 64), (40, 91), (131, 57), (32, 33), (20, 20)])
def test_image_that_is_not_varied_has_pixels_of_open_clips_own_transform(shape: tuple[int, int]) -> None:
    from open_clip.transform import image_transform

    pixels = noise(*shape)
    theirs = image_transform(32, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))(Image.fromarray(pixels))
    ours = images.plain(png(pixels), 32)
    assert torch.equal(ours, (theirs * 255).round().to(torch.uint8))
    assert torch.equal(ours, images.varied(png(pixels), 32, Augment(), images.keyed_rng(0, "a", 0)))


def test_variation_depends_on_seed_sample_and_epoch_alone() -> None:
    data = png(noise(48, 48))
    augment = Augment(
        crop_min_area=0.5,
        flip=0.5,
        color_jitter=0.4,
        tint=0.2,
        rotate_degrees=20,
        zoom=0.2,
        stretch=0.2,
        shift=0.1,
        blur=0.5,
    )

    def seen(*key: object) -> torch.Tensor:
        return images.varied(data, 32, augment, images.keyed_rng(*key))  # type: ignore[arg-type]

    assert torch.equal(seen(0, "a", 0), seen(0, "a", 0))
    others = [seen(1, "a", 0), seen(0, "b", 0), seen(0, "a", 1)]
    assert not any(torch.equal(seen(0, "a", 0), other) for other in others)


def test_transparent_pixels_show_the_background_asked_for() -> None:
    clear = np.zeros((32, 32, 4), np.uint8)
    assert images.plain(png(clear), 16).float().mean() == 255
    red = images.varied(png(clear), 16, Augment(background=(255, 0, 0)), images.keyed_rng(0, "a", 0))
    assert red.float().mean(dim=(1, 2)).tolist() == [255, 0, 0]


def test_grey_16_bit_image_keeps_its_brightness() -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16), 0x8000, np.uint16)).save(file, "PNG")
    assert images.plain(file.getvalue(), 16).float().mean() == 128


def test_page_shown_whole_keeps_its_edges_when_it_is_varied() -> None:
    page = np.full((40, 20, 3), 255, np.uint8)
    page[:4], page[-4:] = 0, 0
    for whole, dark in ((True, True), (False, False)):
        image = images.varied(png(page), 32, Augment(flip=0.5), images.keyed_rng(0, "a", 0), whole=whole)
        assert bool((image[:, 0] < 128).any() and (image[:, -1] < 128).any()) == dark


def test_zoom_out_shows_background_around_the_image() -> None:
    black = png(np.zeros((32, 32, 3), np.uint8))
    shown = [images.varied(black, 32, Augment(zoom=0.5), images.keyed_rng(0, str(n), 0)) for n in range(8)]
    assert {int(image[0, 0, 0]) for image in shown} == {0, 255}
    assert all(int(image[0, 16, 16]) == 0 for image in shown)


def test_sample_without_an_image_says_what_it_has() -> None:
    with pytest.raises(ValueError, match=r"no image among.*json, txt"):
        images.image_part({"txt": b"", "json": b""})
