"""Walk a page's tree once in document order: its pieces, without what is named as noise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from curate.document.segments import Block
from curate.html import images, names, places
from curate.html.blocks import Container, FoundBlocks, HtmlPiece, count_words
from curate.html.cells import CellPlaces
from curate.html.figures import Figure
from curate.html.formulas import image_formula, is_formula_alone, is_written_after, written_formula
from curate.html.guard import HtmlLimits
from curate.html.names import word_set
from curate.html.nodes import find_form_parts, is_data_table, is_in_code, is_site_header
from curate.html.run import BREAK, CELL, PICTURE, TextRun, one_line, plain_lines, row_cells

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_HOLDERS = word_set(
    "div section article main ul ol dl table td th center form fieldset details figure blockquote header"
    " aside body hgroup summary menu dir li"
)
"""Blocks that hold blocks: each is a container."""

_LINES = word_set("p h1 h2 h3 h4 h5 h6 pre dt dd tr hr caption thead tbody tfoot listing figcaption")
_BLOCKS = _HOLDERS | _LINES
_ATOMS = places.TAGS | {"br", "x-math"}
"""Elements that are no text and hold none of the page's."""

_NEVER_NOISE = word_set("main article html table tr tbody")
_HEADINGS = word_set("h1 h2 h3 h4 h5 h6")
_KINDS: dict[str, Block] = {
    "pre": "code",
    "listing": "code",
    "blockquote": "quote",
    "dt": "list",
    **dict.fromkeys(_HEADINGS, "heading"),
}
_CELLS, _ROW_GROUPS = word_set("td th"), word_set("thead tbody tfoot")
_ANCHOR_MARKS = ("¶", "#", "§", "🔗", "⚓", "↩", "↩︎")
_FOOTNOTE = re.compile(r"[\[(]?(?:\d{1,4}|[a-z]|[*†‡§^]+)[\])]?")
_FEW_WORDS = 5
_HOLDS_LITTLE = 8  # so many times its words, and they are fewer than the page's
_LINE_WORDS = 60


class _Context(NamedTuple):
    """What holds for the text at a point of the tree; leaving an element brings the one before it back.

    The container, which most blocks change, and whether it is a link are kept apart: a copy costs more than they do.
    """

    kind: Block = "paragraph"
    group: int = -1
    level: int = 0
    numbered: bool = False
    cells: CellPlaces | None = None
    """In a data table."""
    stays: bool = False
    in_main: bool = False
    unscripted: bool = False
    caption: bool = False
    figure: Figure | None = None
    aside: int = 0


class Walker:
    """One page's walk; `page` and `base` are what links are relative to."""

    def __init__(self, page: str | None, base: str | None, limits: HtmlLimits, scripted: bool = True) -> None:
        self.page, self.base, self.limits, self.scripted = page, base, limits, scripted
        self.found = FoundBlocks()
        self.places = places.ImagePlaces(self._resolve, self.found.images)
        self.now = _Context()
        self.inside = -1
        self.linked = False
        self.text = TextRun()
        self.pictures: list[HtmlPiece] = []
        """Of the table's row that is being read."""
        self.marker = ""
        self.groups = 0
        self.numbers: dict[int, int] = {}
        self.body_words = 0
        self.body: LexborNode | None = None
        self.forms: set[int] = set()
        self.has_formulas = False

    def walk(self, body: LexborNode) -> FoundBlocks:
        """Everything below `body`. No recursion: a page decides how deep it is."""
        self.body, self.forms = body, find_form_parts(body)
        self.has_formulas = bool(body.parser.tags("x-math"))
        above: list[tuple[LexborNode, str, _Context, int, bool]] = []
        node: LexborNode | None = body
        while node is not None or above:
            if node is None:
                node, tag, before, inside, self.linked = above.pop()
                if self.now is not before or tag in _BLOCKS:
                    self._leave(tag, before)
                    self.inside = inside
                node = node.next if above else None
                continue
            tag = node.tag or "-"  # a processing instruction has none
            if tag == "-text":
                text = node.text_content or ""
                if self.text.parts or not text.isspace() or self.now.kind == "code":
                    self._add_string(text)
            elif tag[0] not in "-!":
                now, inside, linked = self.now, self.inside, self.linked
                inner = self._enter(node, tag)
                if inner is not None:
                    above.append((node, tag, now, inside, linked))
                    self.now = inner
                    node = node.child
                    continue
            node = node.next if above else None
        return self.found

    def _add_string(self, text: str) -> None:
        if self.now.unscripted and self.scripted:
            self.found.words_unscripted += len(text.split())
            return
        if self.linked and text.strip() in _ANCHOR_MARKS:
            return
        self.text.add(text, self.linked)

    def _enter(self, node: LexborNode, tag: str) -> _Context | None:
        """The context inside of an element; None where it is left out, or has no inside."""
        if tag in _ATOMS:
            return self._add_atom(node, tag)
        if tag in names.SKIPPED or (self.forms and node.mem_id in self.forms):
            self._leave_out(node)
            return None
        attributes = node.attributes
        if not attributes and tag not in _BLOCKS and tag not in ("noscript", "button"):
            return self.now
        named = names.classify_element(tag, attributes)
        if named.formula and self._formula(node, attributes):
            return None
        aside: int | None = self.now.aside
        if attributes and (named.noise or named.aside or not names.HIDES.isdisjoint(attributes)):
            aside = self._aside(node, tag, attributes, named)
        if aside is None or (tag == "button" and self.now.kind != "heading"):
            self._leave_out(node)
            return None
        if tag in _BLOCKS:
            inner = self._block(node, tag, attributes, named)
            return inner._replace(aside=aside) if inner is not None and aside not in (0, inner.aside) else inner
        if tag in ("a", "x-a") and (target := attributes.get("href")):
            return self._link(node, target)
        if tag == "noscript":
            return self.now._replace(unscripted=True)
        return self._caption() if named.caption and self.now.cells is None else self.now

    def _add_atom(self, node: LexborNode, tag: str) -> _Context | None:
        if tag == "br":
            self.text.part("\n" if self.now.kind == "code" else BREAK)
        elif tag == "x-math":
            self._add_formula(node.text())
        else:
            self._image(node)
            return self.now if tag != "img" else None
        return None

    def _link(self, node: LexborNode, target: str) -> _Context | None:
        """Links in code and of a heading to itself have no linked words; those to footnotes have no place to go."""
        if self.now.kind == "code" or is_in_code(node):
            return self.now
        leads_away = True
        if target[0] == "#":
            text = node.text().strip()
            if text in _ANCHOR_MARKS:
                return None
            if self.now.kind == "heading":
                self.text.anchors += 1
                return self.now
            leads_away = not _FOOTNOTE.fullmatch(text)
        self.text.open_link(leads_away)
        self.linked = True
        return self.now

    def _add_formula(self, text: str) -> None:
        self.found.formulas += 1
        self._add_string(f" {text} " if text.startswith("$$") else text)

    def _formula(self, node: LexborNode, attributes: names.Attributes) -> bool:
        """One formula written several times, once; False where none of them can be read."""
        if not is_written_after(node, attributes):
            text = written_formula(node, attributes)
            if not text:
                return False
            self._add_formula(text)
        self.found.images["formula"] += len(node.css("img"))
        return True

    def _leave_out(self, node: LexborNode) -> None:
        self.found.words_left_out += count_words(node.text(separator=" "))

    def _aside(self, node: LexborNode, tag: str, attributes: names.Attributes, named: names.NamedAs) -> int | None:
        """What the element is beside the text, with all around it; None for what is left out unread."""
        if tag == "body":
            return self.now.aside
        is_data = tag in _NEVER_NOISE or (self.now.cells is not None and tag in _CELLS)
        aside, noise = (named.aside, named.noise) if not is_data else (0, False)
        hidden = names.is_hidden(attributes)
        if not (aside or noise or hidden) or (self.has_formulas and tag not in _BLOCKS and is_formula_alone(node)):
            return self.now.aside
        text = node.text()
        if self._is_most(node, len(text.split()), hidden):
            return self.now.aside
        if noise or tag not in _BLOCKS or (aside != names.COMMENT and count_words(text) < names.SHORT_ASIDE):
            return None
        return self.now.aside | aside | (names.HIDDEN if hidden else 0)

    def _is_most(self, node: LexborNode, words: int, hidden: bool) -> bool:
        """A name such as `page-with-sidebar` on what holds the page says nothing; what is hidden waits for a script."""
        assert self.body is not None
        self.body_words = self.body_words or len(self.body.text().split())
        if _HOLDS_LITTLE * words < self.body_words:
            return False
        if not hidden and node.css_first("main, article, [role=main]") is not None:
            return True
        linked = sum(len(each.text().split()) for each in node.css("a, x-a"))
        return 2 * (words - linked) > self.body_words

    def _block(self, node: LexborNode, tag: str, attributes: names.Attributes, named: names.NamedAs) -> _Context | None:
        now = self.now
        if now.caption or (now.cells is not None and tag not in ("tr", "table")):
            self._begin_cell(tag, attributes)
            return now
        if self.text.parts:
            self._flush()
        if now.cells is not None and tag == "tr":
            now.cells.begin_row()
        if tag == "header" and not now.in_main and is_site_header(node):
            self._leave_out(node)
            return None
        if named.caption or (named.title and now.figure is not None):
            return self._caption()
        changes = self._changes(node, tag, named)
        return now._replace(**changes) if changes else now

    def _changes(self, node: LexborNode, tag: str, named: names.NamedAs) -> dict[str, Any]:
        """What a block changes of what holds for the text in it."""
        now = self.now
        changes = self._open_container(tag, named) if tag in _HOLDERS else {}
        if tag in _KINDS and not (tag == "dt" and now.group >= 0):
            changes["kind"] = _KINDS[tag]
        if tag in ("ul", "ol"):
            changes |= self._list(tag)
        elif tag == "li":
            changes |= self._item()
        elif tag == "table" and is_data_table(node):
            self.groups += 1
            changes |= {"kind": "table", "group": self.groups, "cells": CellPlaces()}
        elif tag == "dd":
            changes["stays"] = True
        return changes

    def _begin_cell(self, tag: str, attributes: names.Attributes) -> None:
        """Blocks within captions and cells are no blocks, but cells have a place."""
        cells = self.now.cells if not self.now.caption else None
        self.text.part(CELL * cells.begin_cell(attributes) if cells is not None and tag in _CELLS else " ")
        if cells is not None and tag in _ROW_GROUPS:
            cells.begin_rows()

    def _open_container(self, tag: str, named: names.NamedAs) -> dict[str, Any]:
        now, containers = self.now, self.found.containers
        containers.append(Container(self.inside, named.kind, named.main))
        self.inside = len(containers) - 1
        changes: dict[str, Any] = {}
        if named.main and not now.in_main:
            changes["in_main"] = True
        if named.figure and (now.figure is None or tag == "figure"):
            changes["figure"] = Figure()
        return changes

    def _list(self, tag: str) -> dict[str, Any]:
        self.groups += 1
        self.numbers[self.inside] = 0
        now = self.now
        group = now.group if now.level else self.groups
        return {"kind": "list", "group": group, "level": now.level + 1, "numbered": tag == "ol"}

    def _item(self) -> dict[str, Any]:
        now = self.now
        holder = self.found.containers[self.inside].parent
        self.numbers[holder] = number = self.numbers.get(holder, 0) + 1
        self.marker = f"{number}. " if now.numbered else "- "
        return {} if now.level else {"kind": "list", "level": 1}

    def _caption(self) -> _Context:
        self._flush()
        return self.now._replace(caption=True, kind="paragraph")

    def _leave(self, tag: str, before: _Context) -> None:
        now = self.now
        if now.caption and not before.caption:
            self._close_caption()
        if tag in _BLOCKS and not now.caption:
            if now.cells is None or tag in ("tr", "table"):
                if self.text.parts:
                    self._flush(tag)
            else:
                self.text.part(CELL if tag in _CELLS else " ")
        self.now = before
        if now.figure is not None and now.figure is not before.figure:
            now.figure.close(self.found.pieces)

    def _close_caption(self) -> None:
        text = plain_lines(self.text.take()[0])
        pieces, figure = self.found.pieces, self.now.figure
        if not text:
            return
        if figure is not None:
            piece = HtmlPiece(self.inside, "paragraph", text, count_words(text), aside=self.now.aside)
            figure.captions.append((len(figure.pictures), len(pieces), piece))
        elif pieces and pieces[-1].url and pieces[-1].caption is None:
            pieces[-1].caption = text
        else:
            self._add(text, "paragraph", count_words(text))

    def _image(self, node: LexborNode) -> None:
        attributes = node.attributes
        formula = image_formula(attributes) if not names.is_hidden(attributes) else ""
        if formula:
            self._add_formula(formula)
            self.found.images["formula"] += 1
            return
        new = HtmlPiece(self.inside, aside=self.now.aside)
        if self.places.add(node, attributes, self.now.unscripted, new) is None:
            return
        if self.now.cells is not None:
            self.text.part(PICTURE)
            self.pictures.append(new)
        else:
            if not self.now.caption:
                self._flush()
            self.found.pieces.append(new)
        if self.now.figure is not None:
            self.now.figure.pictures.append(new)

    def _resolve(self, link: str) -> str | None:
        return images.resolve_link(link, self.page, self.base, self.limits.max_data_url_chars)

    def _flush(self, tag: str = "") -> None:
        if not self.text.parts:
            return
        text, linked, anchors = self.text.take()
        kind = self.now.kind
        if kind == "table":
            self._add_row(row_cells(text), linked, anchors, tag)
            return
        text = text.strip("\n").rstrip() if kind == "code" else plain_lines(text)
        if text:
            self._add(text, kind, count_words(text), linked, anchors, tag)

    def _add_row(self, cells: list[str], linked: int, anchors: int, tag: str) -> None:
        """A table's row, the images in it before or behind; where every cell has an image, cell by cell."""
        pieces, pictures = self.found.pieces, self.pictures
        lines = [one_line(cell) if cell else "" for cell in cells]
        said = [line for line in lines if line]
        words = count_words(" | ".join(said))
        if (
            pictures
            and (len(said) > 1 or len(cells) == 1)
            and all(PICTURE in cell for cell, line in zip(cells, lines, strict=True) if line)
        ):
            for cell in cells:
                for at, line in enumerate(map(one_line, cell.split(PICTURE))):
                    pieces += [pictures.pop(0)] if at and pictures else []
                    if line:
                        count = count_words(line)
                        self._add(line, "table", count, linked * count // words, anchors, tag)
        elif said:
            if pictures and not one_line("".join(cells).partition(PICTURE)[0]):
                pieces += pictures
                pictures.clear()
            self._add(" | ".join(lines).strip(), "table", words, linked, anchors, tag)
        pieces += pictures
        pictures.clear()

    def _add(self, text: str, kind: Block, words: int, linked: int = 0, anchors: int = 0, tag: str = "") -> None:
        if anchors and words <= _LINE_WORDS:  # `Home | News | Mail` is three words
            words -= len([1 for word in text.split() if not (word[0].isalnum() or any(map(str.isalnum, word)))])
        is_data = kind in ("code", "table") or self.now.stays
        if words <= _FEW_WORDS and not is_data and not any(map(str.isalnum, text)):
            return
        now = self.now
        if kind == "list" and now.level:
            indent = "  " * (now.level - 1)
            text = indent + (self.marker or "  ") + text.replace("\n", f"\n{indent}  ")
            self.marker = ""
        linked = min(linked, words)
        piece = HtmlPiece(
            self.inside, kind, text, words, linked, anchors, now.group, tag, aside=now.aside, stays=now.stays
        )
        self.found.pieces.append(piece)
