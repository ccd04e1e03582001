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

_BLOCKS = {"paragraph": 0, "heading": 1, "list": 2, "table": 3, "code": 4, "quote": 5}
_TAGS = {"p": 1, "h1": 2, "h2": 3, "h3": 4, "h4": 5, "h5": 5, "h6": 5, "li": 6, "tr": 7, "div": 8, "dd": 9, "dt": 9}
_ENDS = {**dict.fromkeys('.!?…。！？"”»', 2), **dict.fromkeys(":：", 1)}
_RUNNING_WORDS = 15
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
    containers: Sequence[Container], pieces: Sequence[Piece], at: Sequence[int], rules: Rules
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """One row a text, `pieces[at[n]]`; one column a feature."""
    own = np.array([_own(pieces[n]) for n in at], np.int64).T
    words, share, block, _, _, inside = own
    kept = np.array([rules.kept[n] for n in at])
    running = (words >= _RUNNING_WORDS) & (share < 500)
    total = max(int(words.sum()), 1)
    columns = [
        *own[:5],
        *_holders(containers, rules, inside),
        *_places(words, running & kept, block, total),
        *_kinds(containers, block, inside, words, total),
        *_page(words, running, kept, total),
    ]  # fmt: skip
    table = np.empty((len(columns), len(at)), np.int32)
    for n, column in enumerate(columns):
        table[n] = column
    return table.T


def _own(piece: Piece) -> tuple[int, ...]:
    """Words, share of links, block, how it ends, the tag that it ends with; its holder."""
    words, end = piece.words, _ENDS.get(piece.text[-1:], 0)
    share = 1000 * piece.link_words // (words or 1)
    return words, share, _BLOCKS.get(piece.block, 0), end, _TAGS.get(piece.tag, 0), piece.inside


def _holders(containers: Sequence[Container], rules: Rules, inside: Ints) -> Ints:
    """Of the container of each text, and of the one two above: words, links, share of the page's running text."""
    all_words = rules.weights[0] or 1
    shares = [1000 * weight // all_words for weight in rules.weights]
    rows = []
    for each, share, deepest in zip(containers, shares, rules.deepest, strict=True):
        up = max(each.parent, 0)
        upper = max(containers[up].parent, 0)
        links = 1000 * containers[upper].link_words // (containers[upper].words or 1)
        rows.append((deepest, each.words, links, share, shares[upper]))
    found: Ints = np.array(rows).T[:, inside]
    return found


def _places(words: Ints, spine: Any, block: Ints, total: int) -> list[Any]:
    """Where in the page, how far from the first running text that the rules keep, how far below a heading."""
    n = np.arange(len(words))
    first = int(spine.argmax())
    headed = n - np.maximum.accumulate(np.where(block == _BLOCKS["heading"], n, -_FAR))
    return [1000 * (words.cumsum() - words) // total, n - first, np.minimum(headed, _FAR)]


def _kinds(containers: Sequence[Container], block: Ints, inside: Ints, words: Ints, total: int) -> list[Ints]:
    """How much there is of a text's kind: the same block in parts of the same tag and class, twice up."""
    known: dict[tuple[int, str, str], int] = {}
    names = [(each.kind, containers[max(each.parent, 0)].kind) for each in containers]
    found = [known.setdefault((b, *names[n]), len(known)) for b, n in zip(block.tolist(), inside.tolist(), strict=True)]
    kinds = np.array(found)
    count = np.bincount(kinds)
    sums = np.bincount(kinds, words).astype(np.int64)
    return [(1000 * sums // total)[kinds], count[kinds], (sums // count)[kinds]]


def _page(words: Ints, running: Any, kept: Any, total: int) -> list[int]:
    """Words that the rules keep, the share of them and that of running text, and how many texts there are."""
    keeps = int(words[kept].sum())
    return [keeps, 1000 * keeps // total, 1000 * int(words[running].sum()) // total, len(words)]
