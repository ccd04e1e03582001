"""Split texts into sentences in any script, without a model; the same text, the same spans."""

from __future__ import annotations

import re

_SHORT = "mr mrs ms dr prof sr jr st fig figs vol pp ed eds vs approx dept est inc ltd e.g i.e cf al"
_ABBREVIATIONS = frozenset(_SHORT.split())
"""A full stop after one of these, or after a single letter, ends no sentence by itself."""

_END = re.compile(
    r"[。！？｡][」』”’）]*+\s*+"  # scripts that put no space after a sentence
    r"|(?<![.!?…؟।])[.!?…؟।]++[\"'”’»)\]]*+\s++(?=\S)"
    r"|\n\s*+"
)
_WORD_CHARACTERS = 40


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Find (start, end) of each sentence in `text`, in characters, without the space around it; line ends part too.

    A rule of thumb: abbreviations and initials are known, and a small letter begins no sentence.
    """
    found, start = [], 0
    for mark in _END.finditer(text):
        if _ends(text, start, mark):
            found.append((start, mark.end()))
            start = mark.end()
    found.append((start, len(text)))
    return [trimmed for first, last in found if (trimmed := _trimmed(text, first, last))]


def _ends(text: str, start: int, mark: re.Match[str]) -> bool:
    mark_text = mark.group()
    if mark_text[0] == "\n" or mark_text[0] in "。！？｡" or mark.end() == len(text):
        return True
    if text[mark.end()].islower():
        return False
    before = text[max(start, mark.start() - _WORD_CHARACTERS) : mark.start()].split()
    word = before[-1].lstrip("(\"'“‘«[").lower() if before and mark_text[0] == "." else ""
    return not (word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha()))


def _trimmed(text: str, first: int, last: int) -> tuple[int, int] | None:
    part = text[first:last]
    start = first + len(part) - len(part.lstrip())
    return (start, start + len(part.strip())) if part.strip() else None
