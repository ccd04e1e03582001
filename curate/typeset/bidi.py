"""The bidirectional algorithm (Unicode's UAX 9): each character's direction and place on the line.

Its implicit part: marks and controls of direction, which a page does not show, are taken to be out of the text. Done
here rather than by a library, so that words can be placed one by one, and in the same place on every machine.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

_STRONG: Final = {"L": "L", "R": "R", "AL": "R"}
_LEFTWARDS: Final = frozenset(("R", "AL", "AN"))
_NEUTRAL: Final = frozenset(("B", "S", "WS", "ON"))
_SEPARATORS: Final = frozenset(("B", "S"))
_PAIRS: Final = "()[]{}⁅⁆⁽⁾₍₎⌈⌉⌊⌋⟦⟧⟨⟩⟪⟫〈〉《》「」『』【】〔〕〖〗〘〙〚〛（）［］｛｝｢｣"
_CLOSING: Final = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True))
_MOST_OPEN: Final = 63  # of brackets, as the algorithm says


def base_level(text: str, otherwise: int) -> int:
    """1 for a paragraph whose first letter runs from right to left, 0 for from left to right; `otherwise` without."""
    for character in text:
        if direction := _STRONG.get(unicodedata.bidirectional(character)):
            return int(direction == "R")
    return otherwise


def embedding_levels(text: str, base: int) -> list[int]:
    """Compute the embedding level of each character of a paragraph: odd ones run from right to left."""
    classes = [unicodedata.bidirectional(c) or "L" for c in text]
    if not base and _LEFTWARDS.isdisjoint(classes):
        return [0] * len(text)
    seen = [place for place, kind in enumerate(classes) if kind != "BN"]
    kinds = [classes[place] for place in seen]
    marked = [kind == "NSM" for kind in kinds]
    _resolve_weak(kinds, base)
    _resolve_brackets([text[place] for place in seen], kinds, marked, base)
    _resolve_neutral(kinds, base)
    raised = {"L": base % 2, "R": 1 - base % 2, "AN": 2 - base % 2, "EN": 2 - base % 2}
    waiting = iter(kinds)
    found: list[int] = []
    for kind in classes:
        if kind == "BN":  # what joins letters without being seen goes with the letter before
            found.append(found[-1] if found else base)
        else:
            resolved = next(waiting)
            found.append(base if kind in _SEPARATORS else base + raised[resolved])
    return found


def visual_order(levels: Sequence[int]) -> list[int]:
    """The numbers of what stands in a line, from its left end to its right, given their levels in order of reading."""
    order = list(range(len(levels)))
    for level in range(max(levels, default=0), 0, -1):
        start = 0
        for turned, run in groupby(order, [n >= level for n in levels].__getitem__):
            end = start + len(list(run))
            if turned:
                order[start:end] = order[start:end][::-1]
            start = end
    return order


def _side(level: int) -> str:
    return "R" if level % 2 else "L"


def _resolve_weak(kinds: list[str], base: int) -> None:
    """Rules W1 to W7: marks, numbers and their signs."""
    before = strong = _side(base)
    for place, kind in enumerate(kinds):
        if kind == "NSM":
            kinds[place] = kind = before
        if kind == "EN" and strong == "AL":
            kinds[place] = kind = "AN"
        strong = kind if kind in _STRONG else strong
        before = kind
    kinds[:] = ["R" if kind == "AL" else kind for kind in kinds]
    _resolve_signs(kinds)
    strong = _side(base)
    for place, kind in enumerate(kinds):
        strong = kind if kind in _STRONG else strong
        if kind == "EN" and strong == "L":
            kinds[place] = "L"


def _resolve_signs(kinds: list[str]) -> None:
    """Rules W4 to W6: separators and terminators of numbers."""
    for place in range(1, len(kinds) - 1):
        left, kind, right = kinds[place - 1 : place + 2]
        if left == right and ((kind == "CS" and left in ("EN", "AN")) or (kind == "ES" and left == "EN")):
            kinds[place] = left
    for kind, start, end in _runs(kinds):
        if kind == "ET" and "EN" in (*kinds[max(0, start - 1) : start], *kinds[end : end + 1]):
            kinds[start:end] = ["EN"] * (end - start)
    kinds[:] = ["ON" if kind in ("ES", "ET", "CS") else kind for kind in kinds]


def _resolve_brackets(text: Sequence[str], kinds: list[str], marked: Sequence[bool], base: int) -> None:
    """Rule N0: both brackets of a pair, and the marks on them, run as what they hold does, or what stands before."""
    inward = _side(base)
    for opening, closing in _bracket_pairs(text, kinds):
        held = {_direction(kind) for kind in kinds[opening + 1 : closing]} - {None}
        if not held:
            continue
        side = inward
        if inward not in held:
            side = next((d for kind in reversed(kinds[:opening]) if (d := _direction(kind))), inward)
        for bracket in (opening, closing):
            marks = next((n for n, mark in enumerate(marked[bracket + 1 :]) if not mark), len(marked) - bracket - 1)
            kinds[bracket : bracket + 1 + marks] = [side] * (1 + marks)


def _bracket_pairs(text: Sequence[str], kinds: Sequence[str]) -> list[tuple[int, int]]:
    waiting: list[tuple[str, int]] = []
    found = []
    for place, (character, kind) in enumerate(zip(text, kinds, strict=True)):
        if kind != "ON":
            continue
        if closing := _CLOSING.get(character):
            if len(waiting) == _MOST_OPEN:
                break
            waiting.append((closing, place))
            continue
        depth = next((d for d in reversed(range(len(waiting))) if waiting[d][0] == character), None)
        if depth is not None:
            found.append((waiting[depth][1], place))
            del waiting[depth:]
    return sorted(found)


def _direction(kind: str) -> str | None:
    """Which way a kind pulls what is neutral beside it; numbers count as letters from right to left."""
    return "L" if kind == "L" else "R" if kind in ("R", "AN", "EN") else None


def _resolve_neutral(kinds: list[str], base: int) -> None:
    """Rules N1 and N2: what is neutral runs as both its neighbours do, or as the paragraph."""
    own = _side(base)
    neutral = ["" if kind in _NEUTRAL else kind for kind in kinds]
    for kind, start, end in _runs(neutral):
        if not kind:
            left = _direction(kinds[start - 1]) if start else own
            right = _direction(kinds[end]) if end < len(kinds) else own
            kinds[start:end] = [left if left == right and left else own] * (end - start)


def _runs(kinds: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    start = 0
    for kind, run in groupby(list(kinds)):
        end = start + len(list(run))
        yield kind, start, end
        start = end
