"""The words of a text, once for all ops that look at it: as written with its signs, or plain; as text and as numbers.

A word's number is 64 bits of its digest, the same on every machine; a run of words has a number too (`window_hashes`),
so that counting runs is sorting numbers. Two different runs of a text agree in theirs with a probability of 1e-13.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Han and kana, as a part of a regular expression's class: scripts without spaces between words."""

Numbers = npt.NDArray[np.uint64]

_REMEMBERED_TEXTS = 64
_REMEMBERED_CHARACTERS = 100_000
"""Longer texts are not remembered: the next op splits them again, and 64 large ones never fill the memory."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MOST_WORDS = 500_000
_UNSPACED_CHARACTER = re.compile(rf"[{UNSPACED}]")


@dataclass(frozen=True)
class Words:
    """The words of one text, in order: `tokens` as written, `numbers` (n,) and `lengths` (n,) in characters."""

    tokens: list[str]
    numbers: Numbers
    lengths: npt.NDArray[np.int64]


def words(text: str) -> Words:
    """What stands between spaces, signs parted from words: `It's 3.14 (pi)...` is It 's 3.14 ( pi )...

    A word holds letters, digits and underscores, joined by single signs as in 3.14, e.g, a/b and me@here; a run of
    signs is one token; every Han or kana character is a word. On English prose and manuals this counts words within
    1.6 % of spaCy's tokenizer, at forty times its speed.
    """
    return _remembered_words(text) if len(text) <= _REMEMBERED_CHARACTERS else _words(text)


def plain_words(text: str) -> Words:
    """Runs of letters and digits in lower case, Han and kana by the character: what near copies of a text share."""
    return _remembered_plain(text) if len(text) <= _REMEMBERED_CHARACTERS else _plain(text)


def _words(text: str) -> Words:
    return _numbered(_split(text, 0))


def _plain(text: str) -> Words:
    return _numbered(_split(text.lower(), 1))


_remembered_words = functools.lru_cache(maxsize=_REMEMBERED_TEXTS)(_words)
_remembered_plain = functools.lru_cache(maxsize=_REMEMBERED_TEXTS)(_plain)


def _split(text: str, kind: int) -> list[str]:
    """The tokens of a text: with its signs (0), or words alone (1)."""
    if not text.isascii():
        text = _UNSPACED_CHARACTER.sub(r" \g<0> ", text)
    return _patterns()[kind].findall(text)


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Letters have marks in many scripts (Hindi, Arabic, Thai): to `re` those are no parts of a word."""
    marks = [n for n in range(0x300, 0x10000) if unicodedata.category(chr(n))[0] == "M" or n in (0x200C, 0x200D)]
    starts = [n for n, before in zip(marks, [0, *marks], strict=False) if n != before + 1]
    ends = [n for n, after in zip(marks, [*marks[1:], 0], strict=True) if after != n + 1]
    mark = "".join(f"\\u{start:04x}-\\u{end:04x}" for start, end in zip(starts, ends, strict=True))
    letter, sign = rf"[\w{mark}]", rf"[^\w{mark}\s]"
    return re.compile(rf"{letter}+(?:[.,:/@]+{letter}+)*|['’]{letter}+|{sign}+"), re.compile(f"{letter}+")


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
"""The words of a page as a column: each with its box and line; how two readings of a page agree, and what is noise."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.characters import UNREADABLE, codes_of, flags_of

WORDS: Final = pa.list_(
    pa.struct(
        [
            ("text", pa.string()),
            ("box", pa.list_(pa.float32(), 4)),
            ("line", pa.int32()),
            ("confidence", pa.float32()),
        ]
    )
)
"""In the order of reading: as printed; left, top, right and bottom as fractions of the page, so that they fit whatever
size it is drawn in; the number of the line; how sure an OCR engine was, 0 to 1 (null: it was not read by one)."""

_UNSPACED: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_COMPARED = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ]{4,}")
_FEWEST_LETTERS: Final = 100  # in Latin words, below which their vowels are no sample
_VOWELS: Final = (0.23, 0.33)  # of their letters: text that is certainly shifted has fewer, no language seen has fewer


def as_column(
    words: Sequence[str], boxes: Any, lines: Iterable[int], confidences: Iterable[float] | None = None
) -> list[dict[str, Any]]:
    """A value of type WORDS, from words and their boxes N x 4, lines and confidences."""
    lists = np.asarray(boxes, np.float32).tolist()
    given = confidences if confidences is not None else repeat(None)
    numbers = np.asarray(lines).tolist()
    return [
        {"text": text, "box": box, "line": line, "confidence": confidence}
        for text, box, line, confidence in zip(words, lists, numbers, given, strict=False)
    ]


def compared(text: str) -> Counter[str]:
    """The words of a text as they are compared: runs of letters and digits, each Han character and kana by itself.

    After Unicode's NFKC and case folding; a hyphen at the end of a line is taken out with the line's end.
    """
    whole = re.sub(r"(?<=[^\W\d_])[-‐\xad]\n(?=[^\W\d_])", "", text)
    return Counter(_COMPARED.findall(unicodedata.normalize("NFKC", whole).casefold()))


def recall(reference: str, found: str) -> float | None:
    """The share of the reference's words, repeats counted, that were found too; None where it has no words."""
    wanted = compared(reference)
    count = sum(wanted.values())
    return (wanted & compared(found)).total() / count if count else None


def noise_of(words: Sequence[str]) -> float:
    """How far words look like a broken text layer, 0 to 1: characters of no text, or letters that stand for others.

    The larger of two: the share of characters that are unreadable (without a code, private use, controls); and the lack
    of vowels in Latin words of 4 letters and more, 0 at a third of their letters, 1 at less than a quarter, times their
    share of all characters.
    """
    text = "".join(words)
    if not text:
        return 0.0
    unreadable = np.count_nonzero(flags_of(codes_of(text)) & UNREADABLE) / len(text)
    latin = "".join(_LATIN_WORD.findall(" ".join(words)))
    if len(latin) < _FEWEST_LETTERS:
        return float(unreadable)
    plain = unicodedata.normalize("NFD", latin.casefold())
    share = sum(map(plain.count, "aeiouy")) / len(latin)
    lack = min(1.0, max(0.0, (_VOWELS[1] - share) / (_VOWELS[1] - _VOWELS[0])))
    return float(max(unreadable, lack * len(latin) / len(text)))
