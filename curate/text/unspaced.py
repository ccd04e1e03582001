"""Words of scripts that put no space between them, as regular expressions.

Han and kana are words by the character, and of other such scripts each cluster is one.

A cluster is a letter with what is written around it: its marks, vowels before and after it, letters stacked below, in
Burmese the consonant that closes the syllable; in Tibetan what stands between two dots. Thai, Lao, Khmer, Burmese, Tai,
Javanese, Balinese, Buginese, Yi and kana of half the width have them too. A dictionary has words of one language,
and others with each version; clusters stay as they are, and repeats and near copies are found by them as by the
characters of Chinese.
"""

from __future__ import annotations

import re
from typing import Final

HAN_AND_KANA: Final = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Each character is a word; a part of a class, as in `[...]`."""

_LEADING = r"\u0e40-\u0e44\u0ec0-\u0ec4\uaab5\uaab6\uaab9\uaabb\uaabc"
"""Vowels that are written, and stored, before the letter that they are spoken after."""

_LETTERS = (
    r"\u0e01-\u0e2e\u0e81-\u0eae\u0edc-\u0edf\u1000-\u102a\u103f\u1050-\u1055\u105a-\u105d\u1061\u1065\u1066"
    r"\u106e-\u1070\u1075-\u1081\u108e\ua9e0-\ua9e4\ua9e6-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa76\uaa7a\uaa7e\uaa7f"
    r"\u1780-\u17b3\u17dc\u1950-\u1974\u1980-\u19c9\u1a20-\u1a54\uaa80-\uaaaf\uaab1\uaaba\uaabd"
    r"\ua984-\ua9b2\u1b05-\u1b33\u1b45-\u1b4c\u1a00-\u1a16\ua000-\ua48c\uff66-\uff9d"
)
_FOLLOWING = (
    r"\u0e2f-\u0e3a\u0e45-\u0e4e\u0eaf-\u0ebd\u0ec6-\u0ecd\u102b-\u103e\u1056-\u1059\u105e-\u1060\u1062-\u1064"
    r"\u1067-\u106d\u1071-\u1074\u1082-\u108d\u108f\u109a-\u109d\ua9e5\ua9e6\uaa70\uaa7b-\uaa7d\u17b4-\u17d3\u17d7\u17dd"
    r"\u1a55-\u1a7f\u1aa7\uaab0\uaab2-\uaab4\uaab7\uaab8\uaabe-\uaac2\uaadd\ua980-\ua983\ua9b3-\ua9c0\ua9cf"
    r"\u1b00-\u1b04\u1b34-\u1b44\u1b6b-\u1b73\u1a17-\u1a1b\uff9e\uff9f"
)
_STACKING = r"\u1039\u17d2\u1a60\ua9c0\u1b44"
"""Signs that put the next letter below the one before."""

_TIBETAN = r"\u0f00\u0f18\u0f19\u0f35\u0f37\u0f39\u0f3e-\u0f6c\u0f71-\u0f84\u0f86-\u0fbc\u0fc6"
_PARTING = r"\u200b\u0f0b\u0f0c"
"""Characters that part words without white space: U+200B, as Khmer and Burmese have it, and Tibetan's dots."""

_CLOSING = r"[\u1000-\u1021]\u1037?\u103a"

UNSPACED: Final = f"{HAN_AND_KANA}{_LEADING}{_LETTERS}{_FOLLOWING}{_TIBETAN}{_PARTING}"
"""All characters of such scripts that are letters or marks, and what parts words in them; a part of a class."""

UNSPACED_WORD: Final = (
    rf"[{HAN_AND_KANA}]|[{_LEADING}]*+[{_LETTERS}](?:[{_STACKING}][{_LETTERS}]|{_CLOSING}|[{_FOLLOWING}\u200c\u200d])*+"
    rf"|[{_TIBETAN}]++|[{_LEADING}]++|[{_FOLLOWING}]++"
)
"""One word of them; what is in `UNSPACED` and in no such word parts words."""

_ANY = re.compile(f"[{UNSPACED}]")
_CLUSTERED = re.compile(f"[{_LEADING}{_LETTERS}{_FOLLOWING}{_TIBETAN}]")
_EACH = re.compile(rf"{UNSPACED_WORD}|[{_PARTING}]")


def has_unspaced(text: str) -> bool:
    """Whether a text has a character of `UNSPACED`."""
    return not text.isascii() and _ANY.search(text) is not None


def has_clusters(text: str) -> bool:
    """Whether a text has a character of those scripts whose words are clusters: neither Han nor kana."""
    return not text.isascii() and _CLUSTERED.search(text) is not None


def space_out(text: str) -> str:
    """Put a space before and behind each word of a script that puts none."""
    return _EACH.sub(_spaced, text) if has_unspaced(text) else text


def _spaced(found: re.Match[str]) -> str:
    return " " if found[0] in "\u200b\u0f0b\u0f0c" else f" {found[0]} "
