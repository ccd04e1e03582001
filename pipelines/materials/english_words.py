"""Make the list of English words by their capitals: `python -m pipelines.materials.english_words FILE`.

Words and names are SCOWL's (Debian's wamerican); a word that it has with a capital and without (Ford, ford) is told by
how WordNet's glosses write it.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.commit import commit_file
from pipelines.materials.packages import fetch

_INSIDE = re.compile(r"(?<=[a-z,] )[A-Za-z]+")
"""A word within a sentence, where a capital is one of its own."""

_NAME, _EITHER = 3.0, 0.25
"""Capitals over small letters, above which a word is a name alone, and above which it may be one."""


def cased_words(spelled: Sequence[str], glosses: Iterator[str]) -> list[str]:
    """The words, in order: `apple`, none but a word; `Paris`, none but a name; `king` and `King`, which is either;
    `brown` and `BROWN`, which is seldom a name."""
    plain = {word for word in spelled if word.islower() and not word.endswith("'s")}
    names = {word for word in spelled if len(word) > 1 and word.istitle() and word.isalpha()}
    small, capital = _counts(glosses)
    found = set(plain | names)
    for name in names & {word.capitalize() for word in plain}:
        word = name.lower()
        if capital[word] > _NAME * small[word]:
            found.discard(word)
        elif capital[word] <= _EITHER * small[word]:
            found.discard(name)
            found.add(word.upper())
    return sorted(found)


def _counts(glosses: Iterator[str]) -> tuple[Counter[str], Counter[str]]:
    """How often each word stands in glosses with a small letter and with a capital."""
    small, capital = Counter[str](), Counter[str]()
    for gloss in glosses:
        for word in _INSIDE.findall(gloss):
            (small if word[0].islower() else capital)[word.lower()] += 1
    return small, capital


def _glosses(wordnet: Path) -> Iterator[str]:
    for part in ("noun", "verb", "adj", "adv"):
        with open(wordnet / f"data.{part}", encoding="latin-1") as lines:
            yield from (line.partition("| ")[2] for line in lines if not line.startswith("  "))


def main(argv: Sequence[str]) -> int:
    """Write the list to a file, packed."""
    if len(argv) != 1:
        print("usage: python -m pipelines.materials.english_words curate/text/english.txt.gz", file=sys.stderr)
        return 2
    spelled = (fetch("wamerican") / "usr/share/dict/american-english").read_text(encoding="utf-8").split()
    words = cased_words(spelled, _glosses(fetch("wordnet-base") / "usr/share/wordnet"))
    with commit_file(Path(argv[0])) as path:
        path.write_bytes(gzip.compress("\n".join(words).encode(), mtime=0))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
