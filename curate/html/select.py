"""Which of a page's pieces are what the page is about.

What names itself as something else is gone by now. Of the rest, running text (long blocks with few links) shows where
the main part is: the deepest container that holds nearly all of it, or the parts that the page itself calls main. In
there, containers that are mostly links go, and blocks that stand there again and again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from curate.html.blocks import Container, Piece

_RUNNING_WORDS = 15
_MOSTLY_LINKS = 0.6
_NEARLY_ALL = 0.85
_MAIN_SHARE = 0.5
_REPEATED = 3
_SHORT_WORDS = 6


def main_pieces(containers: Sequence[Container], pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces to keep, in order."""
    if not containers:
        return []
    _count(containers, pieces)
    weights = _weights(containers, pieces)
    root = _deepest(containers, weights, _main_root(containers, weights))
    inside = _below(containers, root)
    links = _link_parts(containers, root)
    kept = [piece for piece in pieces if inside[piece.inside] and not links[piece.inside]]
    if (heading := _heading_before(pieces, inside, kept)) is not None:
        kept.insert(0, heading)
    return _without_repeats(kept)


def _count(containers: Sequence[Container], pieces: Sequence[Piece]) -> None:
    """Words and linked words of each container, with all in it: a child always stands after its parent."""
    for piece in pieces:
        containers[piece.inside].words += piece.words
        containers[piece.inside].link_words += piece.link_words
    for container in reversed(containers):
        if container.parent >= 0:
            containers[container.parent].words += container.words
            containers[container.parent].link_words += container.link_words


def _weights(containers: Sequence[Container], pieces: Sequence[Piece]) -> list[int]:
    """Words of running text of each container; where a page has none, all words that are no links."""
    for least in (_RUNNING_WORDS, 1):
        weights = [0] * len(containers)
        for piece in pieces:
            if piece.words >= least and piece.block != "heading" and piece.link_words < piece.words / 2:
                weights[piece.inside] += piece.words - piece.link_words
        for at in range(len(containers) - 1, 0, -1):
            weights[containers[at].parent] += weights[at]
        if weights[0]:
            break
    return weights


def _main_root(containers: Sequence[Container], weights: Sequence[int]) -> int:
    """The outermost part that the page calls main, when it holds at least half of the running text; else the body."""
    marked = [at for at, each in enumerate(containers) if each.main]
    best = max(marked, key=lambda at: (weights[at], -at), default=0)
    return best if weights[best] >= _MAIN_SHARE * weights[0] else 0


def _deepest(containers: Sequence[Container], weights: Sequence[int], root: int) -> int:
    """From `root` down, as long as one child holds nearly all of the running text."""
    at = root
    for child in range(root + 1, len(containers)):
        if containers[child].parent == at and weights[child] >= _NEARLY_ALL * weights[root] and weights[child]:
            at = child
    return at


def _below(containers: Sequence[Container], root: int) -> list[bool]:
    inside = [False] * len(containers)
    for at, each in enumerate(containers):
        inside[at] = at == root or (each.parent >= 0 and inside[each.parent])
    return inside


def _link_parts(containers: Sequence[Container], root: int) -> list[bool]:
    """Containers that are mostly links, and all in them."""
    links = [False] * len(containers)
    for at, each in enumerate(containers):
        if at > root:
            own = each.link_words > _MOSTLY_LINKS * each.words and each.link_words >= 2
            links[at] = own or (each.parent >= 0 and links[each.parent])
    return links


def _heading_before(pieces: Sequence[Piece], inside: Sequence[bool], kept: Sequence[Piece]) -> Piece | None:
    """The last heading above the main part, where that has none of its own at its head."""
    if not kept or kept[0].block == "heading":
        return None
    before: Piece | None = None
    for piece in pieces:
        if inside[piece.inside]:
            break
        before = piece if piece.block == "heading" and not piece.url else before
    return before if before is not None and before.link_words < before.words else None


def _without_repeats(pieces: Sequence[Piece]) -> list[Piece]:
    """Long blocks once; short lines that stand there three times or more, not at all (`Reply`, `Read more`)."""
    counted = Counter(piece.text for piece in pieces if piece.block == "paragraph" and not piece.url)
    seen: set[str] = set()
    kept = []
    for piece in pieces:
        if piece.block == "paragraph" and not piece.url:
            short = piece.words <= _SHORT_WORDS
            if (short and counted[piece.text] >= _REPEATED) or (not short and piece.text in seen):
                continue
            seen.add(piece.text)
        kept.append(piece)
    return kept or list(pieces)
