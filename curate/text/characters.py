"""Classify characters by tables over code points: spaces, whole words of one character, scripts."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.uint8]

SPACE: Final = 1
WHOLE_WORD: Final = 2
LEFTWARDS: Final = 4
UNREADABLE: Final = 8
DOT: Final = 16
"""Flags: white space; Han and kana, which are words by themselves; right-to-left scripts; no character of any text;
what fills the line before a page's number."""

_TABLE_SIZE: Final = 0x32000  # what lies above is tags, variation selectors and private use

_RANGES: Final = (
    (SPACE, ((0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200B))),
    (SPACE, ((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000))),
    (WHOLE_WORD, ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3134F))),
    (LEFTWARDS, ((0x0590, 0x08FF), (0xFB1D, 0xFDCF), (0xFDF0, 0xFDFF), (0xFE70, 0xFEFE), (0x10800, 0x10FFF))),
    (DOT, ((0x2E, 0x2E), (0x5F, 0x5F), (0xB7, 0xB7), (0x2024, 0x2026))),
    (UNREADABLE, ((0x00, 0x08), (0x0E, 0x1B), (0x7F, 0x84), (0x86, 0x9F), (0xD800, 0xF8FF), (0xFDD0, 0xFDEF))),
    (UNREADABLE, ((0xFFF0, 0xFFFD), (0xFFFF, 0xFFFF))),
)

SCRIPTS: Final = (
    ("Latn", ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF), (0xFB00, 0xFB06), (0xFF21, 0xFF5A))),
    ("Grek", ((0x370, 0x3FF), (0x1F00, 0x1FFF))),
    ("Cyrl", ((0x400, 0x52F),)),
    ("Armn", ((0x531, 0x58F),)),
    ("Hebr", ((0x590, 0x5FF), (0xFB1D, 0xFB4F))),
    ("Arab", ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDCF), (0xFDF0, 0xFDFF), (0xFE70, 0xFEFC))),
    ("Deva", ((0x900, 0x97F),)),
    ("Beng", ((0x980, 0x9FF),)),
    ("Guru", ((0xA00, 0xA7F),)),
    ("Gujr", ((0xA80, 0xAFF),)),
    ("Orya", ((0xB00, 0xB7F),)),
    ("Taml", ((0xB80, 0xBFF),)),
    ("Telu", ((0xC00, 0xC7F),)),
    ("Knda", ((0xC80, 0xCFF),)),
    ("Mlym", ((0xD00, 0xD7F),)),
    ("Sinh", ((0xD80, 0xDFF),)),
    ("Thai", ((0xE00, 0xE7F),)),
    ("Laoo", ((0xE80, 0xEFF),)),
    ("Tibt", ((0xF00, 0xFFF),)),
    ("Mymr", ((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))),
    ("Khmr", ((0x1780, 0x17FF),)),
    ("Ethi", ((0x1200, 0x139F),)),
    ("Geor", ((0x10A0, 0x10FF),)),
    ("Hang", ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF))),
    ("Hani", ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3134F))),
    ("Kana", ((0x3040, 0x30FF),)),
)
"""Scripts by their ISO 15924 code, hiragana and katakana together as `Kana`, and the blocks of their letters."""

_KANA_OF_JAPANESE: Final = 0.1


def codes_of(text: str) -> Codes:
    """The code points of a text; halves of surrogate pairs are kept as they are."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def flags_of(codes: Codes) -> Flags:
    """The flags of each character."""
    table = _flags()
    flags: Flags = table[np.minimum(codes, _TABLE_SIZE - 1)]
    return flags


def is_leftwards(flags: Flags) -> bool:
    """Whether most characters that are no spaces are of scripts that are written from right to left."""
    return bool(2 * np.count_nonzero(flags & LEFTWARDS) > np.count_nonzero(flags & SPACE == 0))


def is_whole_word(character: str) -> bool:
    """Whether a character is a word by itself: Han and kana."""
    return bool(flags_of(codes_of(character))[0] & WHOLE_WORD)


def script_of(codes: Codes) -> str | None:
    """The script of most letters, as its ISO 15924 code (`Jpan` where kana stand among Han); None without letters."""
    counts = np.bincount(script_numbers(codes), minlength=len(SCRIPTS) + 1)[1:]
    by_name = {name: int(count) for (name, _), count in zip(SCRIPTS, counts, strict=True)}
    kana, han = by_name.pop("Kana"), by_name["Hani"]
    if kana > _KANA_OF_JAPANESE * (kana + han):
        by_name["Jpan"] = kana + by_name.pop("Hani")
    best = max(by_name, key=lambda name: by_name[name])
    return best if by_name[best] else None


def script_numbers(codes: Codes) -> Flags:
    """For each character the number of its script, from 1, in the order of `SCRIPTS`; 0 in no block of theirs."""
    numbers: Flags = _scripts()[np.minimum(codes, _TABLE_SIZE - 1)]
    return numbers


@cache
def _flags() -> Flags:
    table = np.zeros(_TABLE_SIZE, np.uint8)
    for flag, ranges in _RANGES:
        for first, last in ranges:
            table[first : last + 1] |= flag
    table[-1] = UNREADABLE
    return table


@cache
def _scripts() -> Flags:
    table = np.zeros(_TABLE_SIZE, np.uint8)
    for number, (_, ranges) in enumerate(SCRIPTS, start=1):
        for first, last in ranges:
            table[first : last + 1] = number
    return table
