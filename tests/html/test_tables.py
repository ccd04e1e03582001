"""Tables of HTML pages: every value under its own header."""

from __future__ import annotations

import pytest
from html_pages import STORY, page, shown

HEAD = "<tr><th>river<th>2019<th>2020</tr>"


def table(rows: str) -> list[str]:
    """The lines of a table, and images."""
    return [line for each in shown(page(f"{STORY}<table>{rows}</table>"))[1:] for line in each.split("\n")]


def test_empty_cells_stay_so_that_values_stand_under_their_year() -> None:
    rows = "<tr><td>Rhine<td><td>12</tr><tr><td>Elbe<td>&nbsp;<td>9</tr><tr><td><td>7<td></tr>"
    assert table(HEAD + rows) == ["river | 2019 | 2020", "Rhine |  | 12", "Elbe |  | 9", "| 7 |"]


def test_rows_of_signs_alone_are_rows() -> None:
    rows = "<tr><td>+<td>–<td>✓</tr><tr><td>–<td>–<td>?</tr>"
    assert table(HEAD + rows) == ["river | 2019 | 2020", "+ | – | ✓", "– | – | ?"]


def test_cells_that_span_rows_and_columns_move_no_value() -> None:
    rows = (
        "<thead><tr><th rowspan=2>river<th colspan=2>level<th>sum</tr><tr><th>2019<th>2020<th>all</tr></thead>"
        "<tbody><tr><td rowspan=2>Rhine<td>1<td>2<td>3</tr><tr><td>4<td>5<td>9</tr>"
        "<tr><td>Elbe<td colspan=2>none<td>0</tr></tbody>"
    )
    lines = ["river | level |  | sum", "| 2019 | 2020 | all", "Rhine | 1 | 2 | 3", "| 4 | 5 | 9", "Elbe | none |  | 0"]
    assert table(rows) == lines


@pytest.mark.parametrize("span", ["rowspan=0", "rowspan=99999999", "colspan=x", "colspan=-2", "rowspan="])
def test_spans_of_nonsense_and_across_parts_of_a_table_are_read_as_browsers_do(span: str) -> None:
    rows = (
        f"<thead><tr><th>a<th>b<th {span}>c</tr></thead><tbody><tr><td>1<td>2<td>3</tr><tr><td>4<td>5<td>6</tr></tbody>"
    )
    assert table(rows) == ["a | b | c", "1 | 2 | 3", "4 | 5 | 6"]


def test_cell_named_as_what_is_noise_elsewhere_keeps_its_value() -> None:
    rows = "<tr><td>Rhine<td class=rating>4.5<td class=share>12</tr><tr><td class=author>Elbe<td>1<td>2</tr>"
    assert table(HEAD + rows)[1:] == ["Rhine | 4.5 | 12", "Elbe | 1 | 2"]


def test_column_that_is_not_displayed_is_none() -> None:
    rows = "<tr><td>Rhine<td style='display:none'>id 7<td>1<td>2</tr><tr><td>Elbe<td hidden>id 8<td>3<td>4</tr>"
    assert table(HEAD + rows)[1:] == ["Rhine | 1 | 2", "Elbe | 3 | 4"]


def test_image_in_a_cell_breaks_no_row() -> None:
    rows = "<tr><td>Rhine<td><img src=up.png><td>12</tr><tr><td><img src=flag.png> Elbe<td>3<td>9</tr>"
    up, flag = "[https://example.org/a/up.png]", "[https://example.org/a/flag.png]"
    assert table(HEAD + rows)[1:] == ["Rhine |  | 12", up, flag, "Elbe | 3 | 9"]


def test_gallery_in_a_table_keeps_each_image_with_its_words() -> None:
    cells = "".join(f"<td><img src={n}.png><br>Boat {n}" for n in range(2))
    found = table(f"<tr>{cells}</tr><tr>{cells.replace('Boat', 'Ship')}</tr>")
    images = [f"[https://example.org/a/{n}.png]" for n in range(2)]
    assert found == [images[0], "Boat 0", images[1], "Boat 1", images[0], "Ship 0", images[1], "Ship 1"]
