"""The images of documents: what is decoded from data URLs, read from the folder, refused, and bounded."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curate.document.segments import image_segment, text_segment
from curate.download import DownloadSettings
from curate.ops.extract import fetch
from curate.ops.extract.fetch import fetch_images
from curate.pool.blob import Absent, Stored


def png(side: int = 4) -> bytes:
    Image.new("RGB", (side, side), (9, 9, 9)).save(body := io.BytesIO(), "PNG")
    return body.getvalue()


@pytest.fixture
def op(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png(6))
    (tmp_path / "secret.png").write_bytes(png())
    (tmp_path / "in" / "way out.png").symlink_to(tmp_path / "secret.png")
    made = fetch_images(download=DownloadSettings(), folder=str(tmp_path / "in"))
    yield made
    made.close()


def images(op: Any, *urls: str) -> list[Stored | Absent]:
    document = [text_segment("words"), *(image_segment(url) for url in urls)]
    (row,) = op([document])["images"]
    return list(row)


def test_data_url_is_decoded_and_its_size_known(op: Any) -> None:
    data = png(7)
    (found,) = images(op, "data:image/png;base64," + base64.b64encode(data).decode())
    assert found == Stored(data, "png", 7, 7)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("data:image/png;base64,@@@", "empty_body"),
        ("data:image/png;base64,QUJDR", "bad_url"),
        ("data:nothing", "empty_body"),
        ("data:text/html,<html>x", "html_instead_of_image"),
        ("gone.png", "missing_file"),
        ("../secret.png", "unsafe_name"),
        ("way out.png", "unsafe_name"),
        ("/etc/passwd", "unsafe_name"),
        ("file:///etc/passwd", "missing_file"),
        ("http://127.0.0.1:1/x.png", "private_address"),
        ("http://169.254.169.254/latest/meta-data", "private_address"),
        ("http://", "bad_url"),
        ("\0", "unsafe_name"),
        ("x" * 100_000, "missing_file"),
    ],
)
def test_image_that_cannot_be_had_is_absent_by_name(op: Any, url: str, error: str) -> None:
    (found,) = images(op, url)
    assert isinstance(found, Absent) and found.error in (error, "unreadable_file")


def test_path_means_nothing_where_pages_came_from_the_web() -> None:
    made = fetch_images(download=DownloadSettings(), folder=None)
    (found,) = images(made, "etc/passwd")
    made.close()
    assert isinstance(found, Absent) and found.error == "bad_url"


def test_image_shown_twice_is_there_twice_and_counts_are_of_places(op: Any) -> None:
    said = op([[image_segment("a.png"), image_segment("gone.png"), image_segment("a.png")], []])
    assert [len(row) for row in said["images"]] == [3, 0] and said["images"][0][0] == said["images"][0][2]
    assert (said["images_wanted"], said["images_found"]) == ([3, 0], [2, 0])
    assert said["images_missing_share"] == [pytest.approx(1 / 3), 0.0]


def test_document_of_too_many_images_or_bytes_keeps_its_first(op: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_IMAGES", 2)
    found = images(op, "a.png", "gone.png", "b.png", "a.png")
    assert [getattr(f, "error", None) for f in found] == [None, "missing_file", "too_many_images", None]
    monkeypatch.setattr(fetch, "MAX_DOCUMENT_BYTES", len(png(6)))
    urls = ["a.png", "data:image/png;base64," + base64.b64encode(png(3)).decode()]
    assert [getattr(f, "error", None) for f in images(op, *urls)] == [None, "too_many_bytes"]


def test_document_gets_the_same_whatever_stands_beside_it(op: Any) -> None:
    """What a document gets does not hang on the documents beside it."""
    one, two = [image_segment("a.png")], [image_segment("gone.png"), image_segment("a.png")]
    alone = [op([d])["images"][0] for d in (one, two)]
    assert op([one, two])["images"] == alone and op([two, one])["images"] == alone[::-1]
