"""Text that the picture does not show, and characters in the picture that are no text."""

from __future__ import annotations

import pytest
from pdfs import line, pdf, stream

from curate.ops.extract.pdf import pdf_page
from curate.pdf.file import open_pdf
from curate.pdf.hidden import count_invisible, count_overlaid

SEEN, UNSEEN = line("this is seen", 72, 600), line("this not", 72, 700)
LETTERS = len("thisnot")
WHOLE_PAGE = "q 612 0 0 792 0 0 cm /I Do Q\n"
IMAGE = "/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
STENCIL = "/Type /XObject /Subtype /Image /Width 1 /Height 1 /ImageMask true /BitsPerComponent 1"
DRAWING = "/Type /XObject /Subtype /Form /BBox [0 0 200 20] /Resources << /Font << /L 3 0 R >> >>"


def with_image(drawn: str, head: str = IMAGE) -> bytes:
    return pdf(drawn, resources="/XObject << /I 50 0 R >>", more={50: stream(b"\xff", head)})


def invisible(data: bytes) -> int:
    with open_pdf(data) as opened, opened.page(0) as page:
        return count_invisible(page)


def overlaid(*annotations: str, catalog: str = "", look: str = "(Jane Doe) Tj", page: str = "") -> tuple[int, int]:
    """Characters of form fields and of other annotations; each may show /AP << /N 60 0 R >>."""
    more = {70 + n: f"<< /Type /Annot {one} >>".encode() for n, one in enumerate(annotations)}
    more[60] = stream(f"BT /L 10 Tf 2 5 Td {look} ET".encode(), DRAWING)
    numbers = " ".join(f"{number} 0 R" for number in more if number >= 70)
    data = pdf(SEEN, page=f"/Annots [{numbers}] {page}", catalog=catalog, more=more)
    with open_pdf(data) as opened, opened.page(0) as found:
        return count_overlaid(found)


@pytest.mark.parametrize(
    "drawn",
    [
        "3 Tr " + UNSEEN + "0 Tr " + SEEN,
        "7 Tr " + UNSEEN + "0 Tr " + SEEN,
        "1 g " + UNSEEN + "0 g " + SEEN,
        "1 1 1 rg 0 650 612 100 re f " + UNSEEN + "0 g " + SEEN,
    ],
)
def test_text_that_is_drawn_unseen_is_counted(drawn: str) -> None:
    assert invisible(pdf(drawn)) == LETTERS


@pytest.mark.parametrize("drawn", [SEEN, "0 0 1 rg 0 500 612 200 re f 1 g " + SEEN, "1 Tr " + SEEN, "0.9 g " + SEEN])
def test_text_that_is_seen_is_not_counted(drawn: str) -> None:
    assert invisible(pdf(drawn)) == 0


def test_text_below_a_scan_is_counted_and_text_on_it_is_not() -> None:
    assert invisible(with_image(UNSEEN + WHOLE_PAGE + SEEN)) == LETTERS
    assert invisible(with_image(WHOLE_PAGE + SEEN + "1 g " + SEEN)) == 0
    assert invisible(with_image(SEEN + WHOLE_PAGE, STENCIL)) == 0


def test_text_below_an_image_of_a_reused_drawing_is_counted() -> None:
    form = "/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << /XObject << /I 50 0 R >> >>"
    more = {50: stream(b"\xff", IMAGE), 51: stream(WHOLE_PAGE.encode(), form)}
    for drawn, expected in ((UNSEEN + "/F Do", LETTERS), ("/F Do " + UNSEEN, 0)):
        assert invisible(pdf(drawn, resources="/XObject << /F 51 0 R >>", more=more)) == expected


FIELD = "/Subtype /Widget /FT /Tx /T (name) /DA (/L 10 Tf 0 g) /F 4 /Rect [100 500 300 520]"
FORM = "/AcroForm << /Fields [70 0 R] /DR << /Font << /L 3 0 R >> >> >>"


def test_what_was_filled_into_a_form_is_counted_with_and_without_a_look_of_its_own() -> None:
    assert overlaid(f"{FIELD} /V (Jane Doe) /AP << /N 60 0 R >>", catalog=FORM) == (7, 0)
    assert overlaid(f"{FIELD} /V (Jane Doe)", catalog=FORM) == (7, 0)
    assert overlaid(FIELD, catalog=FORM) == (0, 0)


def test_notes_on_a_page_are_counted_and_links_and_hidden_ones_are_not() -> None:
    note = "/Subtype /FreeText /Contents (a note) /DA (/Helv 10 Tf 0 g) /Rect [100 500 300 520]"
    assert overlaid(f"{note} /F 4 /AP << /N 60 0 R >>") == (0, 7)
    assert overlaid(f"{note} /F 4") == (0, 5)
    assert overlaid(f"{note} /F 2 /AP << /N 60 0 R >>") == (0, 0)
    assert overlaid(
        "/Subtype /Link /Rect [72 600 200 612]", "/Subtype /Highlight /Contents (mine) /Rect [0 0 9 9]"
    ) == (0, 0)
    stamp = "/Subtype /Stamp /F 4 /Rect [100 400 300 420] /AP << /N 60 0 R >>"
    assert overlaid(f"{FIELD} /V (Jane Doe) /AP << /N 60 0 R >>".replace("70", "71"), stamp, catalog=FORM) == (7, 7)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_page_has_the_same_counts(rotation: int) -> None:
    filled = f"{FIELD} /V (Jane Doe) /AP << /N 60 0 R >>"
    assert overlaid(filled, catalog=FORM, page=f"/Rotate {rotation}") == (7, 0)


def test_columns_tell_what_text_and_picture_do_not_share() -> None:
    look = stream(b"BT /L 10 Tf 2 5 Td (Jane Doe) Tj ET", DRAWING)
    field = f"<< /Type /Annot {FIELD} /V (Jane Doe) /AP << /N 60 0 R >> >>".encode()
    data = pdf("3 Tr " + UNSEEN + "0 Tr " + SEEN, page="/Annots [70 0 R]", catalog=FORM, more={60: look, 70: field})
    found = pdf_page([data, data], [{"page": 0}, {"page": 0}])
    assert (found["invisible_characters"], found["form_characters"]) == ([LETTERS] * 2, [7, 7])
    assert found["annotation_characters"] == [0, 0]
    assert found["text"][0].split("\n") == ["this not", "this is seen"]
