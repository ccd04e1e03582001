"""Parse a page: its title, its text and images in reading order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from curate.document.segments import Segment, image_segment, text_segment
from curate.extras import require
from curate.html.blocks import FoundBlocks, HtmlPiece
from curate.html.decode import Evidence
from curate.html.guard import HtmlLimits, PageError, clean_html
from curate.html.places import TAGS
from curate.html.select import select_main_pieces
from curate.html.walk import Walker

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser

_COMPARED_TITLE_CHARS = 1000
_UNSCRIPTED = 4
"""A page with so many times its words in `<noscript>` shows nothing else before its scripts have run."""

_DEFAULT_LIMITS = HtmlLimits()


@dataclass(frozen=True)
class HtmlPage:
    """The result of `parse`. `words` are those of the text kept, `all_words` those of the whole page, menus and all.

    `images_left_out` counts images whose tag names no file: a link that leads nowhere (out of the folder, no address),
    or a stand-in alone; `images_not_shown` hidden ones and those as small as a counter; `images_beside` those in what
    is not the page's own text. A second tag for one picture is none. `drawings` are inline `<svg>`, which are no files,
    `formulas` those read as TeX or in a line. `encoding` is WHATWG's name, `evidence` what spoke for it, `undecodable`
    the places whose bytes are no character of it (`DecodedPage`).
    """

    title: str | None
    language: str | None
    encoding: str
    evidence: Evidence
    undecodable: int
    segments: list[Segment]
    words: int
    all_words: int
    images: int
    images_left_out: int
    images_not_shown: int
    images_beside: int
    drawings: int
    formulas: int


@dataclass(frozen=True)
class WalkedPage:
    """A page before it is decided what it is about."""

    title: str | None
    language: str | None
    encoding: str
    evidence: Evidence
    undecodable: int
    drawings: int
    found: FoundBlocks
    image_tags: int


def parse(
    data: bytes, url: str | None = None, content_type: str | None = None, limits: HtmlLimits = _DEFAULT_LIMITS
) -> HtmlPage:
    """Parse the page in `data`. `url` is its address, or its path in a folder: links are then paths in that folder.

    `content_type` is HTTP's header, or an encoding's name. Raises PageError: empty_page (no text and no image),
    not_html, refused_encoding, page_too_large, too_many_tags, too_many_attributes. Time and memory are linear in the
    bytes.
    """
    page = walk_page(data, url, content_type, limits)
    found = page.found
    kept = select_main_pieces(found.containers, found.pieces, (page.title or "")[:_COMPARED_TITLE_CHARS])
    if not kept:
        raise PageError("empty_page", "neither text nor image in it")
    words = sum(piece.words for piece in kept)
    images, outcomes = sum(1 for piece in kept if piece.url), found.images
    return HtmlPage(
        title=page.title,
        language=page.language,
        encoding=page.encoding,
        evidence=page.evidence,
        undecodable=page.undecodable,
        segments=_segments(kept),
        words=words,
        all_words=found.words_left_out + sum(piece.words for piece in found.pieces),
        images=images,
        images_left_out=outcomes["no_file"],
        images_not_shown=outcomes["not_shown"],
        images_beside=page.image_tags - outcomes.total() + outcomes["kept"] - images,
        drawings=page.drawings,
        formulas=found.formulas,
    )


def walk_page(
    data: bytes, url: str | None = None, content_type: str | None = None, limits: HtmlLimits = _DEFAULT_LIMITS
) -> WalkedPage:
    """Walk a page without selecting its main part; arguments and errors as for `parse`."""
    require("an HTML page", "selectolax")
    from selectolax.lexbor import LexborHTMLParser

    decoded, drawings = clean_html(data, content_type, limits)
    tree = LexborHTMLParser(decoded.text)
    body = tree.body
    if body is None:
        raise PageError("empty_page", "no body")
    base = _base(tree)
    found = Walker(url, base, limits).walk(body)
    if found.words_unscripted > _UNSCRIPTED * sum(piece.words - piece.link_words for piece in found.pieces):
        found = Walker(url, base, limits, scripted=False).walk(body)
    return WalkedPage(
        title=_title(tree),
        language=_language(tree),
        encoding=decoded.encoding,
        evidence=decoded.evidence,
        undecodable=decoded.undecodable,
        drawings=drawings,
        found=found,
        image_tags=sum(len(tree.tags(tag)) for tag in TAGS),
    )


def _segments(pieces: Sequence[HtmlPiece]) -> list[Segment]:
    """Lines of one list or table, with nothing between them, are one block."""
    segments: list[Segment] = []
    for _, group in groupby(enumerate(pieces), lambda each: _block_of(*each)):
        first, *more = (piece for _, piece in group)
        if first.url:
            segments.append(image_segment(first.url, first.alt, first.caption))
        else:
            segments.append(text_segment("\n".join(piece.text for piece in (first, *more)), first.block))
    return segments


def _block_of(at: int, piece: HtmlPiece) -> tuple[int, str]:
    """What pieces side by side share when they are one block: their list or table; else they are each their own."""
    return (piece.group, piece.block) if piece.group >= 0 and not piece.url else (-1 - at, "")


def _base(tree: LexborHTMLParser) -> str | None:
    links = (node.attributes for node in tree.tags("base"))
    return next((link["href"] for link in links if "href" in link), None)


def _title(tree: LexborHTMLParser) -> str | None:
    parts = tree.head.iter() if tree.head is not None else ()
    node = next((part for part in parts if part.tag == "title"), None)
    text = " ".join(node.text().split()) if node is not None else ""
    return text or None


def _language(tree: LexborHTMLParser) -> str | None:
    attributes = tree.root.attributes if tree.root is not None else {}
    value = attributes.get("lang") or attributes.get("xml:lang") or ""
    if not value:
        meta = tree.css_first('meta[http-equiv="content-language" i]')
        value = (meta.attributes.get("content") or "") if meta is not None else ""
    return value.strip().lower() or None
