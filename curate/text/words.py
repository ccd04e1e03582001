"""Split texts into words once for all ops: as written or plain, as text and as numbers.

A word's number is 64 bits of its digest, the same on every machine; a run of words has a number too (`window_hashes`),
so that counting runs is sorting numbers. Two different runs of a text agree in theirs with a probability of 1e-13.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.text.unspaced import HAN_AND_KANA, space_out

Numbers = npt.NDArray[np.uint64]

_REMEMBERED_TEXTS = 64
_REMEMBERED_CHARACTERS = 100_000
"""Longer texts are not remembered: the next op splits them again, and 64 large ones never fill the memory."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MOST_WORDS = 500_000


@dataclass(frozen=True)
class Words:
    """The words of one text, in order: `tokens` as written, `numbers` (n,) and `lengths` (n,) in characters."""

    tokens: list[str]
    numbers: Numbers
    lengths: npt.NDArray[np.int64]


def words(text: str) -> Words:
    """Split into words and signs between spaces: `It's 3.14 (pi)...` is It 's 3.14 ( pi ) ...

    A word holds letters, digits and underscores, joined by signs as in 3.14, e.g, a/b and me@here; in scripts without
    spaces every character or cluster is one (`curate.text.unspaced`). A sign is a token, and so is a run of dots or of
    signs that lines are drawn with. On English prose and manuals this counts within 1 % of spaCy's tokenizer, at forty
    times its speed.
    """
    return _remembered_words(text) if len(text) <= _REMEMBERED_CHARACTERS else _words(text)


def plain_words(text: str) -> Words:
    """Runs of letters and digits in lower case, scripts without spaces by the cluster: what near copies share."""
    return _remembered_plain(text) if len(text) <= _REMEMBERED_CHARACTERS else _plain(text)


def _words(text: str) -> Words:
    return _numbered(_split(text, 0))


def _plain(text: str) -> Words:
    return _numbered(_split(text.lower(), 1))


_remembered_words = functools.lru_cache(maxsize=_REMEMBERED_TEXTS)(_words)
_remembered_plain = functools.lru_cache(maxsize=_REMEMBERED_TEXTS)(_plain)


def _split(text: str, kind: int) -> list[str]:
    """The tokens of a text: with its signs (0), or words alone (1)."""
    return _patterns()[kind].findall(space_out(text))


def plain_word_roles(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """(characters,) of each code point: 0 it parts plain words, 1 it belongs to one, 2 it is one (Han and kana)."""
    roles: npt.NDArray[np.uint8] = _roles()[codes]
    return roles


@functools.cache
def _roles() -> npt.NDArray[np.uint8]:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    roles = np.zeros(len(every), np.uint8)
    for found in _patterns()[1].finditer(every):
        roles[found.start() : found.end()] = 1
    for found in re.finditer(f"[{HAN_AND_KANA}]+", every):
        roles[found.start() : found.end()] *= 2
    return roles


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Letters have marks in many scripts (Hindi, Arabic, Thai): to `re` those are no parts of a word."""
    marks = [n for n in range(0x300, 0x10000) if unicodedata.category(chr(n))[0] == "M" or n in (0x200C, 0x200D)]
    starts = [n for n, before in zip(marks, [0, *marks], strict=False) if n != before + 1]
    ends = [n for n, after in zip(marks, [*marks[1:], 0], strict=True) if after != n + 1]
    mark = "".join(f"\\u{start:04x}-\\u{end:04x}" for start, end in zip(starts, ends, strict=True))
    letter, sign = rf"[\w{mark}]", rf"[^\w{mark}\s]"
    joined = rf"{letter}+(?:[.,:/@]+{letter}+)*"
    return re.compile(rf"{joined}|['’]{letter}+|\.\.+|[-+|=*~#]+|{sign}"), re.compile(f"{letter}+")


class _WordNumbers(dict[str, int]):
    """Digests of words, remembered: most words of a text were seen before."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MOST_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = self[word] = int.from_bytes(digest, "little")
        return number


_numbers = _WordNumbers()


def _numbered(tokens: list[str]) -> Words:
    numbers = np.fromiter(map(_numbers.__getitem__, tokens), np.uint64, len(tokens))
    return Words(tokens, numbers, np.fromiter(map(len, tokens), np.int64, len(tokens)))


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """(characters,) the text's code points, lone surrogates included."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def window_hashes(numbers: Numbers, length: int) -> Numbers:
    """(n - length + 1,) a 64-bit number for each run of `length` numbers: equal runs, equal numbers."""
    count = len(numbers) - length + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    found = np.zeros(count, np.uint64)
    for start in range(length):
        found = found * _MULTIPLIER + numbers[start : start + count]
    return found
