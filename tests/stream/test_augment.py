"""What a model sees of an image: open_clip's own pixels when nothing is varied, keyed variation otherwise."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from odd_images import ACCEPTED, EPS, REFUSED, late_orientation, photo, saved
from PIL import EpsImagePlugin, Image

from curate.image.files import ImageError, decode
from curate.image.scaled import scaled_image, scaled_pixels
from curate.stream import images, resize
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


VARY = Augment(crop_min_area=0.5, rotate_degrees=20)
WAYS: dict[str, Callable[[bytes], torch.Tensor]] = {
    "fast": lambda data: resize.fast(data, 32),
    "whole": lambda data: resize.whole(data, 32),
    "exact": lambda data: resize.exact(data, 32),
    "plain": lambda data: images.plain(data, 32),
    "varied": lambda data: images.varied(data, 32, VARY, images.keyed_rng(0, "a", 0)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_stream_refuses_what_the_ops_refuse_and_by_the_same_name(name: str) -> None:
    data, error = REFUSED[name]
    assert decode(data).error == error
    for way in WAYS.values():
        with pytest.raises(ImageError) as refused:
            way(data)
        assert refused.value.error == error


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_stream_sees_the_very_pixels_that_the_ops_score(name: str) -> None:
    data = ACCEPTED[name]
    scored = np.asarray(decode(data).image)
    assert np.array_equal(scaled_pixels(data, np.inf), scored)
    assert np.array_equal(np.asarray(scaled_image(data, np.inf)), scored)
    assert all(way(data).shape == (3, 32, 32) for way in WAYS.values())


@pytest.mark.parametrize(
    "data", [saved(photo(1201, 900), "JPEG"), late_orientation(saved(photo(900, 1201), "JPEG"), 6)]
)
def test_a_jpeg_at_a_fraction_is_the_whole_made_smaller_within_a_level_in_the_mean(data: bytes) -> None:
    whole = decode(data).image
    found = scaled_image(data, 225)
    assert whole is not None and (whole.size, found.size) == ((1201, 900), (301, 225))
    smaller = np.asarray(whole.resize(found.size, Image.Resampling.BOX), np.int16)
    error = np.abs(smaller - np.asarray(found))
    assert error.mean() < 1 and error.max() <= 8
    assert scaled_image(data, 226).size == (601, 450)


@pytest.mark.parametrize("way", ["fast", "varied"])
def test_an_orientation_far_behind_the_beginning_is_found(way: str) -> None:
    stored = photo(120, 90)
    upright = saved(stored.transpose(Image.Transpose.ROTATE_270), "PNG")
    turned = WAYS[way](late_orientation(saved(stored, "JPEG", quality=100, subsampling=0), 6))
    assert (turned.int() - WAYS[way](upright).int()).abs().max() <= 6


@pytest.mark.parametrize("name", [name for name in ACCEPTED if "clear" in name])
def test_a_background_shows_where_the_ops_see_white(name: str) -> None:
    data = ACCEPTED[name]
    on_white, on_black = np.asarray(decode(data).image, int), np.asarray(scaled_image(data, np.inf, (0, 0, 0)), int)
    share = (on_white - on_black).max(-1)
    on_red = np.asarray(scaled_image(data, np.inf, (255, 0, 0)), int)
    assert share.max() > 250
    assert np.array_equal(on_red[..., 0], on_white[..., 0]) and np.array_equal(on_red[..., 1:], on_black[..., 1:])


def test_no_file_starts_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "started"
    for name in ("gs", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {mark}\nexit 0\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    for data in (EPS, b"\xc5\xd0\xd3\xc6" + bytes([30, 0, 0, 0, len(EPS)]) + bytes(21) + EPS):
        for way in WAYS.values():
            with pytest.raises(ImageError):
                way(data)
    assert not mark.exists()
    with pytest.raises(OSError):  # the trap is one
        Image.open(io.BytesIO(EPS)).load()
    assert mark.exists()


def test_an_image_error_crosses_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(ImageError("truncated_image", "of 9 bytes")))
    assert (error.error, str(error)) == ("truncated_image", "truncated_image: of 9 bytes")
