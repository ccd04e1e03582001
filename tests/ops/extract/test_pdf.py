"""pdf_page and render_page: what a recipe gets of a page, be it of a PDF or of an image file."""

from __future__ import annotations

import io

import pdfs
import pyarrow as pa
import pytest
from pdfs import line, lines, pdf, wide
from PIL import Image

from curate.image.files import decode
from curate.ops.extract.pdf import pdf_page, render_page, script
from curate.ops.spec import Failed, spec_of
from curate.page.words import text_noise
from curate.pool.blob import Stored

TEXT = [f"line {n} of a page that says what it says in plain words" for n in range(30)]


def tiff(*sizes: tuple[int, int]) -> bytes:
    """A TIFF of pages that are darker from one to the next."""
    pages = [Image.new("L", size, 250 - 50 * n) for n, size in enumerate(sizes)]
    pages[0].save(file := io.BytesIO(), "TIFF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def picture(kind: str, size: tuple[int, int] = (60, 80)) -> bytes:
    Image.new("RGB", size, (9, 99, 200)).save(file := io.BytesIO(), kind)
    return file.getvalue()


def test_page_comes_with_its_text_its_words_and_its_layout() -> None:
    data = pdf("", lines(TEXT, 72, 700) + "72 200 400 0.5 re f\n")
    columns = pdf_page([data, data], [{"page": 0, "pages": 2}, {"page": 1, "pages": 2}])
    assert columns["text"] == ["", "\n".join(TEXT)]
    assert columns["layer_words"] == [0, 30 * 13]
    assert columns["page_columns"] == [0, 1]
    assert columns["skew_degrees"] == [None, 0] and columns["ruled_lines"] == [0, 1]
    assert columns["image_share"] == [0, 0] and 0.1 < columns["density"][1] < 0.5
    first = columns["words"][1][0]
    assert (first["text"], first["line"], first["confidence"]) == ("line", 0, None)
    assert all(0 <= side <= 1 for side in first["box"])


def test_every_column_fits_the_type_that_is_declared() -> None:
    found = pdf_page([pdf(line("one two", 72, 700)), picture("PNG")], [{"page": 0}, {}])
    for name, kind in spec_of(pdf_page).writes.items():
        assert pa.array(found[name], kind).type == kind


def test_page_that_cannot_be_read_fails_alone_with_its_name() -> None:
    good = pdf(line("good", 72, 700))
    (first, second, third, last) = pdf_page(
        [good, pdfs.encrypted(b"secret"), good, good], [{"page": 0}, {"page": 0}, {"page": 5}, {"page": 0}]
    )["text"]
    assert (first, last) == ("good", "good")
    assert isinstance(second, Failed) and second.error == "encrypted_pdf"
    assert isinstance(third, Failed) and third.error == "missing_page"


@pytest.mark.parametrize(
    ("text", "expected"), [("Съешь ещё этих", "Cyrl"), ("漢字かな交じり", "Jpan"), ("한국어 문장", "Hang")]
)
def test_script_is_that_of_most_letters(text: str, expected: str) -> None:
    (found,) = pdf_page([pdf(wide(text, 72, 700))], [{}])["text"]
    assert script([found, "123", ""])["script"] == [expected, None, None]


def test_text_layer_that_is_noise_is_told_from_one_that_is_text() -> None:
    plain = " ".join(TEXT).split()
    shifted = ["".join(chr(ord(c) + 3) for c in word) for word in plain]
    without_codes = ["".join(chr(0xF000 + ord(c)) for c in word) for word in plain]
    assert text_noise(plain) == 0 and text_noise([]) == 0
    assert text_noise(shifted) > 0.5 and text_noise(without_codes) == 1
    assert text_noise(["漢", "字", "Rhythm"]) == 0


def test_page_is_drawn_with_the_long_side_that_the_recipe_asks_for() -> None:
    data = pdf(lines(TEXT, 72, 700))
    (found,) = render_page([data], [{"page": 0}], long_side_px=800)["image"]
    assert isinstance(found, Stored)
    assert (found.ext, found.width, found.height) == ("jpg", 618, 800)
    image = decode(found.data).image
    assert image is not None and image.size == (618, 800) and image.getextrema()[0][0] < 50
    (again,) = render_page([data], [{"page": 0}], long_side_px=800)["image"]
    assert again == found


def test_each_page_of_a_tiff_is_a_picture_of_its_own() -> None:
    data = tiff((30, 40), (50, 20), (400, 800))
    found = render_page([data] * 3, [{"page": n, "pages": 3} for n in range(3)], format="png", long_side_px=200)[
        "image"
    ]
    assert [(f.width, f.height) for f in found] == [(30, 40), (50, 20), (100, 200)]
    assert [decode(f.data).image.getpixel((5, 5))[0] for f in found] == [250, 200, 150]
    (beyond,) = render_page([data], [{"page": 3}])["image"]
    assert isinstance(beyond, Failed) and beyond.error == "missing_frame"


def test_page_in_an_image_file_is_kept_as_it_came_unless_it_is_too_large() -> None:
    small, large = picture("JPEG"), picture("PNG", (300, 600))
    kept, made_smaller = render_page([small, large], [{}, {}], long_side_px=200, format="png")["image"]
    assert kept == Stored(small, "jpg", 60, 80)
    assert (made_smaller.ext, made_smaller.width, made_smaller.height) == ("png", 100, 200)
    assert pdf_page([small], [{}])["words"] == [[]]


def test_file_that_is_neither_a_pdf_nor_an_image_is_named() -> None:
    """What is neither a PDF nor an image is named."""
    (found,) = render_page([b"<html><body>gone</body></html>"], [{}])["image"]
    assert isinstance(found, Failed) and found.error == "html_instead_of_image"
