"""PDF files: what is read of their text layers and in which order, and what of them is refused by name."""

from __future__ import annotations

import numpy as np
import pdfs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pdfs import PROSE, layer, line, lines, pdf, stream, wide
from PIL import Image

from curate.pdf import PdfError, PdfLimits, covered_share, find_ruled_lines, find_tables
from curate.pdf.file import find_objects, open_pdf, render
from curate.pdf.text import read_text


def refused(data: bytes, limits: PdfLimits | None = None) -> str:
    with pytest.raises(PdfError) as error, open_pdf(data, limits or PdfLimits()):
        pass
    return error.value.error


# What is refused, by name
def test_encrypted_file_is_read_unless_it_asks_for_a_password() -> None:
    """A file that asks for a password is encrypted and one that does not is read."""
    assert refused(pdfs.encrypted(b"secret")) == "encrypted_pdf"
    assert layer(pdfs.encrypted(b"")).text == "open to all who read"


def test_each_file_that_is_no_readable_pdf_is_named() -> None:
    whole = pdf(line("text", 72, 700))
    assert refused(b"") == "empty_file"
    assert refused(b"<html>404</html>") == "not_a_pdf"
    assert refused(b"%PDF-1.7\n" + b"\0" * 300) == "damaged_pdf"
    assert refused(pdf()) == "empty_pdf"
    assert refused(whole, PdfLimits(max_bytes=100)) == "pdf_too_large"
    assert refused(pdf("", "", ""), PdfLimits(max_pages=2)) == "too_many_pages"


def test_file_whose_table_of_objects_is_not_where_it_says_is_still_read() -> None:
    whole = pdf(line("still here", 72, 700))
    assert layer(whole.replace(b"startxref\n", b"startxref\n99")).text == "still here"


def test_page_that_is_not_there_is_named() -> None:
    with open_pdf(pdf("")) as opened, pytest.raises(PdfError, match="missing_page"):
        opened.page(1)


def test_page_with_more_characters_than_the_limit_is_refused() -> None:
    data = pdf(lines(["a" * 80] * 3, 10, 700))
    with open_pdf(data, PdfLimits(max_characters=100)) as opened, opened.page(0) as page, pytest.raises(PdfError) as no:
        read_text(page)
    assert no.value.error == "too_many_characters"


def test_enormous_page_is_drawn_as_asked_and_refused_beyond_200_inches() -> None:
    """An enormous page is drawn at the size asked for and refused beyond 200 inches."""
    with open_pdf(pdf("", box=(0, 0, 14_000, 7_000))) as opened, opened.page(0) as page:
        assert render(page, 500).size == (500, 250)
        with pytest.raises(PdfError, match="page_too_large"):
            render(page, 20_000)
    huge = pdf("", box=(0, 0, 100_000, 20_000))
    with open_pdf(huge) as opened, opened.page(0) as page, pytest.raises(PdfError, match="page_too_large"):
        render(page, 500)


def test_page_a_point_wide_still_gives_a_picture() -> None:
    with open_pdf(pdf("", box=(0, 0, 1, 5_000))) as opened, opened.page(0) as page:
        assert render(page, 1000).size == (1, 1000)


# Words, boxes and their order
def test_words_have_boxes_in_fractions_of_the_page_as_seen() -> None:
    found = layer(pdf(line("Hello brave world", 61.2, 792 - 79.2, 20)))
    assert (found.words, found.lines.tolist(), found.columns) == (["Hello", "brave", "world"], [0, 0, 0], 1)
    left, top, right, bottom = found.boxes[0]
    assert left == pytest.approx(0.1, abs=0.002) and right < found.boxes[1][0]
    assert top < 0.1 - 10 / 792 < bottom  # the letters stand on the line, and some reach below it
    assert bottom - top == pytest.approx(20 / 792, abs=0.005)


def test_boxes_are_of_the_page_after_its_rotation_and_within_its_crop_box() -> None:
    turned = layer(pdf(line("Hello world", 72, 700), page="/Rotate 90"))
    assert turned.skew_degrees == -90
    assert (turned.boxes[:, 0] > 0.85).all() and turned.boxes[0][1] < turned.boxes[1][1]
    cropped = layer(pdf(line("Hello", 72, 700) + line("outside", 400, 100), page="/CropBox [60 600 312 792]"))
    assert cropped.words == ["Hello"]
    assert cropped.boxes[0][0] == pytest.approx(12 / 252, abs=0.003)


def test_text_beside_the_page_is_not_read() -> None:
    """What lies beside the page is not read."""
    assert layer(pdf(line("seen", 72, 700) + line("unseen", 700, 700))).text == "seen"
    over_the_edge = layer(pdf(line("seen and " + "half " * 20 + "unseen", 300, 700)))
    assert over_the_edge.text.split() == over_the_edge.words
    assert "unseen" not in over_the_edge.words


def test_words_that_line_breaks_are_whole_in_text_and_as_printed_in_words() -> None:
    found = layer(pdf(lines(["an exam-", "ple of well-", "Known things"], 72, 700)))
    assert found.text == "an example\nof well-Known\nthings"
    assert found.words == ["an", "exam-", "ple", "of", "well-", "Known", "things"]
    assert found.lines.tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_ligatures_come_apart_into_their_letters() -> None:
    assert layer(pdf(wide("o\ufb03ce \ufb01ne", 72, 700))).words == ["office", "fine"]


def test_glyph_without_a_character_stands_as_the_replacement_character() -> None:
    assert layer(pdf(wide("a\0c d\x08e \x93f", 72, 700))).text == "a\ufffdc d\ufffde \ufffdf"


def test_characters_beyond_the_first_plane_are_read_whole() -> None:
    table = b"1 begincodespacerange <0000> <FFFF> endcodespacerange 3 beginbfchar\n<0061> <0061>\n<0062> <D83DDE03>\n"
    head = b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
    tail = b"<0063> <D83D>\nendbfchar endcmap CMapName currentdict /CMap defineresource pop end end"
    found = layer(pdf(wide("aba cb", 72, 700), more={6: stream(head + table + tail)}))
    assert found.words[0] == "a\U0001f603a" and len(found.boxes) == len(found.words)
    assert found.text.encode() and "\U0001f603" in found.words[-1]


def test_page_without_a_size_is_named() -> None:
    data = pdf(line("unseen", 72, 700), page="/CropBox [700 900 800 1000]")
    with open_pdf(data) as opened, pytest.raises(PdfError, match="damaged_page"):
        opened.page(0)


def test_boxes_are_right_to_half_a_point() -> None:
    sizes = (6, 10, 24)
    found = layer(pdf("".join(wide("one two2 x", 72, 700 - 50 * n, size) for n, size in enumerate(sizes))))
    points = found.boxes * np.array([612, 792] * 2)
    wanted = [
        (72 + start * size, 792 - (700 - 50 * n) - 0.8 * size, 72 + end * size, 792 - (700 - 50 * n) + 0.2 * size)
        for n, size in enumerate(sizes)
        for start, end in ((0, 3), (4, 8), (9, 10))
    ]
    assert np.abs(points - wanted).max() < 0.5


@pytest.mark.parametrize("text", ["שלום עולם", "مرحبا بالعالم"])
def test_right_to_left_lines_are_read_in_order_however_they_were_drawn(text: str) -> None:
    """Right to left lines are in the order of reading however they were drawn."""
    as_seen = layer(pdf(wide(text[::-1], 72, 700)))
    letter_by_letter = layer(pdf("".join(wide(c, 400 - 10 * n, 700) for n, c in enumerate(text))))
    assert as_seen.text == letter_by_letter.text == text
    assert as_seen.words == text.split()
    assert as_seen.boxes[0][0] > as_seen.boxes[1][0]


def test_vertical_lines_are_read_downwards_and_from_right_to_left() -> None:
    columns = [("縦書きの文章です。", 500), ("次の行も読みます", 480), ("最後の行はここです", 460)]
    for drawn in (columns, columns[::-1]):
        found = layer(pdf("".join(wide(text, x, 700) for text, x in drawn), vertical=True))
        assert found.text == "\n".join(text for text, _ in columns)
        assert found.words[:2] == ["縦", "書"] and found.boxes[0][3] <= found.boxes[1][1] + 1e-6


def column(start: int, x: float, count: int = 12, top: float = 650) -> tuple[list[str], list[str]]:
    """Lines of prose that fill 200 points, as texts and as drawn."""
    texts = [" ".join(PROSE[start + 7 * n : start + 7 * n + 7]) for n in range(count)]
    return texts, [line(text, x, top - 12 * n, 9) for n, text in enumerate(texts)]


def test_two_columns_are_read_one_after_the_other_even_when_drawn_across() -> None:
    left, left_drawn = column(0, 60)
    right, right_drawn = column(90, 330)
    heading = line("A heading that stands across both of the columns of this page", 130, 700, 12)
    foot = line("7", 303, 40, 9)
    across = [part for pair in zip(left_drawn, right_drawn, strict=True) for part in pair]
    for drawn in (left_drawn + right_drawn, across):
        found = layer(pdf(heading + "".join(drawn) + foot))
        texts = found.text.split("\n")
        assert texts[0].startswith("A heading") and texts[-1] == "7"
        assert texts[1:-1] == left + right
        assert found.columns == 2


def test_heading_in_the_middle_parts_what_is_above_it_from_what_is_below() -> None:
    above_left, above_right = column(0, 60), column(50, 330)
    below_left, below_right = column(110, 60, top=400), column(170, 330, top=400)
    heading = line("Here begins the second part and it runs over the whole width of the page", 100, 450, 12)
    parts = [above_left, below_left, above_right, below_right]
    found = layer(pdf("".join("".join(drawn) for _, drawn in parts) + heading))
    order = [*above_left[0], *above_right[0], "Here", *below_left[0], *below_right[0]]
    assert [text if not text.startswith("Here") else "Here" for text in found.text.split("\n")] == order


def test_table_is_read_row_by_row() -> None:
    rows = [(f"name {n}", f"{n * 37}", f"{n * 11}.5") for n in range(14)]
    drawn = "".join(
        line(cell, x, 700 - 14 * n) for n, row in enumerate(rows) for cell, x in zip(row, (72, 250, 420), strict=True)
    )
    found = layer(pdf(drawn))
    assert found.columns == 1
    assert found.text.split() == " ".join(" ".join(row) for row in rows).split()


def test_dots_before_the_numbers_of_pages_are_no_column() -> None:
    names = ["Introduction", "Installing", "The first run of all", "Appendix", "What to do next", "Index"] * 2
    drawn = "".join(line(f"{name} {' . ' * (40 - len(name))} {n}", 72, 700 - 14 * n) for n, name in enumerate(names))
    found = layer(pdf(drawn))
    assert found.columns == 1 and [text.split()[-1] for text in found.text.split("\n")] == [str(n) for n in range(12)]


def test_header_that_was_drawn_last_is_read_first() -> None:
    body = lines(["one line of it", "another line of it", "the last line of it"], 72, 600)
    assert layer(pdf(body + line("Header", 72, 750))).text.startswith("Header\none line")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(20, 560), st.integers(20, 760), st.integers(4, 30)), max_size=60))
def test_every_word_is_read_exactly_once_wherever_it_stands(places: list[tuple[int, int, int]]) -> None:
    drawn = [line(f"w{n}", x, y, size) for n, (x, y, size) in enumerate(places)]
    found = layer(pdf("".join(drawn)))
    assert len(found.words) == len(found.boxes) == len(found.lines)
    assert "".join(found.words).count("w") == len([c for c in found.text if c == "w"])
    assert (found.boxes >= 0).all() and (found.boxes <= 1).all()
    assert (np.diff(found.lines) >= 0).all()


# Pictures, forms, scans
def test_page_of_a_pure_scan_has_a_picture_all_over_and_no_words() -> None:
    data = pdfs.scan(Image.new("RGB", (300, 400), (250, 250, 240)))
    with open_pdf(data) as opened, opened.page(0) as page:
        assert read_text(page).words == []
        assert covered_share(find_objects(page).images) == 1


def test_images_within_reused_drawings_are_found_where_they_are_placed() -> None:
    head = "/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
    form = "/Type /XObject /Subtype /Form /BBox [0 0 100 100] /Resources << /XObject << /I 50 0 R >> >>"
    more = {50: stream(b"\0", head), 51: stream(b"q 50 0 0 50 0 0 cm /I Do Q", form)}
    data = pdf("q 2 0 0 2 100 200 cm /F Do Q", resources="/XObject << /F 51 0 R >>", more=more)
    with open_pdf(data) as opened, opened.page(0) as page:
        (box,) = find_objects(page).images
    assert box == pytest.approx([100 / 612, 1 - 300 / 792, 200 / 612, 1 - 200 / 792], abs=1e-3)


def test_form_is_drawn_with_what_was_filled_in() -> None:
    look = stream(b"0 0 0 rg 0 0 100 20 re f", "/Type /XObject /Subtype /Form /BBox [0 0 100 20]")
    field = b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /Rect [100 600 200 620] /F 4 /AP << /N 51 0 R >> >>"
    data = pdf("", page="/Annots [50 0 R]", catalog="/AcroForm << /Fields [50 0 R] >>", more={50: field, 51: look})
    with open_pdf(data) as opened, opened.page(0) as page:
        picture = render(page, 792)
    assert picture.getpixel((150, 792 - 610)) == (0, 0, 0) and picture.getpixel((250, 792 - 610)) == (255, 255, 255)


def test_lines_of_a_table_are_told_from_other_drawings() -> None:
    rules = "".join(f"72 {y} 400 0.5 re f\n" for y in (700, 680, 500))
    data = pdf(rules + "100 100 m 200 150 l S\n" + "300 300 100 100 re f\n")
    with open_pdf(data) as opened, opened.page(0) as page:
        across, down = find_ruled_lines(find_objects(page).paths, page.width_pt, page.height_pt)
    assert (len(across), len(down)) == (3, 0)
    assert covered_share(find_tables(across)) == pytest.approx(400 * 200 / (612 * 792), rel=0.05)
