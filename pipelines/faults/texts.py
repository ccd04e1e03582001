"""Labelled pools of real texts with planted faults; the same seed makes the same pool."""

from __future__ import annotations

import functools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.faults import plant
from pipelines.faults.table import CLEAN, Item, Pool
from pipelines.materials.drawings import plain_drawings
from pipelines.materials.packages import fetch
from pipelines.materials.plain_texts import MANUALS, SAYINGS, sayings, sections

EDITS = (0.01, 0.02, 0.05, 0.10)
PII = Path(__file__).parents[2] / "tests" / "pii_sentences.txt"
FLAGGED = ("arse", "ass", "cock", "cum", "hell", "hooker", "sex", "shit", "tit", "hot girls")
"""Entries of a list as sites have them; most stand within words of a manual, too: shell, class, title, document."""


def _english(size: int, least_words: int) -> list[str]:
    name = "debian-reference-en"
    both = [
        *(r["text"] for r in sections(name, fetch(name))),
        *(r["text"] for r in sayings("fortunes", fetch("fortunes")) if r),
    ]
    long = list(_distinct_texts(text for text in both if len(text.split()) >= least_words))
    return random.Random(7).sample(long, min(size, len(long)))


def paragraphs(package: str, least: int = 200, most: int = 1500) -> list[str]:
    """Prose of a manual: its paragraphs of that many characters, seven in ten of them letters."""
    whole = "\n\n".join(row["text"] for row in sections(package, fetch(package)))
    found = (" ".join(text.split()) for text in whole.split("\n\n"))
    return [text for text in found if least <= len(text) <= most and sum(map(str.isalpha, text)) > 0.7 * len(text)]


def languages(size: int, kind: str) -> Pool:
    """English texts, and those in other languages: sections of a manual (`long`), sayings of up to 120 characters
    (`short`), names of things in one to four words (`names`)."""
    by_language = {"long": _manuals, "short": _sayings, "names": _names}[kind]()
    english = _some(by_language.pop("en"), size)
    others = [t for texts in by_language.values() for t in _some(texts, max(1, size // len(by_language)))]
    return [Item(f"{n}", CLEAN, text=t) for n, t in enumerate(english)] + [
        Item(f"{n}", "other language", text=t) for n, t in enumerate(others)
    ]


def mixed_languages(size: int) -> Pool:
    """English sections, and English ones whose second half is another language's."""
    by = _manuals()
    english = _some(by.pop("en"), 2 * size)
    foreign = [t for texts in by.values() for t in _some(texts, size // len(by) + 1)]
    clean = [Item(f"{n}", CLEAN, text=t) for n, t in enumerate(english[:size])]
    halves = zip(english[size:], foreign, strict=False)
    return clean + [
        Item(f"{n}", "mixed languages", text=f"{a[: len(a) // 2]} {b[: len(a) // 2]}")
        for n, (a, b) in enumerate(halves)
    ]


def _manuals() -> dict[str, list[str]]:
    """Paragraphs by language, without those that nobody translated."""
    by = {package.removeprefix("debian-reference-"): paragraphs(package) for package in MANUALS}
    english = set(by["en"])
    return {language: [t for t in texts if language == "en" or t not in english] for language, texts in by.items()}


def _sayings() -> dict[str, list[str]]:
    by: dict[str, list[str]] = {}
    for package in SAYINGS:
        for row in sayings(package, fetch(package)):
            if row and 20 < len(row["text"]) <= 120:
                by.setdefault(row["language"], []).append(row["text"])
    return by


def _names() -> dict[str, list[str]]:
    by: dict[str, list[str]] = {}
    for drawing in plain_drawings():
        for language, name in drawing.names.items():
            by.setdefault(language, []).append(name)
    return by


def _some(texts: Sequence[str], size: int) -> list[str]:
    distinct = list(dict.fromkeys(texts))
    return random.Random(7).sample(distinct, min(size, len(distinct)))


def near_copies(size: int, least_words: int = 30) -> Pool:
    """English texts, and of each a copy: 1, 2, 5 or 10 % of its words edited, its sentences in another order, its last
    tenth left out, or a notice put before it; the kinds take turns."""
    texts = _english(size, least_words)
    kinds: Mapping[str, Callable[[str, np.random.Generator], str]] = {
        **{f"{round(100 * share)} % of words edited": functools.partial(_edited, share, texts) for share in EDITS},
        "sentences rearranged": lambda text, draw: plant.rearranged(text, draw),
        "last tenth left out": lambda text, draw: " ".join(text.split(" ")[: -max(1, len(text.split(" ")) // 10)]),
        "notice before it": lambda text, draw: f"This text was found on the web and is shown as it stood there. {text}",
    }
    pool = []
    for number, text in enumerate(texts):
        kind = list(kinds)[number % len(kinds)]
        pool.append(Item(f"{number}", CLEAN, text=text, of=f"{number}"))
        pool.append(Item(f"{number}", kind, text=kinds[kind](text, np.random.default_rng([7, number])), of=f"{number}"))
    return pool


def _distinct_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts that do not repeat one before them: of their runs of three words less than a third stand in it."""
    seen: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        runs = {" ".join(words[at : at + 3]) for at in range(len(words) - 2)}
        shared = Counter(other for run in runs for other in seen.get(run, ()))
        if runs and max(shared.values(), default=0) < len(runs) / 3:
            yield text
            for run in runs:
                seen.setdefault(run, []).append(number)


def _edited(share: float, texts: Sequence[str], text: str, draw: np.random.Generator) -> str:
    return plant.edited(text, share, texts, draw)


def leaks(size: int, home: Path) -> tuple[Pool, Path]:
    """Sections of a manual, and the same with an item of a benchmark in them: word for word, in other case and spaces,
    or with one word in twenty edited. The benchmark is a file of sayings, a blank line between them."""
    draw = np.random.default_rng(7)
    rows = (r["text"] for r in sayings("fortunes", fetch("fortunes")) if r)
    items = _some([t for t in rows if 20 <= len(t.split()) <= 60 and "\n\n" not in t], size)
    path = home / "benchmark.txt"
    path.write_text("\n\n".join(items), encoding="utf-8")
    texts = _some(paragraphs("debian-reference-en"), size)
    ways: Mapping[str, Callable[[str], str]] = {
        "leaked word for word": lambda item: item,
        "leaked in capitals": lambda item: "  ".join(item.split()).upper(),
        "leaked, 5 % of words edited": lambda item: plant.edited(item, 0.05, texts, draw),
    }
    pool = [Item(f"{n}", CLEAN, text=text) for n, text in enumerate(texts)]
    for number, (text, item) in enumerate(zip(texts, items, strict=False)):
        cut, way = len(text) // 2, list(ways)[number % len(ways)]
        pool.append(Item(f"{number}", way, text=f"{text[:cut]}\n{ways[way](item)}\n{text[cut:]}"))
    return pool, path


def repeated(size: int) -> Pool:
    """Sections of a manual, and the same with one of their sentences said six times more, at random places."""
    texts = _some(paragraphs("debian-reference-en"), size)
    pool = [Item(f"{n}", CLEAN, text=text) for n, text in enumerate(texts)]
    for number, text in enumerate(texts):
        pool.append(
            Item(f"{number}", "a sentence repeated", text=plant.with_refrain(text, np.random.default_rng([7, number])))
        )
    return pool


_MARK = re.compile(r"\{\{(\w+):(.*?)\}\}(?!\})")


def personal(kind: str) -> Pool:
    """The labelled sentences of the tests: those with personal data of a kind, and those without any of that kind."""
    found: Iterator[str] = (s for s in PII.read_text(encoding="utf-8").splitlines() if s and not s.startswith("#"))
    pool = []
    for number, line in enumerate(found):
        kinds = {mark[1] for mark in _MARK.finditer(line)}
        pool.append(Item(f"{number}", f"has {kind}" if kind in kinds else CLEAN, text=_MARK.sub(r"\2", line)))
    return pool


def flagged(size: int, home: Path) -> tuple[Pool, Path]:
    """Sections of a manual, and others with one of FLAGGED said at a random place, in some case and with signs around
    it; and the file of the list. Of the clean ones none holds an entry as a word of its own."""
    draw = np.random.default_rng(7)
    path = home / "flagged.txt"
    path.write_text("\n".join(FLAGGED), encoding="utf-8")
    whole = re.compile(rf"\b({'|'.join(FLAGGED)})\b", re.IGNORECASE)
    texts = _some([text for text in paragraphs("debian-reference-en") if not whole.search(text)], 2 * size)
    pool = [Item(f"{n}", CLEAN, text=text) for n, text in enumerate(texts[:size])]
    for number, text in enumerate(texts[size:]):
        entry, words = FLAGGED[number % len(FLAGGED)], text.split(" ")
        said = [entry, entry.upper(), f"“{entry.title()}”,", f"{entry}!", f"({entry})"][number % 5]
        words.insert(int(draw.integers(len(words) + 1)), said)
        pool.append(Item(f"{number}", "a flagged word", text=" ".join(words)))
    return pool, path
