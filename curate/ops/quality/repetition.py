"""Repetition within a document as Gopher measures it: lines, paragraphs and runs of words."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.ops.spec import Columns, op
from curate.text.unspaced import has_unspaced
from curate.text.words import Numbers, Words, window_hashes, words

TOP_LENGTHS = (2, 3, 4)
REPEATED_LENGTHS = (5, 6, 7, 8, 9, 10)

_PARAGRAPH = re.compile(r"\n{2,}")
_LINE = re.compile(r"\n+")
_NAMES = (
    "gopher_repeated_paragraphs",
    "gopher_repeated_paragraph_characters",
    "gopher_repeated_lines",
    "gopher_repeated_line_characters",
    *(f"gopher_top_{n}_gram" for n in TOP_LENGTHS),
    *(f"gopher_repeated_{n}_grams" for n in REPEATED_LENGTHS),
)


@op(reads="text", writes={name: pa.float32() for name in _NAMES}, version=3)
def gopher_repetition(texts: Sequence[str]) -> Columns:
    """Gopher's thirteen measures of repetition (Rae et al. 2021, table A1), each a share; thresholds in brackets.

    Paragraphs [.3] and lines [.3] that stand in the text before, and their characters [.2, .2]; characters of the most
    frequent run of 2, 3 or 4 words, spaces between them counted [.2, .18, .16]; characters of runs of 5 to 10 words
    that stand before, no word counted twice, spaces left out [.15, .14, .13, .12, .11, .1].
    """
    rows = [_measures(text) for text in texts]
    return {name: [row[place] for row in rows] for place, name in enumerate(_NAMES)}


def _measures(text: str) -> list[float]:
    if not text:
        return [0.0] * len(_NAMES)
    found = words(text)
    paragraphs, lines = _PARAGRAPH.split(text.strip()), _LINE.split(text)
    tops = [_top_run_characters(found, n) / len(text) for n in TOP_LENGTHS]
    return [*_repeated_share(paragraphs, text), *_repeated_share(lines, text), *tops, *_repeated_runs(found, len(text))]


def _repeated_share(parts: list[str], text: str) -> tuple[float, float]:
    """Share of the parts that stand before, and their share of the characters."""
    first = set(parts)
    if len(first) == len(parts):
        return 0.0, 0.0
    characters = sum(map(len, parts)) - sum(map(len, first))
    return (len(parts) - len(first)) / len(parts), characters / len(text)


def _top_run_characters(found: Words, n: int) -> int:
    """Characters of the most frequent run of n words (the first one, of equals), times its occurrences.

    A space is counted between two words, but not between two of a script that puts none.
    """
    hashes = window_hashes(found.numbers, n)
    if not len(hashes):
        return 0
    ordered = np.sort(hashes)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(np.append(starts, len(ordered)))
    most = int(counts.max())
    first = int(np.isin(hashes, ordered[starts[counts == most]]).argmax()) if most > 1 else 0
    run = found.tokens[first : first + n]
    spaces = sum(not (has_unspaced(one) and has_unspaced(next_one)) for one, next_one in itertools.pairwise(run))
    return most * (sum(map(len, run)) + spaces)


def _repeated_runs(found: Words, characters: int) -> list[float]:
    """For each length, the share of characters in runs that stand before; once a length has none, no longer one has."""
    shares = [0.0] * len(REPEATED_LENGTHS)
    ends = np.concatenate(([0], np.cumsum(found.lengths)))
    for place, n in enumerate(REPEATED_LENGTHS):
        hashes = window_hashes(found.numbers, n)
        candidates = _find_repeats(hashes)
        if not len(candidates):
            break
        shares[place] = _walk(hashes, candidates, n, ends) / characters
    return shares


def _find_repeats(hashes: Numbers) -> npt.NDArray[np.int64]:
    """The places of runs that stand in the text more than once."""
    order = np.argsort(hashes, kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    again = np.zeros(len(hashes), bool)
    again[order[1:][same]] = again[order[:-1][same]] = True
    return np.flatnonzero(again)


def _walk(hashes: Numbers, candidates: npt.NDArray[np.int64], n: int, ends: npt.NDArray[np.int64]) -> int:
    """From left to right: a run that was passed before counts, and the next one looked at begins behind it."""
    passed: set[int] = set()
    characters = resume = 0
    lengths = ends[candidates + n] - ends[candidates]
    for at, run, length in zip(candidates.tolist(), hashes[candidates].tolist(), lengths.tolist(), strict=True):
        if at < resume:
            continue
        if run in passed:
            characters += length
            resume = at + n
        else:
            passed.add(run)
    return characters
