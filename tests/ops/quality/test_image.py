"""image_size and image_ok: what they say of good files, and how they name bad ones."""

import io

import pytest
from PIL import Image

from curate.image.files import decode
from curate.ops.quality.image import image_ok, image_size
from curate.ops.spec import Failed, spec_of


def picture(width: int, height: int, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(file, kind, **options)
    return file.getvalue()


def test_image_size_tells_sides_aspect_and_area() -> None:
    columns = image_size([picture(300, 100), picture(50, 200, "JPEG")])
    assert columns == {
        "width": [300, 50],
        "height": [100, 200],
        "min_side": [100, 50],
        "max_side": [300, 200],
        "aspect": [3.0, 4.0],
        "pixels": [30_000, 10_000],
    }
    assert list(columns) == list(spec_of(image_size).writes)


def test_image_size_is_of_the_picture_as_seen_and_not_as_stored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    columns = image_size([picture(300, 100, "JPEG", exif=exif)])
    assert (columns["width"], columns["height"]) == ([100], [300])


def test_image_size_reads_only_the_header() -> None:
    whole = picture(640, 480, "JPEG")
    assert image_size([whole[: len(whole) // 2]])["width"] == [640]


def test_image_size_fails_row_that_is_no_picture_and_keeps_its_neighbours() -> None:
    columns = image_size([picture(9, 9), b"", b"<html></html>", picture(8, 8)])
    for name in spec_of(image_size).writes:
        good, empty, page, last = columns[name]
        assert (empty.error, page.error) == ("empty_file", "html_instead_of_image")
        assert not isinstance(good, Failed) and not isinstance(last, Failed)


def test_image_size_holds_the_limits_of_the_recipe() -> None:
    (found,) = image_size([picture(300, 100)], max_side_px=299)["width"]
    assert isinstance(found, Failed) and found.error == "image_too_large"
    (found,) = image_size([picture(300, 100)], max_pixels=29_999)["width"]
    assert isinstance(found, Failed) and found.error == "image_too_large"


@pytest.mark.parametrize("data", [b"", b"<html></html>", picture(64, 64)[:60], b"\0" * 10])
def test_image_ok_names_what_is_wrong_and_never_fails_the_row(data: bytes) -> None:
    columns = image_ok([decode(data)])
    assert columns["image_ok"] == [False]
    assert columns["image_error"] == [decode(data).error]
    assert not any(isinstance(value, Failed) for column in columns.values() for value in column)


def test_image_ok_tells_how_a_file_was_stored() -> None:
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour).quantize(2) for colour in ("red", "green", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    columns = image_ok([decode(file.getvalue()), decode(picture(8, 8, "JPEG"))])
    assert columns == {
        "image_ok": [True, True],
        "image_error": [None, None],
        "image_format": ["GIF", "JPEG"],
        "image_mode": ["P", "RGB"],
        "frames": [3, 1],
        "orientation": [1, 1],
    }
    assert list(columns) == list(spec_of(image_ok).writes)
