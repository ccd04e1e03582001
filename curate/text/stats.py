"""Measures of a text or paragraph by OBELICS (Laurençon et al. 2023, appendix A.2): pure functions.

The thresholds are a recipe's. OBELICS writes for English; where a text is plain English the values are its own, save
the word lists, which are ours. Beyond that: in scripts without spaces a character or cluster is a word, marks of other
scripts are punctuation too, and a special character is any that is neither a letter nor a letter's mark, whatever the
script.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import re
import string
import sys
import unicodedata
from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curate.text.function_words import FUNCTION_WORDS
from curate.text.unspaced import UNSPACED, UNSPACED_WORD, has_unspaced
from curate.text.words import code_points, window_hashes

MARKS = frozenset(",;:?!." + "，；：？！。．、､｡" + "؟؛،۔" + "।॥" + "։՞" + "።፣" + "၊။" + "។៕" + "།")
"""What ends or parts sentences and clauses: OBELICS's six, and their like in Chinese, Arabic, Hindi and others."""

_FLAGGED = """
    anal bdsm blowjob blowjobs bukkake camgirl camgirls creampie cuckold cumshot cumshots cunnilingus deepthroat dildo
    dildos doggystyle femdom fisting footjob gangbang handjob hentai incest jizz milf milfs nsfw orgies orgy porn porno
    pornhub pornography pornos pornstar pornstars rimjob sextape sexcam shemale slut sluts threesome xhamster xnxx
    xvideos xxx follando nutten putas порно"""
FLAGGED_WORDS = frozenset(_FLAGGED.split())
"""Words that hardly stand in a text but for pornography's sake; a recipe names its own list where more is meant."""

_COMMON_SPECIAL = string.punctuation + string.digits + "“”‘’«»–—…•·，。、；：？！（）「」《》"
_RUN = re.compile(rf"{UNSPACED_WORD}|[^{UNSPACED}]+")
_MARK = f"[{''.join(sorted(MARKS))}]"
_WORD_OR_MARK = re.compile(rf"[\w']+|{_MARK}")
_UNSPACED_OR_MARK = re.compile(rf"{UNSPACED_WORD}|(?:(?![{UNSPACED}])[\w'])+|{_MARK}")


@functools.lru_cache(maxsize=8)
def words(text: str) -> tuple[str, ...]:
    """The words of a text, in lower case, between spaces, special characters stripped from both ends."""
    pieces = text.lower().split()
    if has_unspaced(text):
        pieces = [run for piece in pieces for run in _RUN.findall(piece)]
    cores = (piece if piece.isalpha() else _core(piece) for piece in pieces)
    return tuple(core for core in cores if core)


def _core(piece: str) -> str:
    """`piece` from its first to its last letter or mark of a letter; empty without one."""
    piece = piece.strip(_COMMON_SPECIAL)
    special = _special_bytes()
    if not piece or not (special[ord(piece[0])] or special[ord(piece[-1])]):
        return piece  # nearly always, and ten times as fast
    letters = np.flatnonzero(~_is_special()[code_points(piece)])
    return piece[int(letters[0]) : int(letters[-1]) + 1] if len(letters) else ""


def char_repetition(text: str, n: int = 10) -> float:
    """Share of the runs of `n` characters of the most frequent kinds: the square root of all kinds, none met once."""
    counts = _counts(window_hashes(code_points(text).astype(np.uint64), n))
    if not len(counts):
        return 0.0
    most = min(int(np.sqrt(len(counts))), int((counts > 1).sum()))
    return float(np.sort(counts)[len(counts) - most :].sum() / counts.sum())


def word_repetition(text: str, n: int = 5) -> float:
    """Share of the runs of `n` words that stand in the text more than once, each occurrence counted."""
    numbers = dict[str, int]()
    ids = [numbers.setdefault(word, len(numbers) + 1) for word in words(text)]
    counts = _counts(window_hashes(np.array(ids, np.uint64), n))
    return float(counts[counts > 1].sum() / counts.sum()) if len(counts) else 0.0


def _counts(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """How often each distinct number occurs."""
    if not len(hashes):
        return np.zeros(0, np.int64)
    ordered = np.sort(hashes)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return np.diff(np.append(starts, len(ordered)))


def special_characters(text: str) -> float:
    """Share of the characters that are neither letters nor marks of letters: digits, spaces, signs, emoji."""
    return float(_is_special()[code_points(text)].mean()) if text else 0.0


@functools.cache
def _is_special() -> npt.NDArray[np.bool_]:
    """(0x110000,) by code point."""
    return np.fromiter(
        (unicodedata.category(chr(n))[0] not in "LM" for n in range(sys.maxunicode + 1)), bool, sys.maxunicode + 1
    )


@functools.cache
def _special_bytes() -> bytes:
    return _is_special().tobytes()


def stop_words(text: str, language: str | None) -> float | None:
    """Share of the words that are function words of `language` (ISO 639); None where no list is known for it."""
    function_words = FUNCTION_WORDS.get(language or "")
    return None if function_words is None else share_among(text, function_words)


def flagged_words(text: str, flagged: Collection[str] = FLAGGED_WORDS) -> float:
    """Share of the words that are among `flagged` (lower case)."""
    return share_among(text, flagged)


def common_words(text: str, language: str | None, known: Collection[str] | None = None) -> float | None:
    """Share of the words that are common in `language`: among `known`, or by default (English alone) those that
    CLIP's vocabulary, learnt from captions, holds whole. None where no list is known."""
    if known is None:
        if language != "en":
            return None
        known = common_english()
    return share_among(text, known)


def share_among(text: str, vocabulary: Collection[str]) -> float:
    """Share of the words that are among `known`; 0 without words."""
    found = words(text)
    return sum(word in vocabulary for word in found) / len(found) if found else 0.0


def punctuation(text: str) -> float:
    """Share of marks (MARKS) among words and marks; 0 without any."""
    tokens = _words_and_marks(text)
    return sum(token in MARKS for token in tokens) / len(tokens) if tokens else 0.0


def punctuation_tokens(text: str) -> int:
    """The number of words and marks that `punctuation` counts."""
    return len(_words_and_marks(text))


def _words_and_marks(text: str) -> list[str]:
    return (_UNSPACED_OR_MARK if has_unspaced(text) else _WORD_OR_MARK).findall(text)


@functools.cache
def common_english() -> frozenset[str]:
    """Some 37,000 words: the ends of CLIP's byte pairs, read from the file that open_clip ships; never imported."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None and package.origin is not None, "open_clip is a dependency"
    vocabulary = Path(package.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(vocabulary, "rt", encoding="utf-8") as file:
        pairs = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    whole = (pair.replace(" ", "") for pair in pairs if pair.endswith("</w>"))
    return frozenset(word.removesuffix("</w>") for word in whole) | FUNCTION_WORDS["en"]
