"""Queries on the parser's tree: form parts, the element before a node, data tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate.html.names import word_set

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_DATA_CELL_WORDS = 25
_MAX_CONTROLS = 32
_FORM_WORDS = 50
_FORM_HOLDERS = word_set("form div section fieldset p span aside")


def find_form_parts(body: LexborNode) -> set[int]:
    """The outermost parts of few words around each form that one can write into: letters to order, searches, logins."""
    found = set()
    for control in _controls(body)[:_MAX_CONTROLS]:
        part, above = None, control.parent
        while above is not None and above.tag in _FORM_HOLDERS and len(above.text().split()) <= _FORM_WORDS:
            if above.css_first("h1, img, pre, table") is not None:
                break
            part, above = above, above.parent
        if part is not None:
            found.add(part.mem_id)
    return found


def _controls(body: LexborNode) -> list[LexborNode]:
    """Asked for by tag, which costs next to nothing; in document order only where there are too many."""
    found = [*body.parser.tags("input"), *body.parser.tags("textarea")]
    return body.css("input, textarea") if len(found) > _MAX_CONTROLS else found


def element_before(node: LexborNode | None) -> LexborNode | None:
    """The element, or the text, that stands right before a node, but for white space."""
    node = node.prev if node is not None else None
    while node is not None and node.is_text_node and not (node.text_content or "").strip():
        node = node.prev
    return node


def element_after(node: LexborNode | None) -> LexborNode | None:
    """The element, or the text, that stands right after a node, but for white space."""
    node = node.next if node is not None else None
    while node is not None and node.is_text_node and not (node.text_content or "").strip():
        node = node.next
    return node


_CODE = word_set("code kbd samp tt var x-code x-tt")


def is_in_code(node: LexborNode) -> bool:
    """Whether a node stands in inline code, or in one element of it."""
    around = node.parent
    upper = around.parent if around is not None else None
    return any(each is not None and each.tag in _CODE for each in (around, upper))


def noscript_around(node: LexborNode) -> LexborNode | None:
    """The `<noscript>` that a node stands in."""
    found: LexborNode | None = node
    while found is not None and found.tag != "noscript":
        found = found.parent
    return found


def is_site_header(header: LexborNode) -> bool:
    """Whether a `<header>` has no heading of its own: the name of a site is a link to it."""
    return all(heading.css_first("a[href], x-a[href]") for heading in header.css("h1, h2, h3, h4"))


def is_data_table(table: LexborNode) -> bool:
    """Whether a table holds data, and not the layout of a page."""
    if (table.attributes.get("role") or "").lower() in ("presentation", "none"):
        return False
    if any(part.css_first("table") is not None for part in table.iter()):
        return False
    rows, cells = len(table.css("tr")), len(table.css("td, th"))
    if rows < 2 or cells < 4 or 2 * cells < 3 * rows:
        return False
    return len(table.text().split()) <= _DATA_CELL_WORDS * cells
