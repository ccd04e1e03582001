"""Work is refused by name before it is done; whole pictures are opened whatever stands beside them."""

from __future__ import annotations

import os
import time
import zlib

import numpy as np
import pytest
from odd_images import PHOTO, chunk, exif, photo, png, quarters, rescanned, saved, tiff, with_chunks, with_segments
from PIL import Image

from curate.image.files import ImageError, ImageLimits, decode, header
from curate.image.scaled import scaled_image
from curate.image.structure import jpeg_frame, jpeg_scans

GREY = saved(Image.new("L", (6000, 6000), 128), "JPEG", progressive=True, quality=30)


def test_jpeg_of_many_scans_is_refused_in_no_time_by_all_who_open_it() -> None:
    data = rescanned(GREY, 10_000)
    start = time.process_time()
    assert header(data).error == decode(data).error == "image_too_costly"
    with pytest.raises(ImageError, match=r"image_too_costly: 10006 scans of 6000 x 6000 pixels; 39 are allowed"):
        scaled_image(data, 224)
    assert time.process_time() - start < 1


def test_scans_are_bounded_by_the_pixels_that_they_go_over() -> None:
    small = saved(photo(200, 100), "JPEG", progressive=True)
    assert decode(rescanned(small, 1000)).error is None
    assert decode(rescanned(small, 2000)).error == "image_too_costly"
    assert decode(rescanned(GREY, 10)).error is None
    assert decode(rescanned(GREY, 10), ImageLimits(max_pixel_passes=6000 * 6000 * 15)).error == "image_too_costly"


def test_scans_of_a_sequential_jpeg_count_where_its_colours_come_one_by_one() -> None:
    alone = bytearray(saved(Image.new("L", (6000, 6000), 128), "JPEG"))
    data = rescanned(bytes(alone), 200)  # one scan holds all, a decoder stops behind it
    assert jpeg_frame(data) and header(data).error is None
    frame = data.index(b"\xff\xc0")
    three = data[: frame + 9] + b"\3" + data[frame + 10 : frame + 13] + b"\2\x11\0\3\x11\0" + data[frame + 13 :]
    three = three[: frame + 3] + b"\x11" + three[frame + 4 :]
    assert header(three).error == "image_too_costly"


def test_scans_are_told_from_what_looks_like_them() -> None:
    inside = with_segments(PHOTO, (0xE1, b"preview" + b"\xff\xda" * 100), (0xFE, b"\xff\xd9\xff\xda"))
    assert jpeg_scans(PHOTO) == jpeg_scans(inside) == jpeg_scans(PHOTO + PHOTO) == 1
    assert jpeg_scans(saved(photo(), "JPEG", progressive=True)) == 10
    assert jpeg_scans(saved(photo(), "JPEG", progressive=True, restart_marker_rows=1)) == 10


def test_frame_behind_many_large_ones_is_refused() -> None:
    frames = [Image.new("P", (2000, 2000), n) for n in range(4)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, ImageLimits(max_pixel_passes=8_000_000), frame=1).error is None
    assert decode(data, ImageLimits(max_pixel_passes=8_000_000), frame=3).error == "image_too_costly"


def test_tile_that_is_larger_than_any_picture_is_refused() -> None:
    data = tiff((10, 10), (322, 30_000), (323, 30_000), (325, 9), pixels=bytes(9))
    assert (header(data).error, decode(data).error) == ("image_too_large", "image_too_large")


@pytest.mark.parametrize(
    "beside",
    [
        chunk(b"iCCP", b"a\0\0" + zlib.compress(os.urandom(2_000_000))),
        chunk(b"iCCP", b"no profile"),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 3_000_000)),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 1_000_000)) * 100,
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000)),
        chunk(b"tEXt", b"a\0" + b"x" * 70_000_000),
        chunk(b"tEXt", b"a\0bc", crc=0),
        chunk(b"gAMA", b"\0"),
        chunk(b"pHYs", b"\0\0"),
        chunk(b"prVt", bytes(5_000_000)),
        chunk(b"tRNS", b"\0\0\0\0", crc=0),
        chunk(b"tRNS", bytes(7)),
        chunk(b"eXIf", exif(6).tobytes(), crc=0),
    ],
    ids=["profile", "broken profile", "text", "texts", "text of Unicode", "plain text", "wrong sum", "short",
         "too short", "private", "colour of a wrong sum", "colour too long", "turn of a wrong sum"],
)  # fmt: skip
def test_png_is_opened_whatever_stands_beside_its_picture(beside: bytes) -> None:
    bare = saved(quarters(), "PNG")
    for data in (with_chunks(bare, beside), bare[:-12] + beside + bare[-12:]):
        start = time.process_time()
        found = decode(data)
        assert found.image is not None, (found.error, found.detail)
        assert np.array_equal(np.asarray(found.image), np.asarray(quarters()))
        assert header(data).error is None
        assert time.process_time() - start < 2


def test_png_keeps_its_turn_palette_and_frames_whatever_stands_between() -> None:
    note = chunk(b"tEXt", b"a\0bc", crc=0)
    turned = with_chunks(saved(quarters(), "PNG", exif=exif(6)), note)
    assert (decode(turned).orientation, decode(turned).height) == (6, 40)
    moving = saved(quarters(), "PNG", save_all=True, append_images=[photo(40, 20)])
    assert decode(with_chunks(moving, note)).frames == 2
    assert decode(with_chunks(moving, note), frame=1).image == decode(moving, frame=1).image
    few = saved(quarters().quantize(8), "PNG", transparency=0)
    assert decode(with_chunks(few, note)).image == decode(few).image


def test_png_whose_chunks_are_damaged_is_still_refused() -> None:
    bare = saved(photo(300, 200), "PNG")
    note = chunk(b"tEXt", b"a\0bc", crc=0)
    assert decode(with_chunks(bare, note)[:-3000]).error == "truncated_image"
    assert decode(with_chunks(bare, b"\0\0\0\4\0\0\0\0junkjunk")).error == "decode_error"
    assert decode(png(4, 4, rows=b"\0" * 3, more=note)).error is not None
