"""WordNet's index: the first sense of a word, found as its own library and NLTK find it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
"""Files by their suffix, and the letter of their part of speech, in the order in which a word's senses are listed."""

FILES = tuple(f"{kind}.{part}" if kind == "index" else f"{part}.{kind}" for part in PARTS for kind in ("index", "exc"))
"""What is read of a WordNet folder."""

_ENDINGS = {
    "n": (("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
          ("men", "man"), ("ies", "y")),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}  # fmt: skip
"""Rules of detachment (WordNet's morphy(7WN)), with NLTK's `ves` for nouns."""


class Synset(NamedTuple):
    """A sense: its part of speech, and its place in that part's data file."""

    part: str
    offset: int


class WordNet:
    """The first sense of every word, and the irregular forms, of a folder with WordNet's index and exception files.

    Miller, "WordNet: a lexical database for English", 1995. Raises OSError for a file that is not there, and ValueError
    for one that is no such file.
    """

    def __init__(self, folder: Path) -> None:
        self._first: Mapping[str, dict[str, int]] = {
            letter: dict(_first_offsets(folder / f"index.{name}")) for name, letter in PARTS.items()
        }
        self._irregular = {letter: _exceptions(folder / f"{name}.exc") for name, letter in PARTS.items()}
        self._known: dict[str, Synset | None] = {}

    def first_synset(self, word: str) -> Synset | None:
        """The first sense of a word, in lower case and without its ending where it is not listed as it stands."""
        word = word.lower()
        if word not in self._known:
            if len(self._known) > 1 << 18:  # the words of the web have no end
                self._known.clear()
            self._known[word] = self._look_up(word)
        return self._known[word]

    def lemmas(self) -> list[str]:
        """All words and collocations, sorted, `_` as a space."""
        return sorted({lemma.replace("_", " ") for words in self._first.values() for lemma in words})

    def _look_up(self, word: str) -> Synset | None:
        for part, listed in self._first.items():
            irregular = self._irregular[part].get(word)
            regular = (word[: -len(old)] + new for old, new in _ENDINGS[part] if word.endswith(old))
            for form in (word, *(regular if irregular is None else irregular)):
                if form in listed:
                    return Synset(part, listed[form])
        return None


def _first_offsets(path: Path) -> Iterator[tuple[str, int]]:
    """Lemma and offset of its first sense, of each line: `lemma pos senses pointers... senses tagged offset...`."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith(" "):  # the licence
                continue
            try:
                lemma, _, senses, pointers, *rest = line.split()
                offset = rest[int(pointers) + 2]
                if int(senses) < 1 or len(offset) != 8:
                    raise ValueError(offset)
                yield lemma, int(offset)
            except (ValueError, IndexError):
                raise ValueError(f"{path}:{number}: not a line of WordNet's index: {line[:60].strip()!r}") from None


def _exceptions(path: Path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8") as lines:
        return {form: lemmas for form, *lemmas in map(str.split, lines)}


def synset_id(text: str) -> Synset:
    """A synset's name, `n01440764`. Raises ValueError."""
    if len(text) != 9 or text[0] not in "nvar" or not text[1:].isdigit():
        raise ValueError(f"{text[:60]!r} is no synset: a letter of n, v, a, r, and eight digits")
    return Synset(text[0], int(text[1:]))
