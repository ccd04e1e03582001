"""The order in which pages of all layouts are read, however their writers drew them."""

from __future__ import annotations

import random

import pytest
from pdfs import line, lines, pdf, wide

from curate.pdf import PageText
from curate.pdf.file import open_pdf
from curate.pdf.text import read_text

FOX = "the quick brown fox jumps over a lazy dog and sleeps under an old tree until morning comes with light on fields"
WORDS = FOX.split(" ") * 40

Drawn = tuple[float, float, str]
"""A line: its left end and its foot, in points from below, and its text."""


def layer(data: bytes) -> PageText:
    with open_pdf(data) as opened, opened.page(0) as found:
        return read_text(found)


def column(name: str, x: float, top: float, count: int, words: int = 7) -> list[Drawn]:
    """Lines of prose, each marked with the name and a number so that it is known again; 7 words fill 220 points."""
    start = sum(map(ord, name))
    return [(x, top - 12 * n, f"{name}{n} " + " ".join(WORDS[start + words * n :][:words])) for n in range(count)]


def drawn(*parts: list[Drawn]) -> str:
    return "".join(line(text, x, y, 9) for part in parts for x, y, text in part)


def line_by_line(*parts: list[Drawn]) -> str:
    """All lines from top to bottom, each from left to right across all columns, as some writers do."""
    return drawn(sorted((one for part in parts for one in part), key=lambda one: (-one[1], one[0])))


def marks(found: PageText) -> str:
    """The marks of the lines in the order in which they are read, one for a part: "A, B" for A0, A1, B0."""
    names = [word.rstrip("0123456789") for word in found.words if word[0].isupper()]
    return ", ".join(name for n, name in enumerate(names) if n == 0 or names[n - 1] != name)


TITLE: list[Drawn] = [(140, 740, "Title of a paper that has something to say to those who read")]
AUTHORS: list[Drawn] = [
    (120, 715, "Someone Or Other"),
    (370, 715, "Another Of Them"),
    (110, 703, "a place of learning"),
    (360, 703, "a place of work"),
]
ABSTRACT = column("Abstract", 80, 670, 26, 15)
LEFT, RIGHT = column("Left", 60, 330, 20), column("Right", 320, 330, 20)
FOOT: list[Drawn] = [(303, 40, "Foot")]


@pytest.mark.parametrize("draw", [drawn, line_by_line])
def test_first_page_with_a_large_block_across_is_read_in_its_columns_below(draw: object) -> None:
    assert callable(draw)
    found = layer(pdf(draw(TITLE, AUTHORS, ABSTRACT, LEFT, RIGHT, FOOT)))
    assert found.columns == 2
    assert marks(found) == "Title, Someone, Or, Other, Another, Of, Them, Abstract, Left, Right, Foot"


def test_columns_above_and_below_a_wide_figure_with_labels_are_read_apart() -> None:
    above = column("Above", 60, 720, 12), column("Beside", 320, 720, 12)
    labels = [(x, y, f"Label {x} {y}") for y in (520, 480, 440) for x in (90, 240, 300, 480)]
    caption = column("Caption", 60, 410, 2, 17)
    below = column("Below", 60, 370, 20), column("Last", 320, 370, 20)
    found = layer(pdf(line_by_line(*above, labels, caption, *below)))
    assert marks(found) == "Above, Beside, Label, Caption, Below, Last"


def test_figure_over_one_column_stays_in_it() -> None:
    left, right = column("Left", 60, 720, 50), column("Right", 320, 540, 35)
    labels = [(x, y, "Label") for y in (720, 680, 640) for x in (350, 480)]
    found = layer(pdf(line_by_line(left, labels, right)))
    assert marks(found) == "Left, Label, Right"


def test_running_titles_are_read_before_and_after_both_columns() -> None:
    """Running titles at both margins are read before and after both columns."""
    titles = [(60, 760, "Running title"), (480, 760, "Page 7")]
    feet = [(60, 40, "Foot of it"), (480, 40, "Number 8")]
    left, right = column("Left", 60, 720, 50), column("Right", 320, 720, 50)
    for page in (drawn(left, right, titles, feet), line_by_line(titles, left, right, feet)):
        assert marks(layer(pdf(page))) == "Running, Page, Left, Right, Foot, Number"


def test_titles_and_a_note_in_margin_that_were_drawn_last_keep_out_of_text() -> None:
    text, note = column("Text", 200, 700, 40, 11), column("Note", 40, 700, 4, 3)
    found = layer(pdf(drawn(text, [(200, 760, "Head"), (200, 40, "Foot")], note)))
    assert marks(found) == "Head, Note, Text, Foot" or marks(found) == "Head, Text, Note, Foot"


@pytest.mark.parametrize("draw", [drawn, line_by_line])
def test_three_columns_are_read_one_after_the_other(draw: object) -> None:
    assert callable(draw)
    found = layer(pdf(draw(*(column(name, x, 700, 40, 4) for name, x in (("A", 40), ("B", 220), ("C", 400))))))
    assert (marks(found), found.columns) == ("A, B, C", 3)


def test_narrow_sidebar_is_read_apart_from_the_text_beside_it() -> None:
    text, sidebar = column("Text", 60, 700, 40, 10), column("Side", 430, 700, 20, 4)
    assert marks(layer(pdf(line_by_line(text, sidebar)))) == "Text, Side"


def test_numbers_of_lines_in_the_margin_stay_with_their_lines() -> None:
    text = column("Text", 100, 700, 40, 12)
    numbered = [one for x, y, text in text for one in ((60, y, str(round(y))), (x, y, text))]
    found = layer(pdf(drawn(numbered)))
    assert [one.split()[0] for one in found.text.split("\n")] == [str(700 - 12 * n) for n in range(40)]


def test_numbers_of_a_list_stay_with_what_they_number() -> None:
    left = column("Left", 60, 700, 40)
    items = [(345, y, text) for _, y, text in column("Item", 0, 700, 40, 6)]
    listed = [
        one for n, item in enumerate(items) for one in ([(322, item[1], f"{n}."), item] if n % 3 == 0 else [item])
    ]
    found = layer(pdf(drawn(left, listed)))
    assert marks(found) == "Left, Item" and "39." in found.text.split("\n")[-1]


def test_columns_of_a_right_to_left_page_are_read_from_the_right() -> None:
    words = ["שלום", "לכל", "הקוראים", "של", "הדף", "הזה", "אשר", "כתוב", "בעברית", "מימין", "לשמאל"] * 5

    def leftwards(first: str, x: float, y: float, count: int) -> str:
        shown = ""
        for word in [first, *words[count : count + 5]]:
            shown += wide(word[::-1], x - 8 * len(word), y, 8)
            x -= 8 * len(word) + 3
        return shown

    right = [leftwards("א", 540, 700 - 14 * n, n) for n in range(20)]
    left = [leftwards("ת", 290, 700 - 14 * n, n + 7) for n in range(20)]
    for order in (left + right, [one for pair in zip(left, right, strict=True) for one in pair]):
        found = layer(pdf("".join(order)))
        assert [one[0] for one in found.text.split("\n")] == ["א"] * 20 + ["ת"] * 20


def test_vertical_text_in_two_rows_is_read_row_by_row_from_the_right() -> None:
    upper, lower = "上の段に縦書きの文章があります", "下の段にも縦書きの文があります"
    both = [(540 - 24 * n, y, text) for n in range(12) for y, text in ((740, upper), (380, lower))]
    found = layer(pdf("".join(wide(text, x, y, 20) for x, y, text in both), vertical=True))
    assert found.text.split("\n") == [upper] * 12 + [lower] * 12


def test_line_that_begins_again_a_little_lower_is_a_line_of_its_own() -> None:
    columns = [column(name, x, top, 30, 4) for name, x, top in (("A", 40, 700), ("B", 220, 697), ("C", 400, 704))]
    found = layer(pdf(line_by_line(*columns)))
    assert (marks(found), found.columns, len(found.text.split("\n"))) == ("A, B, C", 3, 90)


@pytest.mark.parametrize("columns", [3, 4, 9])
def test_rows_of_numbers_are_read_row_by_row(columns: int) -> None:
    rows = [[f"{(n + 3) * (m + 7) * 1237:,}" for m in range(columns)] for n in range(30)]
    cells = [(60 + 500 / columns * m, 700 - 14 * n, cell) for n, row in enumerate(rows) for m, cell in enumerate(row)]
    assert layer(pdf(drawn(cells))).words == [cell for row in rows for cell in row]


def test_cells_of_several_lines_are_not_torn_apart() -> None:
    texts = [column(name, x, top, 3, 6) for top in range(700, 200, -48) for name, x in (("Cell", 60), ("Next", 320))]
    assert marks(layer(pdf(drawn(*texts)))) == ", ".join(["Cell, Next"] * 11)


def test_table_within_a_column_is_read_row_by_row_within_it() -> None:
    left, right = column("Left", 60, 720, 50), column("Right", 320, 720, 20)
    rows = [(x, 460 - 14 * n, f"Row{n}.{x}") for n in range(12) for x in (330, 400, 470)]
    found = layer(pdf(line_by_line(left, right, rows)))
    assert [word for word in found.words if word.startswith("Row")] == [text for _, _, text in rows]
    assert marks(found).startswith("Left, Right, Row")


def test_column_order_does_not_hang_on_the_order_of_drawing() -> None:
    """The order of a page in columns does not hang on the order in which it was drawn."""
    parts = [*TITLE, *ABSTRACT, *FOOT]
    for seed in range(5):
        blocks = [parts, LEFT, RIGHT]
        random.Random(seed).shuffle(blocks)
        assert marks(layer(pdf(drawn(*blocks)))) == "Title, Abstract, Left, Right, Foot"


def test_short_lines_at_the_end_of_a_page_do_not_become_columns() -> None:
    text = lines([" ".join(WORDS[n * 15 :][:15]) for n in range(30)], 60, 720, 9)
    signatures = drawn([(60, 300, "Signed here"), (400, 300, "Signed there"), (60, 280, "Name"), (400, 280, "Name")])
    found = layer(pdf(text + signatures))
    assert found.columns == 1 and found.text.endswith("Signed here Signed there\nName Name")
