"""What a download promises where img2dataset comes in: its resizer, and itself chosen whole as the engine."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hostile import JPEG, Site, endless, hang, picture
from odd_images import ACCEPTED, REFUSED
from PIL import Image

from curate.download import Downloader, DownloadSettings, Fetched
from curate.download.resize import ImageResizer
from curate.download.settings import ResizeSettings
from curate.image.files import ImageLimits, decode


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


def fetch(*urls: str | None, **knobs: Any) -> list[Fetched]:
    usual = {"allow_private": ("127.0.0.1",), "timeout_s": 5, "retries": 0, "backoff_s": 0.01}
    with Downloader(DownloadSettings.model_validate(usual | knobs)) as downloader:
        return list(downloader.fetch((f"{number:032x}", url) for number, url in enumerate(urls)))


def noisy(kind: str, size: tuple[int, int] = (90, 60), **options: Any) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(7).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def opened(row: Fetched) -> Image.Image:
    assert row.body is not None
    return Image.open(io.BytesIO(row.body))


@pytest.mark.parametrize(
    ("mode", "size"),
    [("no", (90, 60)), ("keep_ratio", (48, 32)), ("keep_ratio_largest", (32, 21)), ("border", (32, 32)),
     ("center_crop", (32, 32))],
)  # fmt: skip
def test_each_resize_mode_gives_the_file_that_img2dataset_gives(site: Site, mode: str, size: tuple[int, int]) -> None:
    body = noisy("jpeg")
    site.pages["/a"] = ("200 OK", (), body)
    (row,) = fetch(site.url("/a"), resize={"mode": mode, "size_px": 32, "quality": 90})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from img2dataset.resizer import Resizer

        expected = Resizer(32, mode, False, encode_quality=90)(io.BytesIO(body))[0]
    assert row.body == expected
    assert opened(row).size == (row.width, row.height) == size
    assert (row.ext, row.original_width, row.original_height) == ("jpg", 90, 60)


def test_photograph_that_exif_turns_is_resized_upright(site: Site) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    site.pages["/turned"] = ("200 OK", (), noisy("jpeg", exif=exif))
    (row,) = fetch(site.url("/turned"), resize={"mode": "keep_ratio", "size_px": 30, "format": "png", "quality": 6})
    assert (row.original_width, row.original_height, row.width, row.height, row.ext) == (60, 90, 30, 45, "png")


def test_sixteen_bits_a_channel_keep_their_range(site: Site) -> None:
    out = io.BytesIO()
    Image.fromarray(np.full((40, 40), 32768, dtype=np.uint16)).save(out, "png")
    site.pages["/deep"] = ("200 OK", (), out.getvalue())
    (row,) = fetch(site.url("/deep"), resize={"mode": "keep_ratio", "size_px": 20})
    assert abs(int(np.asarray(opened(row)).mean()) - 127) <= 1


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (noisy("jpeg")[:-500], "truncated_image"),
        (noisy("png")[:-500], "truncated_image"),
        (picture(size=(2000, 1000), kind="png"), "image_too_large"),
        (b"GIF89a" + bytes(50), "truncated_image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_format"),
    ],
)
def test_image_that_cannot_be_resized_is_named_and_the_rest_go_on(site: Site, body: bytes, error: str) -> None:
    """What cannot be resized is named and the rest go on."""
    site.pages["/bad"] = ("200 OK", (), body)
    bad, good = fetch(site.url("/bad"), site.url(), resize={"size_px": 16, "max_pixels": 1_000_000})
    assert (bad.status, bad.error, bad.body, bad.sha256) == ("failed_to_resize", error, None, None)
    assert (good.status, good.width, good.height) == ("success", 16, 16)


RESIZER = ImageResizer(
    ResizeSettings.model_validate({"mode": "no", "format": "png", "quality": 1, "max_pixels": ImageLimits().max_pixels})
)


@pytest.mark.parametrize("name", ACCEPTED)
def test_resized_file_has_the_pixels_that_the_ops_see(name: str) -> None:
    """Turned, transparent, deep, indexed, of a printer's colours, moving: the pixels that the ops see."""
    row, seen = RESIZER(Fetched("k", "u", "success", body=ACCEPTED[name], ext="x")), decode(ACCEPTED[name])
    assert row.status == "success" and seen.image is not None, (row.error, row.detail)
    assert np.array_equal(np.asarray(opened(row).convert("RGB")), np.asarray(seen.image))
    assert (row.width, row.height) == (row.original_width, row.original_height) == seen.image.size


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_ops_refuse_is_refused_by_a_resize_by_the_same_name_at_each_run(name: str) -> None:
    data, error = REFUSED[name]
    first, second = (RESIZER(Fetched("k", "u", "success", body=data, ext="x")) for _ in range(2))
    assert (first.status, first.error, first.body) == ("failed_to_resize", error, None)
    assert first == second and "0x" not in first.detail


def test_file_that_needs_no_resize_stays_as_it_came_if_any_reader_shows_the_same() -> None:
    wanted = {"size_px": 900, "mode": "keep_ratio", "only_if_bigger": True, "skip_reencode": True}

    def stays(body: bytes, kind: str) -> bool:
        resizer = ImageResizer(ResizeSettings.model_validate(wanted | {"format": kind, "quality": 9}))
        return resizer(Fetched("k", "u", "success", body=body, ext=kind)).body == body

    assert stays(noisy("jpeg"), "jpg") and stays(noisy("png"), "png") and stays(noisy("webp"), "webp")
    assert not stays(noisy("png"), "jpg") and not stays(noisy("jpeg", size=(2000, 1000)), "jpg")
    for name in ("JPEG turned 6", "JPEG, CMYK"):
        assert not stays(ACCEPTED[name], "jpg")
    for name in ("PNG, 2-bit grey, one of them clear", "PNG, half clear", "PNG, animated"):
        assert not stays(ACCEPTED[name], "png")


def test_grey_stays_grey() -> None:
    row = RESIZER(Fetched("k", "u", "success", body=ACCEPTED["JPEG, grey"], ext="jpg"))
    assert opened(row).mode == "L"


def test_resizing_in_several_threads_leaves_the_streams_alone(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    rows = fetch(*[site.url()] * 60, resize={"size_px": 16}, resize_threads=4)
    print("still here")
    assert len({row.body for row in rows}) == 1
    assert capfd.readouterr().out == "still here\n"


def test_resizer_can_be_made_twice_in_one_process() -> None:
    row = Fetched("k", "u", "success", body=JPEG, ext="jpg")
    first, second = (ImageResizer(ResizeSettings.model_validate({"size_px": 8}))(row) for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_img2dataset_as_the_engine_gives_the_same_rows_and_bytes(site: Site) -> None:
    inside = ("302 Found", (f"Location: http://127.0.0.2:{site.port}/ok",), b"")
    site.pages |= {
        "/gone": ("404 Not Found", (), b""),
        "/html": ("200 OK", ("Content-Type: image/jpeg",), b"<html></html>"),
        "/tagged": ("200 OK", ("X-Robots-Tag: noai",), JPEG),
        "/loop": ("302 Found", ("Location: /loop",), b""),
        "/file": ("302 Found", ("Location: file:///etc/passwd",), b""),
        "/inside": inside,
        "/png": ("200 OK", (), picture(kind="png")),
        "/empty": ("200 OK", (), b""),
        "/hang": hang,
        "/endless": endless,
    }
    urls: list[str | None] = [site.url(page) for page in ("/ok?1", "/ok?2", *site.pages)]
    urls += [None, "file:///etc/passwd", "http://10.0.0.1/a.jpg", "http://127.0.0.1:1/"]
    knobs = {"timeout_s": 2, "max_bytes": 1 << 20}
    ours, theirs = fetch(*urls, **knobs), fetch(*urls, engine="img2dataset", **knobs)

    def essence(row: Fetched) -> tuple[object, ...]:
        return row.key, row.url, row.status, row.error, row.body, row.sha256, row.ext

    assert [essence(row) for row in theirs] == [essence(row) for row in ours]
    assert sum(row.status == "success" for row in theirs) == 3


@pytest.mark.slow
@pytest.mark.systems
def test_img2dataset_as_the_engine_resizes_alike(site: Site) -> None:
    site.pages["/a"] = ("200 OK", (), noisy("jpeg"))
    resize = {"mode": "center_crop", "size_px": 24}
    (ours,), (theirs,) = (
        fetch(site.url("/a"), resize=resize),
        fetch(site.url("/a"), engine="img2dataset", resize=resize),
    )
    assert (theirs.body, theirs.width, theirs.original_width) == (ours.body, ours.width, ours.original_width)
