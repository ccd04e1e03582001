"""Super- and subscripts stay on their line, in their word; lines that only look like them stay apart."""

from __future__ import annotations

import pytest
from pdfs import layer, line, lines, pdf

ABOVE, BELOW = "a line above it that is long enough", "and a line below it as long"


def polynomial(small: float, rise: float) -> str:
    """x5 + 3x4 - 2x3 y = 0 in 10 points, the digits smaller and raised (the last one lowered)."""
    up, down = f"/L {small} Tf {rise} Ts", f"/L {small} Tf {-rise / 2} Ts"
    back = "/L 10 Tf 0 Ts"
    shown = f"(x) Tj {up} (5) Tj {back} ( + 3x) Tj {up} (4) Tj {back} ( - 2x) Tj {down} (3) Tj {back} ( y = 0) Tj"
    return f"BT /L 10 Tf 72 700 Td {shown} ET\n"


def set_apart(*parts: tuple[str, float, float, float]) -> str:
    """Texts at their places and in their sizes, each drawn by itself, as TeX does."""
    return "".join(line(*part) for part in parts)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize(
    ("small", "rise"), [(7, 4), (7, 3), (7, 2), (6, 5), (5, 6), (7, 6), (8, 4), (9.5, 3), (10, 4), (7, -3)]
)
def test_formula_with_raised_digits_is_one_line(small: float, rise: float, rotation: int) -> None:
    drawn = line(ABOVE, 72, 714) + polynomial(small, rise) + line(BELOW, 72, 686)
    found = layer(pdf(drawn, page=f"/Rotate {rotation}"))
    assert found.text.split("\n") == [ABOVE, "x5 + 3x4 - 2x3 y = 0", BELOW]
    assert found.words[found.words.index("x5") :][:5] == ["x5", "+", "3x4", "-", "2x3"]
    assert len(found.words) == len(found.boxes) == len(found.lines)


def test_box_of_a_word_with_a_script_holds_both() -> None:
    found = layer(pdf(set_apart(("x", 72, 700, 10), ("5", 77, 704, 7), ("+", 84, 700, 10))))
    assert found.words == ["x5", "+"]
    box = found.boxes[0] * (612, 792, 612, 792)
    assert box[0] == pytest.approx(72, abs=0.5) and box[2] > 80 and box[3] - box[1] > 10


def test_marks_of_footnotes_and_chemical_formulas_stay_in_their_lines() -> None:
    drawn = set_apart(
        ("H", 72, 700, 10), ("2", 79.2, 697, 7), ("O is water.", 83.1, 700, 10), ("1", 130.9, 704, 6),
        ("So it is.", 137.5, 700, 10), ("The next line", 72, 688, 10),
    )  # fmt: skip
    assert layer(pdf(drawn)).text == "H2O is water.1 So it is.\nThe next line"


def test_script_above_a_script_is_on_the_line_and_a_word_of_its_own() -> None:
    drawn = set_apart(
        ("x", 72, 700, 10), ("2", 77, 704, 7), ("i", 77, 697, 7), ("+ y", 84, 700, 10), ("next", 72, 688, 10)
    )
    assert layer(pdf(drawn)).text == "x2 i + y\nnext"


def test_power_of_a_power_comes_back_to_its_line() -> None:
    drawn = set_apart(("e", 72, 700, 10), ("x", 77.6, 704, 7), ("2", 81.1, 707, 5), ("is large", 87, 700, 10))
    assert layer(pdf(drawn + line("below", 72, 686))).text == "ex2 is large\nbelow"


def test_lines_close_to_each_other_stay_apart() -> None:
    """Neither small lines below large ones, nor cells side by side that stand a little higher, become one line."""
    small = line("A Title", 72, 700, 16) + lines(["of a small line below", "and another one"], 72, 688, 8)
    assert layer(pdf(small)).text == "A Title\nof a small line below\nand another one"
    beside = set_apart(("left cell", 72, 700, 10), ("right cell", 140, 704, 7), ("left again", 72, 686, 10))
    assert layer(pdf(beside)).text.split("\n")[-1] == "left again"
    tight = lines(["one line of words", "two lines of words", "three lines"], 72, 700, 10).replace("676", "682")
    assert len(layer(pdf(tight)).text.split("\n")) == 3


def test_word_that_a_line_breaks_is_still_made_whole() -> None:
    assert layer(pdf(lines(["an exam-", "ple of x"], 72, 700))).text == "an example\nof x"
