"""Pages and text that are turned: the order of reading, boxes on the page as seen, and the angle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pdfs import layer, line, lines, pdf

from curate.pdf import PageText

LINES = [f"line {n} of a page that says what it says" for n in range(6)]
WIDTHS = dict.fromkeys("ilj", 2.22) | dict.fromkeys("tf ", 2.78) | dict.fromkeys("sck", 5.0) | {"w": 7.22, "m": 8.33}
"""Of Helvetica's letters, in 10 points."""

ACROSS = "".join(lines([text], 72, 600 - 14 * n) for n, text in enumerate(LINES))


def turned(texts: list[str], degrees: float, *, one_by_one: bool = False) -> str:
    """Lines turned anticlockwise by their matrix, about the middle of the page; words drawn one by one if so asked."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    drawn = []
    for number, text in enumerate(texts):
        x, y = -150.0, 100.0 - 14 * number
        for word in text.split() if one_by_one else [text]:
            at = f"{306 + x * cos - y * sin:.3f} {396 + x * sin + y * cos:.3f}"
            drawn.append(f"BT /L 10 Tf {cos:.6f} {sin:.6f} {-sin:.6f} {cos:.6f} {at} Tm ({word}) Tj ET\n")
            x += sum(WIDTHS.get(letter, 5.56) for letter in f"{word} ")
    return "".join(drawn)


def words_in_order(found: PageText) -> list[str]:
    return found.text.split()


@pytest.mark.parametrize("rotation", [90, 180, 270, -90])
def test_page_that_its_file_rotates_is_read_in_order(rotation: int) -> None:
    """Whichever way a file rotates a page, its lines are read from the first to the last."""
    found = layer(pdf(ACROSS, page=f"/Rotate {rotation}"))
    assert found.text.split("\n") == LINES
    assert words_in_order(found) == found.words


@pytest.mark.parametrize(
    ("degrees", "one_by_one"),
    [
        *((degrees, False) for degrees in (90, -90, 180, 87, -92, 4, -4)),
        *((degrees, True) for degrees in (90, -90, 180, 91)),
    ],
)
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_text_that_its_matrix_turns_is_read_in_order(degrees: float, rotation: int, one_by_one: bool) -> None:
    found = layer(pdf(turned(LINES, degrees, one_by_one=one_by_one), page=f"/Rotate {rotation}"))
    assert found.text.split("\n") == LINES


@pytest.mark.parametrize("degrees", [0.0, 3.0, -3.0, 30.0, -30.0, 90.0, -90.0, 93.0, 180.0, -177.0])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_skew_is_anticlockwise_on_the_page_as_it_is_seen(degrees: float, rotation: int) -> None:
    """A file's rotation is clockwise: it takes so much off the angle that the text was drawn at."""
    found = layer(pdf(turned(LINES, degrees), page=f"/Rotate {rotation}"))
    assert abs(found.skew_degrees) <= 180
    assert (found.skew_degrees - (degrees - rotation) + 180) % 360 - 180 == pytest.approx(0, abs=0.05)


def test_turned_text_that_was_set_upright_by_the_rotation_has_no_skew() -> None:
    found = layer(pdf(turned(LINES, 90, one_by_one=True), page="/Rotate 90"))
    assert found.text.split("\n") == LINES
    assert found.skew_degrees == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_boxes_of_a_rotated_page_are_where_its_words_are_seen(rotation: int) -> None:
    upright, found = layer(pdf(ACROSS)), layer(pdf(ACROSS, page=f"/Rotate {rotation}"))
    x0, y0, x1, y1 = upright.boxes.T
    expected = {90: (1 - y1, x0, 1 - y0, x1), 180: (1 - x1, 1 - y1, 1 - x0, 1 - y0), 270: (y0, 1 - x1, y1, 1 - x0)}
    assert found.words == upright.words
    assert np.abs(found.boxes - np.stack(expected[rotation], axis=1)).max() < 1e-3


def test_columns_of_a_page_on_its_side_are_read_one_after_the_other() -> None:
    texts = [[f"{name}{n} word word word word word word" for n in range(20)] for name in ("Left", "Right")]
    drawn = "".join(
        line(text, x, 700 - 12 * n, 9)
        for n in range(20)
        for x, text in zip((60, 320), (t[n] for t in texts), strict=True)
    )
    for rotation in (0, 90, 180, 270):
        found = layer(pdf(drawn, page=f"/Rotate {rotation}"))
        assert (found.text.split("\n"), found.columns) == ([*texts[0], *texts[1]], 2)


def test_text_up_the_side_of_a_page_is_read_by_itself_behind_the_rest() -> None:
    stamp = "BT /L 10 Tf 0 1 -1 0 40 200 Tm (a stamp) Tj ET BT /L 10 Tf 0 1 -1 0 40 250 Tm (up the side) Tj ET\n"
    for drawn in (stamp + ACROSS, ACROSS + stamp):
        found = layer(pdf(drawn))
        assert found.text.split("\n") == [*LINES, "a stamp up the side"]
        assert found.skew_degrees == 0 and found.lines[-1] == len(LINES)
        last = found.boxes[-1] * (612, 792, 612, 792)
        assert last[0] > 20 and last[2] < 50 and last[3] - last[1] > last[2] - last[0]


@pytest.mark.parametrize("degrees", [44.9, 45, 45.1, 135, 225, -45, -135])
def test_words_on_the_slant_are_read_once(degrees: float) -> None:
    """What lies between two ways is read in one of them, and neither twice nor never."""
    found = layer(pdf(ACROSS + turned(["slanting words"], degrees)))
    assert sorted(found.words) == sorted([*" ".join(LINES).split(), "slanting", "words"])
    assert len(found.words) == len(found.boxes) == len(found.lines)
