"""What speaks for and against each text of a page being of its main part, as whole numbers.

Of itself, of what holds it, of its place, of its kind (all texts in parts of one tag and class), of the page, and what
the rules in `select` say. Nothing of it knows a language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.html.blocks import Container, Piece
from curate.html.names import COMMENT

_BLOCKS = {"paragraph": 0, "heading": 1, "list": 2, "table": 3, "code": 4, "quote": 5}
_TAGS = {"p": 1, "h1": 2, "h2": 3, "h3": 4, "h4": 5, "h5": 5, "h6": 5, "li": 6, "tr": 7, "div": 8, "dd": 9, "dt": 9}
_ENDS = {**dict.fromkeys('.!?…。！？"”»', 2), **dict.fromkeys(":：", 1)}
_RUNNING_WORDS = 15
_TITLE_WORDS = 30
_FAR = 999

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Rules:
    """What the rules say: of each container whether it lies in the main part, of each piece whether it is kept."""

    weights: Sequence[int]
    """Words of running text in each container."""
    root: int
    deepest: Sequence[bool]
    linked: Sequence[bool]
    """Of each piece, whether it is links and hardly anything else, or in a part of which that holds."""
    kept: Sequence[bool]
    heading: int
    """The place of the page's heading."""


def evidence(
    containers: Sequence[Container], pieces: Sequence[Piece], at: Sequence[int], rules: Rules, title: str
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """One row a text, `pieces[at[n]]`; one column a feature. `title` is in small letters."""
    own = np.array([_own(pieces[n], title) for n in at], np.int64).T
    words, linked, block, inside, aside = own[:5]
    kept = np.array([rules.kept[n] for n in at])
    share = _share(linked, words)
    columns = [
        words, share, block, aside, kept, *own[5:],
        *_holders(containers, rules, inside),
        *_places(words, kept & (words >= _RUNNING_WORDS) & (share < 500), block),
        *_kinds(containers, block, inside, words),
        *_page(words, share, kept, aside),
    ]  # fmt: skip
    table = np.empty((len(columns), len(at)), np.int32)
    for n, column in enumerate(columns):
        table[n] = column
    return table.T


def _own(piece: Piece, title: str) -> tuple[int, ...]:
    """Words, linked words, block, holder, what it is beside; how it ends, letters a word, tag, words of the title."""
    text, words = piece.text, piece.words
    named = 0
    if words < _TITLE_WORDS and title:
        named = 1000 * sum(len(word) for word in text.casefold().split() if word in title) // len(text)
    end, letters = _ENDS.get(text[-1:], 0), 10 * len(text) // max(words, 1)
    block, tag = _BLOCKS.get(piece.block, 0), _TAGS.get(piece.tag, 0)
    return words, piece.link_words, block, piece.inside, piece.aside, end, letters, tag, named


def _share(part: Any, whole: Any) -> Any:
    """In thousandths."""
    return 1000 * part // np.maximum(whole, 1)


def _holders(containers: Sequence[Container], rules: Rules, inside: Ints) -> list[Ints]:
    """Of the container of each text, the one around it, and the one around that."""
    depth, main = [0] * len(containers), [False] * len(containers)
    for n, each in enumerate(containers):
        if each.parent >= 0:
            depth[n], main[n] = depth[each.parent] + 1, main[each.parent]
        main[n] = main[n] or each.main
    parents, words, linked, plain, deepest, named, deep, weights = np.array(
        [
            (max(each.parent, 0), each.words, each.link_words, each.plain_words, *rest)
            for each, *rest in zip(containers, rules.deepest, main, depth, rules.weights, strict=True)
        ]
    ).T
    up = parents[inside]
    upper = parents[up]
    shares = _share(weights, weights[0])
    return [
        deepest[inside], named[inside], deep[inside] - deep[rules.root],
        np.bincount(inside, minlength=len(containers))[inside], _share(plain, plain[rules.root])[inside],
        words[inside], words[upper], _share(linked, words)[upper], shares[inside], shares[up], shares[upper],
    ]  # fmt: skip


def _places(words: Ints, spine: Any, block: Ints) -> list[Any]:
    """Where in the page, where to the first and the last running text that the rules keep, how far below a heading."""
    n = np.arange(len(words))
    running = np.flatnonzero(spine)
    first, last = (running[0], running[-1]) if len(running) else (0, len(words))
    headed = n - np.maximum.accumulate(np.where(block == _BLOCKS["heading"], n, -_FAR))
    before = np.cumsum(words) - words
    return [_share(before, words.sum()), _share(n, len(words)), n - first, last - n, np.minimum(headed, _FAR)]


def _kinds(containers: Sequence[Container], block: Ints, inside: Ints, words: Ints) -> list[Ints]:
    """How much there is of a text's kind: the same block in parts of the same tag and class, twice up."""
    known: dict[tuple[int, str, str], int] = {}
    names = [(each.kind, containers[max(each.parent, 0)].kind) for each in containers]
    found = [known.setdefault((b, *names[n]), len(known)) for b, n in zip(block.tolist(), inside.tolist(), strict=True)]
    kinds = np.array(found)
    count = np.bincount(kinds)
    sums = np.bincount(kinds, words).astype(np.int64)
    return [_share(sums, words.sum())[kinds], count[kinds], (sums // count)[kinds]]


def _page(words: Ints, share: Ints, kept: Any, aside: Ints) -> list[Any]:
    """Words that the rules keep, and the share of them, of running text and of comments; how many texts there are."""
    total, keeps = words.sum(), words[kept].sum()
    running = words[(words >= _RUNNING_WORDS) & (share < 500)].sum()
    comments = words[aside & COMMENT > 0].sum()
    return [keeps, _share(keeps, total), _share(running, total), _share(comments, total), len(words)]
