"""Walk a page's tree once in document order: its pieces, without what is named as noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from curate.document.segments import Block
from curate.html import images, names
from curate.html.blocks import Container, FoundBlocks, HtmlPiece, count_words
from curate.html.guard import HtmlLimits
from curate.html.names import word_set
from curate.html.nodes import element_before, find_form_parts, is_data_table, noscript_around

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_HOLDERS = word_set(
    "div section article main ul ol dl table td th center form fieldset details figure blockquote header"
    " aside body hgroup summary menu dir li"
)
"""Blocks that hold blocks: each is a container."""

_LINES = word_set("p h1 h2 h3 h4 h5 h6 pre dt dd tr hr caption thead tbody tfoot listing figcaption")
_BLOCKS = _HOLDERS | _LINES
_NEVER_NOISE = word_set("main article html table tr tbody")
_HEADINGS = word_set("h1 h2 h3 h4 h5 h6")
_KINDS: dict[str, Block] = {
    "pre": "code",
    "listing": "code",
    "blockquote": "quote",
    "dt": "list",
    **dict.fromkeys(_HEADINGS, "heading"),
}
_BREAK, _CELL = "\0", "\1"
_ANCHOR_MARKS = ("¶", "#", "§", "🔗")
_FEW_WORDS = 5
_HOLDS_LITTLE = 8  # so many times its words, and they are fewer than the page's
_LINE_WORDS = 60


@dataclass
class _Figure:
    pictures: list[HtmlPiece] = field(default_factory=list)
    captions: list[tuple[int, int, HtmlPiece]] = field(default_factory=list)
    """Each with the number of pictures before it, and its place among the page's pieces, should there be no picture."""


class _Context(NamedTuple):
    """What holds for the text at a point of the tree; leaving an element brings the one before it back.

    The container, which most blocks change, and whether it is a link are kept apart: a copy costs more than they do.
    """

    kind: Block = "paragraph"
    group: int = -1
    level: int = 0
    numbered: bool = False
    in_table: bool = False
    in_main: bool = False
    unscripted: bool = False
    caption: bool = False
    figure: _Figure | None = None
    aside: int = 0


class Walker:
    """One page's walk; `page` and `base` are what links are relative to."""

    def __init__(self, page: str | None, base: str | None, limits: HtmlLimits, scripted: bool = True) -> None:
        self.page, self.base, self.limits, self.scripted = page, base, limits, scripted
        self.found = FoundBlocks()
        self.now = _Context()
        self.inside = -1
        self.linked = False
        self.text: list[str] = []
        self.links: list[str] = []
        self.anchors = 0
        self.marker = ""
        self.groups = 0
        self.numbers: dict[int, int] = {}
        self.body_words = 0
        self.body: LexborNode | None = None
        self.forms: set[int] = set()

    def walk(self, body: LexborNode) -> FoundBlocks:
        """Everything below `body`. No recursion: a page decides how deep it is."""
        self.body, self.forms = body, find_form_parts(body)
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
                if self.text or not text.isspace() or self.now.kind == "code":
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
        self.text.append(text)
        if self.linked:
            self.links.append(text)

    def _enter(self, node: LexborNode, tag: str) -> _Context | None:
        """The context inside of an element; None where it is left out, or has no inside."""
        if tag == "img":
            self._image(node)
            return None
        if tag == "br":
            self.text.append("\n" if self.now.kind == "code" else _BREAK)
            return None
        if tag in names.SKIPPED or (self.forms and node.mem_id in self.forms):
            self._leave_out(node)
            return None
        attributes = node.attributes
        if not attributes and tag not in _BLOCKS and tag not in ("noscript", "button"):
            return self.now
        named = names.classify_element(tag, attributes)
        aside: int | None = self.now.aside
        if attributes and (named.noise or named.aside or not names.HIDES.isdisjoint(attributes)):
            aside = self._aside(node, tag, attributes, named)
        if aside is None or (tag == "button" and self.now.kind != "heading"):
            self._leave_out(node)
            return None
        if tag in _BLOCKS:
            inner = self._block(node, tag, named)
            return inner._replace(aside=aside) if inner is not None and aside not in (0, inner.aside) else inner
        if tag in ("a", "x-a") and attributes.get("href"):
            return self._link()
        if tag == "noscript":
            return self.now._replace(unscripted=True)
        return self._caption() if named.caption else self.now

    def _link(self) -> _Context:
        if self.links and self.text[-1] is self.links[-1]:  # buttons side by side, parted by their style alone
            self.text.append(" ")
        self.anchors += 1
        self.linked = True
        return self.now

    def _leave_out(self, node: LexborNode) -> None:
        self.found.words_left_out += count_words(node.text(separator=" "))

    def _aside(self, node: LexborNode, tag: str, attributes: names.Attributes, named: names.NamedAs) -> int | None:
        """What the element is beside the text, with all around it; None for what is left out unread."""
        if tag == "body":
            return self.now.aside
        aside, noise = (named.aside, named.noise) if tag not in _NEVER_NOISE else (0, False)
        hidden = names.is_hidden(attributes)
        if not (aside or noise or hidden):
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

    def _block(self, node: LexborNode, tag: str, named: names.NamedAs) -> _Context | None:
        if self.now.caption or (self.now.in_table and tag not in ("tr", "table")):
            self.text.append(" ")
            return self.now
        if self.text:
            self._flush()
        now = self.now
        if tag == "header" and not now.in_main and self._is_site_header(node):
            self._leave_out(node)
            return None
        if named.caption or (named.title and now.figure is not None):
            return self._caption()
        changes = self._open_container(tag, named) if tag in _HOLDERS else {}
        if tag in _KINDS and not (tag == "dt" and now.group >= 0):
            changes["kind"] = _KINDS[tag]
        if tag in ("ul", "ol"):
            changes |= self._list(tag)
        elif tag == "li":
            changes |= self._item()
        elif tag == "table" and is_data_table(node):
            self.groups += 1
            changes |= {"kind": "table", "group": self.groups, "in_table": True}
        return now._replace(**changes) if changes else now

    def _is_site_header(self, node: LexborNode) -> bool:
        """One without a heading of its own: the name of a site is a link to it."""
        return all(heading.css_first("a[href], x-a[href]") for heading in node.css("h1, h2, h3, h4"))

    def _open_container(self, tag: str, named: names.NamedAs) -> dict[str, Any]:
        now, containers = self.now, self.found.containers
        containers.append(Container(self.inside, named.kind, named.main))
        self.inside = len(containers) - 1
        changes: dict[str, Any] = {}
        if named.main and not now.in_main:
            changes["in_main"] = True
        if named.figure and (now.figure is None or tag == "figure"):
            changes["figure"] = _Figure()
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
            if now.in_table and tag in ("td", "th"):
                self.text.append(_CELL)
            elif not now.in_table or tag in ("tr", "table"):
                if self.text:
                    self._flush(tag)
            else:
                self.text.append(" ")
        self.now = before
        if now.figure is not None and now.figure is not before.figure:
            self._close(now.figure)

    def _close_caption(self) -> None:
        text = _plain(self._take_text())
        pieces, figure = self.found.pieces, self.now.figure
        if not text:
            return
        if figure is not None:
            piece = HtmlPiece(self.inside, "paragraph", text, count_words(text), aside=self.now.aside)
            figure.captions.append((len(figure.pictures), len(pieces), piece))
        elif pieces and pieces[-1].url and pieces[-1].caption is None:
            pieces[-1].caption = text
        else:
            self._add(text, "paragraph")

    def _close(self, figure: _Figure) -> None:
        """A figure's captions to its images: one alone to the first image, of several each to the image before it."""
        if not figure.pictures:
            for _, place, piece in reversed(figure.captions):
                self.found.pieces.insert(place, piece)
            return
        for after, _, piece in figure.captions:
            picture = figure.pictures[after - 1 if after and len(figure.captions) > 1 else 0]
            picture.caption = f"{picture.caption}\n{piece.text}" if picture.caption else piece.text

    def _image(self, node: LexborNode) -> None:
        attributes, around = node.attributes, node.parent
        if names.is_hidden(attributes) or images.is_tiny(attributes):
            return
        sources = []
        if around is not None and around.tag == "picture":
            sources = [each.attributes for each in around.css("source")[:16]]
        link = images.image_source(attributes, sources)
        if link is None or images.is_stand_in(link):
            return
        url = images.resolve_link(link, self.page, self.base, self.limits.max_data_url_chars)
        if url is None:
            self.found.images_left_out += 1
            return
        if not self.now.caption:
            self._flush()
        if not self._is_fallback(node, url):
            alt = " ".join((attributes.get("alt") or "").split()) or None
            piece = HtmlPiece(self.inside, url=url, alt=alt, aside=self.now.aside)
            self.found.pieces.append(piece)
            if self.now.figure is not None:
                self.now.figure.pictures.append(piece)

    def _is_fallback(self, node: LexborNode, url: str) -> bool:
        """Whether the image before is the same: one of both stands in `<noscript>`."""
        last = self.found.pieces[-1] if self.found.pieces else None
        if last is None or not last.url:
            return False
        if self.now.unscripted:
            before = element_before(noscript_around(node))
            return last.url == url or (before is not None and before.tag in ("img", "picture"))
        before = element_before(node)
        return before is not None and before.tag == "noscript"

    def _take_text(self) -> str:
        text = "".join(self.text)
        self.text.clear()
        self.links.clear()
        self.anchors = 0
        return text

    def _flush(self, tag: str = "") -> None:
        if not self.text:
            return
        linked, anchors = count_words(" ".join(self.links)) if self.links else 0, self.anchors
        text, kind = self._take_text(), self.now.kind
        if kind == "code":
            text = text.strip("\n").rstrip()
        elif kind == "table":
            text = " | ".join(cell for cell in map(_line, text.split(_CELL)) if cell)
        else:
            text = _plain(text)
        if text:
            self._add(text, kind, linked, anchors, tag)

    def _add(self, text: str, kind: Block, linked: int = 0, anchors: int = 0, tag: str = "") -> None:
        words = count_words(text)
        if anchors and words <= _LINE_WORDS:  # `Home | News | Mail` is three words
            words -= len([1 for word in text.split() if not (word[0].isalnum() or any(map(str.isalnum, word)))])
        if words <= _FEW_WORDS and kind != "code" and not any(map(str.isalnum, text)):
            return
        now = self.now
        if kind == "list" and now.level:
            indent = "  " * (now.level - 1)
            text = indent + (self.marker or "  ") + text.replace("\n", f"\n{indent}  ")
            self.marker = ""
        piece = HtmlPiece(self.inside, kind, text, words, linked, anchors, now.group, tag, aside=now.aside)
        self.found.pieces.append(piece)


def _line(text: str) -> str:
    return " ".join(text.replace(_BREAK, " ").split())


def _plain(text: str) -> str:
    if _BREAK not in text and _CELL not in text:
        return " ".join(text.split())
    lines = (" ".join(line.split()) for line in text.replace(_CELL, " ").split(_BREAK))
    return "\n".join(line for line in lines if line)
