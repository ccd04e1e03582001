"""Place the cells of a data table's rows: each under its own header, whatever spans rows and columns before it."""

from __future__ import annotations

from curate.html.names import Attributes

_MAX_COLUMNS = 64
"""Beyond it spans are not followed: a page decides how wide they are."""


class CellPlaces:
    """The columns of one table; row by row, cell by cell."""

    def __init__(self) -> None:
        self.covered: dict[int, int] = {}
        """Of each column, the row down to which a cell from above covers it."""
        self.row = self.given = self.column = 0

    def begin_rows(self) -> None:
        """Begin a head, body or foot of the table: no cell reaches into it from another."""
        self.covered.clear()

    def begin_row(self) -> None:
        """Begin a row."""
        self.row += 1
        self.given = self.column = 0

    def begin_cell(self, attributes: Attributes) -> int:
        """Begin a cell; how many empty ones stand before it, for what spans its row or the columns before it."""
        while self.covered.get(self.column, 0) >= self.row:
            self.column += 1
        before = max(0, self.column - self.given)
        width = _span(attributes.get("colspan"), _MAX_COLUMNS - self.column) if "colspan" in attributes else 1
        if "rowspan" in attributes:
            down = self.row - 1 + _span(attributes["rowspan"] or "1", 1 << 16)
            self.covered |= dict.fromkeys(range(self.column, min(self.column + width, _MAX_COLUMNS)), down)
        self.given = self.column + 1
        self.column += width
        return before


def _span(value: str | None, most: int) -> int:
    """A span as HTML reads it: 0 is all there is; what is no number is 1."""
    number = (value or "").strip()[:6]
    if not number.isascii() or not number.isdigit():
        return 1
    return max(1, min(int(number) or most, most))
