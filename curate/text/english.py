"""Tell English words from names by a list: SCOWL's words, by way of Debian's wamerican.

`pipelines/materials/english_words.py` makes the list; the licences are in data_cards/english-words.md.
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Sequence
from importlib import resources

from curate.text.function_words import FUNCTION_WORDS

_LEAST_PART, _LONGEST_COMPOUND = 4, 24


def is_word(word: str) -> bool:
    """Whether English has a word, given in small letters, as more than a name; compounds of two words, too."""
    return word in _listed() or _is_compound(word)


def is_name_alone(word: str) -> bool:
    """Whether English has a word, given in small letters, as a name and as nothing else."""
    return word not in _listed() and may_be_name(word)


def may_be_name(word: str) -> bool:
    """Whether English has a word, given in small letters, as a name, whatever else it is."""
    return word.capitalize() in _listed()


def is_ever_name(word: str) -> bool:
    """Whether English has a word, given in small letters, as a name too, be it seldom one: brown, baker."""
    return may_be_name(word) or word.upper() in _listed()


def english_share(words: Sequence[str]) -> float:
    """Share of words, in small letters, that are English or names that it knows; 0 of none."""
    known = sum(word in FUNCTION_WORDS["en"] or is_word(word) or may_be_name(word) for word in words)
    return known / len(words) if words else 0.0


def _is_compound(word: str) -> bool:
    cuts = range(_LEAST_PART, len(word) - _LEAST_PART + 1) if len(word) <= _LONGEST_COMPOUND else ()
    return any(word[:cut] in _listed() and word[cut:] in _listed() for cut in cuts)


@functools.cache
def _listed() -> frozenset[str]:
    """Words in small letters, names with a capital, in capitals alone what is seldom a name; some are several."""
    data = resources.files("curate.text").joinpath("english.txt.gz").read_bytes()
    return frozenset(gzip.decompress(data).decode().split("\n"))
