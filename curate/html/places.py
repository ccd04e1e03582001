"""Find the places of a page's images: one each, though a lazy `<img>` and its `<noscript>` name one picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.html import images, names
from curate.html.blocks import HtmlPiece
from curate.html.candidates import LATE, OWN, Candidate, named_files
from curate.html.names import word_set
from curate.html.nodes import element_after, element_before, noscript_around

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

TAGS = word_set("img amp-img amp-anim mip-img")
"""Elements that are an image: HTML's own, AMP's and MIP's, which may hold what stands in for it."""

_MAX_SOURCES = 16
_PREVIEW = re.compile(r"(?:^|[\s_-])(?:placeholder|lqip|blur(?!-up)|progressiveMedia-thumbnail)(?:$|[\s_-])")
_WRAPPED = 3
"""A lazy image may stand in so many elements of its own, beside its `<noscript>`."""


@dataclass
class _Place:
    node: LexborNode
    fallback: bool
    """In `<noscript>`."""
    outcome: str
    best: Candidate | None = None
    piece: HtmlPiece | None = None
    paired: bool = False


class ImagePlaces:
    """The images of one page in document order; `outcomes` counts what became of each tag."""

    def __init__(self, resolve: Callable[[str], str | None], outcomes: Counter[str]) -> None:
        self.resolve, self.outcomes = resolve, outcomes
        self.last: _Place | None = None
        self.shown: dict[str, _Place] = {}
        self.fallbacks: dict[str, _Place] = {}

    def add(self, node: LexborNode, attributes: names.Attributes, fallback: bool, new: HtmlPiece) -> HtmlPiece | None:
        """Find the place of an image: `new`, filled, where it is its own; None where it is another's or is none."""
        named = named_files(attributes, _sources(node), fallback)
        if node.tag != "img":  # of AMP's, `src` is the file that its script loads
            named = [each._replace(rank=LATE) if each.rank == OWN else each for each in named]
        best, url = self._best(named)
        place = _Place(node, fallback, "kept" if url else "no_file", best)
        if _is_not_shown(node, attributes, named):
            place.outcome, url = "not_shown", None
        elif best is not None and best.rank <= OWN and _is_preview(node, attributes):
            place.outcome, url = "again", None
        other = self._same_link(named, fallback) or self._beside(node, fallback, named)
        alt = " ".join((attributes.get("alt") or "").split()) or None
        if other is not None and (other.piece is None or place.outcome != "not_shown"):
            return self._merge(other, place, url, alt, new)
        if self._is_empty_frame(place, attributes):
            return None
        self.outcomes[place.outcome] += 1
        if url is not None:
            new.url, new.alt, place.piece = url, alt, new
        for candidate in named if url is not None else ():
            if fallback:
                self.fallbacks[candidate.link] = place
            else:
                self.shown[candidate.link] = place
        self.last = place
        return place.piece

    def _best(self, named: Sequence[Candidate]) -> tuple[Candidate | None, str | None]:
        for candidate in named:
            if (url := self.resolve(candidate.link)) is not None:
                return candidate, url
        return None, None

    def _same_link(self, named: Sequence[Candidate], fallback: bool) -> _Place | None:
        """The place in whose tag one of the links stands too, one of both being in `<noscript>`."""
        for _, _, link in named:
            if fallback and link in self.shown:
                return self.shown[link]
            if not fallback and link in self.fallbacks and not self.fallbacks[link].paired:
                return self.fallbacks[link]
        return None

    def _beside(self, node: LexborNode, fallback: bool, named: Sequence[Candidate]) -> _Place | None:
        """The image right before, where one of both stands in `<noscript>` and neither has its other yet."""
        last = self.last
        if last is None or last.paired or last.fallback == fallback:
            return None
        first = noscript_around(last.node) if last.fallback else last.node
        second = noscript_around(node) if fallback else node
        if first is None or second is None or not _are_neighbours(first, second):
            return None
        return None if fallback and _is_named_after(second, named) else last

    def _is_empty_frame(self, place: _Place, attributes: names.Attributes) -> bool:
        """Whether a tag that names no file is what a script fills, over a preview of the same size right before it."""
        last = self.last
        if place.outcome != "no_file" or last is None or last.piece is None or last.fallback or last.paired:
            return False
        sides = [attributes.get(name) for name in ("width", "height")]
        same = None not in sides and sides == [last.node.attributes.get(name) for name in ("width", "height")]
        if not (same and _are_neighbours(last.node, place.node)):
            return False
        last.node = place.node
        self.outcomes["again"] += 1
        return True

    def _merge(
        self, place: _Place, other: _Place, url: str | None, alt: str | None, new: HtmlPiece
    ) -> HtmlPiece | None:
        """Take the better file of two tags for one place."""
        place.paired = True
        self.outcomes["again"] += 1
        if place.piece is not None:
            place.piece.alt = place.piece.alt or alt
            if url is not None and other.best is not None and (place.best is None or other.best[:2] > place.best[:2]):
                place.piece.url, place.best = url, other.best
            return None
        if url is None:
            return None
        self.outcomes[place.outcome] -= 1
        self.outcomes["kept"] += 1
        new.url, new.alt, place.outcome, place.piece, place.best = url, alt, "kept", new, other.best
        return new


def _sources(node: LexborNode) -> list[names.Attributes]:
    around = node.parent
    if around is None or around.tag != "picture":
        return []
    return [each.attributes for each in around.css("source")[:_MAX_SOURCES]]


def _is_preview(node: LexborNode, attributes: names.Attributes) -> bool:
    """Whether a tag calls itself what shows until the picture comes, and another one stands beside it."""
    classes = attributes.get("class") or ""
    if not _PREVIEW.search(classes[:400]):
        return False
    after = element_after(node)
    while after is not None and after.tag == "canvas":
        after = element_after(after)
    return after is not None and after.tag in ("img", "picture") and after.attributes.get("class") != classes


def _is_not_shown(node: LexborNode, attributes: names.Attributes, named: Sequence[Candidate]) -> bool:
    """Whether a tag hides its image; what a script loads late may be hidden until then."""
    if node.tag != "img":  # AMP writes the ratio of the sides
        return "placeholder" in attributes
    if images.is_tiny(attributes):
        return True
    is_late = bool(named) and named[0].rank > OWN and all(each.rank != OWN for each in named)
    return names.is_hidden(attributes) and not (is_late and "aria-hidden" not in attributes)


def _is_named_after(noscript: LexborNode, named: Sequence[Candidate]) -> bool:
    """Whether the image behind a `<noscript>` names the same file: it is then that one's."""
    after = element_after(noscript)
    if after is None or after.tag != "img":
        return False
    return not {each.link for each in named}.isdisjoint(each.link for each in named_files(after.attributes))


def _are_neighbours(first: LexborNode, second: LexborNode) -> bool:
    """Whether two nodes stand side by side, each with what holds it alone; or the second first in AMP's image."""
    if second.parent is not None and second.parent.mem_id == first.mem_id:
        return element_before(second) is None
    firsts = [first.mem_id, *_wrappers(first)]
    for holder in (second, second.parent):
        before = element_before(holder)
        if before is not None:
            return before.mem_id in firsts
    return False


def _wrappers(node: LexborNode) -> list[int]:
    found = []
    for _ in range(_WRAPPED):
        around = node.parent
        if around is None:
            break
        if around.tag != "picture" and (element_before(node) is not None or element_after(node) is not None):
            break
        node = around
        found.append(node.mem_id)
    return found
