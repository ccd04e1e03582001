"""Features of each text of a page, for the model that tells main text from boilerplate.

Of itself, of what holds it, of its place, of its kind (all texts in parts of one tag and class), of the page, and what
the rules in `select` say. Nothing of it knows a language.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from curate.html.blocks import Container, HtmlPiece

_BLOCKS = {"paragraph": 0, "heading": 1, "list": 2, "table": 3, "code": 4, "quote": 5}
_TAGS = {"p": 1, "h1": 2, "h2": 3, "h3": 4, "h4": 5, "h5": 5, "h6": 5, "li": 6, "tr": 7, "div": 8, "dd": 9, "dt": 9}
_ENDS = {**dict.fromkeys('.!?…。！？"”»', 2), **dict.fromkeys(":：", 1)}
_RUNNING_WORDS = 15
_FAR = 999


@dataclass(frozen=True)
class KeptByRules:
    """The rules' decision: for each container whether it lies in the main part, for each piece whether it is kept."""

    weights: Sequence[int]
    """Words of running text in each container."""
    root: int
    deepest: Sequence[bool]
    linked: Sequence[bool]
    """Of each piece, whether it is links and hardly anything else, or in a part of which that holds."""
    kept: Sequence[bool]
    heading: int
    """The place of the page's heading."""


def text_features(
    containers: Sequence[Container], pieces: Sequence[HtmlPiece], at: Sequence[int], rules: KeptByRules
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Compute features: one row a text, `pieces[at[n]]`; one column a feature. In plain Python: most pages have too few
    texts for arrays.
    """
    texts, kept = [pieces[n] for n in at], [rules.kept[n] for n in at]
    rows = chain.from_iterable(_rows(containers, texts, kept, rules))
    return np.fromiter(rows, np.int64).astype(np.int32).reshape(len(at), -1)


def _rows(
    containers: Sequence[Container], texts: Sequence[HtmlPiece], kept: Sequence[bool], rules: KeptByRules
) -> Iterator[tuple[int, ...]]:
    """Of itself; of what holds it; where in the page, how far from the first running text that the rules keep, how far
    below a heading; of its kind; of the page."""
    running = [each.words >= _RUNNING_WORDS and 1000 * each.link_words // each.words < 500 for each in texts]
    total = sum(each.words for each in texts) or 1
    holders = {at: _holder(containers, rules, at) for at in {each.inside for each in texts}}
    kinds = _kinds(containers, texts, total)
    page = _page(texts, running, kept, total)
    first = next((n for n, (runs, keep) in enumerate(zip(running, kept, strict=True)) if runs and keep), 0)
    before, heading = 0, -_FAR
    for n, (piece, kind) in enumerate(zip(texts, kinds, strict=True)):
        if piece.block == "heading":
            heading = n
        yield (
            *_own(piece),
            *holders[piece.inside],
            1000 * before // total, n - first, min(n - heading, _FAR),
            *kind,
            *page,
        )  # fmt: skip
        before += piece.words


def _own(piece: HtmlPiece) -> tuple[int, ...]:
    """Words, share of links, block, how it ends, the tag that it ends with."""
    words = piece.words
    share = 1000 * piece.link_words // (words or 1)
    return words, share, _BLOCKS.get(piece.block, 0), _ENDS.get(piece.text[-1:], 0), _TAGS.get(piece.tag, 0)


def _holder(containers: Sequence[Container], rules: KeptByRules, at: int) -> tuple[int, ...]:
    """Of a text's container, and of the one two above: words, links, share of the page's running text."""
    upper = max(containers[max(containers[at].parent, 0)].parent, 0)
    links = 1000 * containers[upper].link_words // (containers[upper].words or 1)
    weights, whole = rules.weights, rules.weights[0] or 1
    shares = 1000 * weights[at] // whole, 1000 * weights[upper] // whole
    return rules.deepest[at], containers[at].words, links, *shares


def _kinds(containers: Sequence[Container], texts: Sequence[HtmlPiece], total: int) -> list[tuple[int, ...]]:
    """How much there is of each text's kind: the same block in parts of the same tag and class, twice up."""
    names: list[tuple[str, str, str]] = []
    sizes: dict[tuple[str, str, str], tuple[int, int]] = {}
    for piece in texts:
        holder = containers[piece.inside]
        name = (piece.block, holder.kind, containers[max(holder.parent, 0)].kind)
        count, words = sizes.get(name, (0, 0))
        sizes[name] = count + 1, words + piece.words
        names.append(name)
    found = {name: (1000 * words // total, count, words // count) for name, (count, words) in sizes.items()}
    return [found[name] for name in names]


def _page(texts: Sequence[HtmlPiece], running: Sequence[bool], kept: Sequence[bool], total: int) -> tuple[int, ...]:
    """Words that the rules keep, the share of them and that of running text, and how many texts there are."""
    keeps = sum(each.words for each, keep in zip(texts, kept, strict=True) if keep)
    runs = sum(each.words for each, long in zip(texts, running, strict=True) if long)
    return keeps, 1000 * keeps // total, 1000 * runs // total, len(texts)
