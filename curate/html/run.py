"""Gather the text of the next block, and count its linked words."""

from __future__ import annotations

from curate.html.blocks import count_words

BREAK, CELL, PICTURE = "\0", "\1", "\2"
"""A line's end, a table cell's end, and an image's place in a table's row."""


class TextRun:
    """The strings between two ends of a block, in order."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.links: list[str] = []
        """What is linked, with a space wherever words between two links part them."""
        self.anchors = 0
        """How many links lead away from the text."""
        self.ends_linked = False

    def add(self, text: str, linked: bool) -> None:
        """Add the text of one node."""
        self.parts.append(text)
        self.ends_linked = linked
        if linked:
            self.links.append(text)
        elif self.links and (text[:1].isspace() or text[-1:].isspace() or len(text.split(None, 1)) > 1):
            self.links.append(" ")

    def part(self, mark: str) -> None:
        """Add a mark, or a space, that no word spans."""
        self.parts.append(mark)
        self.ends_linked = False
        if self.links:
            self.links.append(" ")

    def open_link(self, leads_away: bool) -> None:
        """Begin a link; buttons side by side are parted by their style alone."""
        if self.ends_linked:
            self.part(" ")
        self.anchors += leads_away

    def take(self) -> tuple[str, int, int]:
        """Take all of it: the text, its linked words, and how many links there are."""
        found = "".join(self.parts), count_words("".join(self.links)) if self.links else 0, self.anchors
        self.parts.clear()
        self.links.clear()
        self.anchors, self.ends_linked = 0, False
        return found


def one_line(text: str) -> str:
    """Text in one line, single spaces between words."""
    return " ".join(text.replace(BREAK, " ").replace(PICTURE, " ").split())


def plain_lines(text: str) -> str:
    """Text in the lines that `<br>` makes."""
    if BREAK not in text and CELL not in text:
        return " ".join(text.split())
    lines = (" ".join(line.split()) for line in text.replace(CELL, " ").split(BREAK))
    return "\n".join(line for line in lines if line)


def row_cells(text: str) -> list[str]:
    """The cells of a table's row, empty ones too; a caption is one cell."""
    cells = text.split(CELL)
    return cells[:-1] if len(cells) > 1 and not one_line(cells[-1]) else cells
