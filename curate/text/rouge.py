"""ROUGE-L of a text against many others (Lin 2004, 3.1): which of them it nearly repeats."""

from __future__ import annotations

import numpy as np

from curate.text.words import Numbers, plain_words

_BUCKETS = 256
"""Words are counted by their numbers' remainder, so that one glance bounds what two texts can have in common."""


class RougeIndex:
    """Texts to compare others with: 512 bytes and four a word are held of each.

    A text is compared with every other, which costs about 80 ns a pair of 60 words: quadratic, and exact.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._lengths = np.zeros(64, np.int64)
        self._counts = np.zeros((_BUCKETS, 64), np.uint16)

    def add(self, text: str) -> None:
        """Add a text; it is known by its place, from 0."""
        at, numbers = len(self._texts), plain_words(text).numbers
        if at == len(self._lengths):
            self._lengths = np.resize(self._lengths, 2 * at)
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)], axis=1)
        self._lengths[at] = len(numbers)
        self._counts[:, at] = _bucket_counts(numbers)
        self._texts.append(_spell(numbers))

    def likest(self, text: str, least: float) -> tuple[int, float] | None:
        """The place of the text that this one is likest, and their ROUGE-L (F1, 0 to 1), where that is `least` or more.

        Of plain words (curate.text.words); of several as like, the first.
        """
        from rapidfuzz.distance import Indel

        numbers, best = plain_words(text).numbers, None
        own, least_yet = _spell(numbers), least
        for place in self._possible(numbers, least):
            # Twice the longest common subsequence over the sum of the lengths, which is ROUGE-L's F1.
            likeness = Indel.normalized_similarity(own, self._texts[place], score_cutoff=least_yet)
            if likeness >= least and (best is None or likeness > best[1]):
                best, least_yet = (place, float(likeness)), likeness
        return best

    def _possible(self, numbers: Numbers, least: float) -> list[int]:
        """The places of texts that have words enough in common: no common subsequence is longer than that."""
        held = len(self._texts)
        counts, shared = _bucket_counts(numbers), np.zeros(held, np.uint16)
        for bucket in np.flatnonzero(counts):
            shared += np.minimum(self._counts[bucket, :held], counts[bucket])
        lengths = self._lengths[:held] + len(numbers)
        found: list[int] = np.flatnonzero((2 * shared.astype(np.int64) >= least * lengths) & (lengths > 0)).tolist()
        return found


def _bucket_counts(numbers: Numbers) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    counts = np.bincount((numbers % np.uint64(_BUCKETS)).astype(np.int64), minlength=_BUCKETS)
    return np.minimum(counts, np.iinfo(np.uint16).max).astype(np.uint16)


def _spell(numbers: Numbers) -> str:
    """A character a word: of the million beyond the first plane, where two words in a pair of texts rarely meet."""
    return (numbers % np.uint64(0x100000) + np.uint64(0x10000)).astype("<u4").tobytes().decode("utf-32-le")
