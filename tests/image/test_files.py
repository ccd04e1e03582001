"""Decoding strangers' files: every odd format comes out as upright RGB, everything broken gets its right name."""

import io
import random
import struct

import numpy as np
import pytest
from odd_images import (
    ACCEPTED,
    BLUE,
    GREEN,
    KINDS,
    RED,
    REFUSED,
    TURNED_BACK,
    WHITE,
    exif,
    late_orientation,
    photo,
    png,
    quarters,
    saved,
)
from PIL import Image

from curate.image.files import Decoded, ImageLimits, decode, header


def corners(found: Decoded) -> list[tuple[int, ...]]:
    """The colours near the four corners, rounded to pure ones."""
    assert found.image is not None, (found.error, found.detail)
    w, h = found.image.size
    pixels = [found.image.getpixel(at) for at in ((3, 3), (w - 4, 3), (3, h - 4), (w - 4, h - 4))]
    return [tuple(255 if value > 127 else 0 for value in pixel) for pixel in pixels]  # type: ignore[union-attr]


UPRIGHT = [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_on_the_list_decodes_and_its_header_agrees(kind: str) -> None:
    data = saved(quarters(), kind)
    found = decode(data)
    assert (found.error, found.format, found.width, found.height, found.frames) == (
        None,
        kind,
        40,
        20,
        1,
    )
    assert found.image is not None and found.image.mode == "RGB" and found.image.size == (40, 20)
    assert corners(found) == UPRIGHT
    assert header(data) == Decoded(format=kind, mode=found.mode, frames=1, width=40, height=20)


def test_jpeg_decodes_to_the_pixels_that_pillow_gives() -> None:
    data = saved(photo(333, 217), "JPEG", quality=83)
    assert np.array_equal(np.asarray(decode(data).image), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF deflated", "AVIF"])
def test_exif_rotated_picture_comes_out_upright(kind: str, orientation: int) -> None:
    stored = quarters().transpose(TURNED_BACK[orientation]) if orientation in TURNED_BACK else quarters()
    options: dict[str, object] = {"exif": exif(orientation)}
    if kind.endswith("deflated"):
        options["compression"] = "tiff_adobe_deflate"
    data = saved(stored, kind.split()[0], **options)
    found = decode(data)
    assert (found.width, found.height, found.orientation) == (40, 20, orientation)
    assert corners(found) == UPRIGHT
    assert (header(data).width, header(data).height) == (40, 20)


def test_orientation_far_behind_the_beginning_is_found() -> None:
    data = late_orientation(saved(quarters().transpose(TURNED_BACK[6]), "JPEG", quality=95), 6)
    assert data.index(b"Exif") > 130_000
    assert (decode(data).orientation, corners(decode(data))) == (6, UPRIGHT)


def test_broken_exif_block_costs_the_orientation_and_not_the_picture() -> None:
    for block in (
        b"Exif\0\0" + b"\xff" * 40,
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08",
    ):
        found = decode(saved(quarters(), "JPEG", exif=block))
        assert (found.error, found.orientation, corners(found)) == (None, 1, UPRIGHT)


def test_cmyk_jpeg_has_its_colours_and_not_their_negative() -> None:
    data = saved(quarters("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    found = decode(data)
    assert (found.mode, corners(found)) == ("CMYK", UPRIGHT)


def test_cmyk_tiff_has_its_colours() -> None:
    assert corners(decode(saved(quarters("CMYK"), "TIFF"))) == UPRIGHT


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    found = decode(saved(Image.fromarray(ramp), kind))
    assert found.mode.startswith("I;16") and found.image is not None
    assert np.array_equal(np.asarray(found.image)[..., 0].ravel(), np.arange(256))


def test_sixteen_bit_colour_keeps_its_brightness() -> None:
    row = b"\0" + struct.pack(">3H", 65535, 32768, 0) * 4
    data = png(4, 4, bits=16, colour=2, rows=row * 4)
    found = decode(data)
    assert found.image is not None and found.image.getpixel((1, 1)) == (255, 128, 0)


def test_float_and_wide_integer_samples_are_refused_by_name() -> None:
    assert decode(saved(Image.new("F", (8, 8), 0.5), "TIFF")).error == "unsupported_format"
    assert decode(saved(Image.new("I", (8, 8), 1 << 20), "TIFF")).error == "unsupported_format"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_animation_gives_its_first_frame_and_the_count_of_frames(
    kind: str,
) -> None:
    """Of an animation the first frame is taken and the frames are counted."""
    options: dict[str, object] = {
        "save_all": True,
        "append_images": [photo(40, 20, seed) for seed in range(4)],
    }
    data = saved(quarters(), kind, **options)
    found = decode(data)
    assert (found.frames, corners(found)) == (5, UPRIGHT)
    assert header(data, ImageLimits(max_frames=3)).frames == 3


def test_phones_jpeg_with_an_embedded_preview_is_one_picture() -> None:
    data = saved(quarters(), "MPO", save_all=True, append_images=[photo(8, 8)])
    found = decode(data)
    assert (found.format, found.frames, corners(found)) == ("JPEG", 1, UPRIGHT)


def test_truncated_progressive_jpeg_is_named_truncated() -> None:
    data = saved(photo(320, 240), "JPEG", progressive=True, quality=95)
    for share in (0.5, 0.8, 0.99):
        assert decode(data[: int(len(data) * share)]).error == "truncated_image"


def test_truncated_file_still_tells_its_size() -> None:
    data = saved(photo(160, 120), "JPEG")
    found = decode(data[: len(data) // 2])
    assert (found.error, found.width, found.height, found.format) == (
        "truncated_image",
        160,
        120,
        "JPEG",
    )


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_file_is_decoded_and_its_header_agrees(name: str) -> None:
    found, said = decode(ACCEPTED[name]), header(ACCEPTED[name])
    assert found.image is not None, (found.error, found.detail)
    assert (said.width, said.height, said.orientation) == (*found.image.size, found.orientation)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_refused_by_its_right_name(name: str) -> None:
    data, error = REFUSED[name]
    found = decode(data)
    assert (found.image, found.error) == (None, error), found.detail
    assert header(data).error in (None, error)


@pytest.mark.parametrize("name", [name for name, (_, error) in REFUSED.items() if error == "image_too_large"])
def test_bomb_is_refused_by_its_header(name: str) -> None:
    found = header(REFUSED[name][0])
    assert found.error == "image_too_large" and "allowed" in found.detail


def test_limit_can_be_set_and_is_held() -> None:
    data = saved(photo(200, 100), "PNG")
    assert decode(data, ImageLimits(max_side_px=199)).error == "image_too_large"
    assert decode(data, ImageLimits(max_pixels=19_999)).error == "image_too_large"
    assert decode(data, ImageLimits(max_side_px=200, max_pixels=20_000)).error is None


def test_gif_of_very_many_frames_costs_little_to_count() -> None:
    frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    data = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0" + frame * 300_000 + b";"
    found = decode(data)
    assert (found.error, found.frames) == (None, ImageLimits().max_frames)


def test_tiff_whose_directories_form_a_loop_ends() -> None:
    data = bytearray(saved(quarters(), "TIFF"))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    found = decode(bytes(data))
    assert (found.error, found.frames) == (None, 1)


def test_flipped_bytes_and_cuts_never_raise_and_always_have_a_name() -> None:
    rng = random.Random(7)
    seeds = [saved(photo(48, 36), kind) for kind in KINDS]
    seeds += [saved(quarters(), "GIF", save_all=True, append_images=[photo(40, 20)])]
    names = {
        "empty_file",
        "not_an_image",
        "html_instead_of_image",
        "unsupported_format",
        "image_too_large",
        "image_too_costly",
    }
    names |= {"truncated_image", "decode_error"}
    for _ in range(1500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 12)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        found = decode(bytes(data))
        assert (found.image is None) == (found.error is not None)
        assert found.error is None or found.error in names
        assert " at 0x" not in found.detail


def test_same_bytes_give_the_same_answer_twice() -> None:
    data = saved(photo(64, 64), "PNG")[:200]
    assert decode(data) == decode(data)
