"""Words of a page as a column, how two readings of a page agree, and how noisy they are."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise, repeat
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.text.characters import SCRIPTS, UNREADABLE, codes_of, flags_of, script_numbers
from curate.text.unspaced import HAN_AND_KANA, UNSPACED, UNSPACED_WORD

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

_WORD = re.compile(rf"[{HAN_AND_KANA}]|[^\s{HAN_AND_KANA}]+")
_COMPARED = re.compile(rf"{UNSPACED_WORD}|[^\W_{UNSPACED}]+")
_NUMBERS: Final = {name: number for number, (name, _) in enumerate(SCRIPTS, start=1)}
_LATIN, _GREEK, _CYRILLIC = (_NUMBERS[name] for name in ("Latn", "Grek", "Cyrl"))
_STAND_ALONE: Final = {
    0,
    *(_NUMBERS[name] for name in ("Hani", "Kana", "Hang", "Thai", "Laoo", "Khmr", "Mymr", "Tibt")),
}
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ]{4,}")
_FEWEST_LETTERS: Final = 100  # in Latin words, below which their vowels are no sample
_FEWEST_MIXED: Final = 4  # letters of a word, Greek among Latin: shorter ones are formulas
_VOWELS: Final = (0.23, 0.33)  # of their letters: text that is certainly shifted has fewer, no language seen has fewer


def split_words(text: str) -> list[tuple[int, int]]:
    """Split a line into words: (begin, end) of what stands between spaces, Han characters and kana one by one."""
    return [found.span() for found in _WORD.finditer(text)]


def join_lines(lines: Sequence[str], hyphen: str = "-") -> str:
    """Join lines to a text, in which a word that ends in `hyphen` at the end of its line is made whole on that line.

    The hyphen stays where the next line begins with a capital or a digit, or where no line follows.
    """
    text = "\n".join(lines)
    if hyphen in text:
        text = re.sub(rf"{hyphen}\n(\S+)[ \n]?", _rejoined, text).removesuffix("\n")
    return text.replace(hyphen, "-")


def _rejoined(found: re.Match[str]) -> str:
    rest = found[1]
    if not found.string[max(0, found.start() - 1)].isalpha():
        return found[0]
    kept = "" if rest[0].isalpha() and not rest[0].isupper() else "-"
    return f"{kept}{rest}\n"


def words_column(
    words: Sequence[str], boxes: Any, lines: Iterable[int], confidences: Iterable[float] | None = None
) -> list[dict[str, Any]]:
    """Make a value of type WORDS from words and their boxes N x 4, lines and confidences."""
    lists = np.asarray(boxes, np.float32).tolist()
    given = confidences if confidences is not None else repeat(None)
    numbers = np.asarray(lines).tolist()
    return [
        {"text": text, "box": box, "line": line, "confidence": confidence}
        for text, box, line, confidence in zip(words, lists, numbers, given, strict=False)
    ]


def comparable_words(text: str) -> Counter[str]:
    """The words of a text as they are compared: runs of letters and digits, in scripts without spaces characters
    or clusters (`curate.text.unspaced`).

    After Unicode's NFKC and case folding; a hyphen at the end of a line is taken out with the line's end.
    """
    whole = re.sub(r"(?<=[^\W\d_])[-‐\xad]\n(?=[^\W\d_])", "", text)
    return Counter(_COMPARED.findall(unicodedata.normalize("NFKC", whole).casefold()))


def word_recall(reference: str, found: str) -> float | None:
    """The share of the reference's words, repeats counted, that were found too; None where it has no words."""
    wanted = comparable_words(reference)
    count = sum(wanted.values())
    return (wanted & comparable_words(found)).total() / count if count else None


def text_noise(words: Sequence[str]) -> float:
    """Likeness of words to a broken text layer, 0 to 1: characters of no text, or letters that stand for others.

    The largest of three: the share of characters that are unreadable (without a code, private use, controls); that of
    characters in words that no script writes, with letters of another one inside or a combining mark in front; and the
    lack of vowels in Latin words of 4 letters and more, 0 at a third of their letters, 1 at less than a quarter, times
    their share of all characters.
    """
    text = "".join(words)
    if not text:
        return 0.0
    codes = codes_of(text)
    unreadable = float(np.count_nonzero(flags_of(codes) & UNREADABLE) / len(text))
    unreadable = max(unreadable, _unwritable(list(filter(None, words)), script_numbers(codes)) / len(text))
    latin = "".join(_LATIN_WORD.findall(" ".join(words)))
    if len(latin) < _FEWEST_LETTERS:
        return unreadable
    plain = unicodedata.normalize("NFD", latin.casefold())
    share = sum(map(plain.count, "aeiouy")) / len(latin)
    lack = min(1.0, max(0.0, (_VOWELS[1] - share) / (_VOWELS[1] - _VOWELS[0])))
    return float(max(unreadable, lack * len(latin) / len(text)))


def _unwritable(words: Sequence[str], scripts: npt.NDArray[np.uint8]) -> int:
    """The characters of words that no script writes; `scripts`: the number of each character's, word by word."""
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    starts = np.cumsum(lengths) - lengths
    most = np.maximum.reduceat(scripts, starts)
    least = 255 - np.maximum.reduceat(np.where(scripts, 255 - scripts, 0), starts)
    marked = np.array([word[0] > "\u02ff" and unicodedata.category(word[0])[0] == "M" for word in words], np.bool_)
    for place in np.flatnonzero((least < most) & ~marked).tolist():
        own = scripts[starts[place] : starts[place] + lengths[place]].tolist()
        marked[place] = _mixes_scripts(words[place], own)
    return int(lengths[marked].sum())


def _mixes_scripts(word: str, scripts: list[int]) -> bool:
    """Whether letters side by side are of scripts that no word mixes; scripts without spaces stand beside any."""
    letters = (
        0 if own in _STAND_ALONE or unicodedata.category(letter)[0] not in "LM" else own
        for letter, own in zip(word, scripts, strict=True)
    )
    runs = [list(group) for is_run, group in groupby(letters, key=bool) if is_run]
    return any(len(set(run)) > 1 and not _are_written_together(run) for run in runs)


def _are_written_together(run: list[int]) -> bool:
    """Whether letters of these scripts may stand side by side, as in formulas (Greek and Latin), or PDFs (and others).

    Latin stands before or behind letters of others, two or more; Greek beside few letters, or as the smaller part.
    Between letters of another script there is none. Cyrillic and Latin look too much alike to be mixed.
    """
    kinds, changes = set(run), sum(one != other for one, other in pairwise(run))
    if kinds == {_LATIN, _GREEK}:
        return len(run) < _FEWEST_MIXED or (changes == 1 and 2 * run.count(_GREEK) <= len(run))
    return len(kinds) == 2 and _LATIN in kinds and _CYRILLIC not in kinds and changes == 1 and run.count(_LATIN) > 1
