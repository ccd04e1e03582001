"""Decontamination: runs of words that a text shares with benchmarks' items.

Brown et al. 2020 (GPT-3), appendix C: runs of 13 words, lower case, signs left out. What to do with a find is a rule's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.models.files import file_digest
from curate.ops.spec import Columns, Count, Knobs, Natural, op
from curate.readers import tables, texts
from curate.text.unspaced import has_unspaced
from curate.text.words import Numbers, Words, plain_words, window_hashes


@dataclass(frozen=True)
class _Runs:
    """All runs of one length: sorted `hashes` (n,), and the item that each stands in first, `items` (n,)."""

    hashes: Numbers
    items: npt.NDArray[np.int64]


@op(
    reads="text",
    writes={
        "contaminated_runs": pa.int32(),
        "contaminated_share": pa.float32(),
        "contaminated_by": pa.string(),
        "contaminated_words": pa.string(),
    },
    version=3,
)
class contamination:  # noqa: N801 - ops are named as recipes name them
    """Runs of `run_words` words that a text shares with an item of the benchmarks; the first one found, and of which.

    runs: how many of the text's runs; share: of its words, those in such a run; by: file and number of the item, from
    1; words: the run as plain words. `benchmarks`: files as `curate.readers.texts` reads them, of tables the `columns`,
    each an item of its own; files of text with `split` between items. An item of fewer words is looked for as a whole,
    one of fewer than `min_words` not at all: it stands everywhere. In scripts without spaces, where a word is a
    character or a cluster, runs and least items are twice as long. Raises ValueError where a file could not be read
    whole, or where most items of each of its columns have too few words: nobody would learn that they were not looked
    for.
    """

    def __init__(
        self, *, benchmarks: list[str], columns: list[str] | None = None, split: str = "\n\n",
        run_words: Count = 13, min_words: Natural = 8,
    ) -> None:  # fmt: skip
        if not 1 <= min_words <= run_words:
            raise ValueError(f"contamination: min_words {min_words} must be between 1 and run_words {run_words}")
        self._names: list[str] = []
        found: dict[int, list[tuple[Numbers, npt.NDArray[np.int64]]]] = {}
        for path in _files(benchmarks):
            enough = False
            for items in _columns_of(path, columns or ["text"], split):
                numbered = [(name, plain_words(item)) for name, item in items]
                looked_for = [
                    (name, words) for name, words in numbered if len(words.tokens) >= _units(words, min_words)
                ]
                enough |= 2 * len(looked_for) >= len(numbered) > 0
                for name, words in looked_for:
                    length = min(_units(words, run_words), len(words.tokens))
                    hashes = window_hashes(words.numbers, length)
                    found.setdefault(length, []).append((hashes, np.full(len(hashes), len(self._names))))
                    self._names.append(name)
            if not enough:
                raise ValueError(
                    f"contamination: most items of {path} have fewer than {min_words} words and would not be looked"
                    " for; lower `min_words` (5 or 4 for short questions), or name columns of longer texts"
                )
        self._runs = {length: _sorted(parts) for length, parts in sorted(found.items(), reverse=True)}

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digests of the benchmarks' files."""
        return " ".join(file_digest(path) for path in _files(knobs["benchmarks"]))

    def __call__(self, batch: Sequence[str]) -> Columns:
        """What each text shares with the benchmarks."""
        rows = [self._found(text) for text in batch]
        names = ("contaminated_runs", "contaminated_share", "contaminated_by", "contaminated_words")
        return {name: [row[place] for row in rows] for place, name in enumerate(names)}

    def _found(self, text: str) -> tuple[int, float, str | None, str | None]:
        words = plain_words(text)
        covered = np.zeros(len(words.tokens), bool)
        first: tuple[int, int, int] | None = None
        count = 0
        for length, runs in self._runs.items():
            hashes = window_hashes(words.numbers, length)
            places = np.searchsorted(runs.hashes, hashes).clip(max=len(runs.hashes) - 1)
            hits = np.flatnonzero(runs.hashes[places] == hashes)
            count += len(hits)
            for offset in range(length):
                covered[hits + offset] = True
            if len(hits) and (first is None or hits[0] < first[0]):
                first = int(hits[0]), length, int(runs.items[places[hits[0]]])
        if first is None:
            return 0, 0.0, None, None
        at, length, item = first
        return count, float(covered.mean()), self._names[item], " ".join(words.tokens[at : at + length])


def _files(benchmarks: Sequence[str]) -> list[Path]:
    return [path for pattern in benchmarks for path in tables.expand(pattern)]


def _units(words: Words, count: int) -> int:
    """As many words as `count` words of a script with spaces: twice as many of one without.

    On a manual in German and its translations, runs of 13 words are shared by 2.8 % of its paragraphs with others of
    it, runs of 13 characters by 6.8 % in Chinese and 20 % in Japanese, of 26 by 1.1 and 3.4 %.
    """
    unspaced = sum(map(has_unspaced, words.tokens))
    return 2 * count if 2 * unspaced > len(words.tokens) else count


def _columns_of(path: Path, columns: Sequence[str], split: str) -> Iterator[list[tuple[str, str]]]:
    """The items of each column, name and text. Raises ValueError for a benchmark of which a part would be missed."""
    is_table = texts.kind_of(path) in texts.TABLE_SUFFIXES
    for column in columns if is_table else columns[:1]:
        items: list[tuple[str, str]] = []
        lacking = 0
        try:
            for row in texts.read(path, text=column, split=None if is_table else split):
                if not isinstance(row, tables.BadRow):
                    items.append((row["origin"], row["text"]))
                elif row.error not in ("missing_text", "empty_text"):
                    raise ValueError(f"benchmark {path}: {row.error}: {row.detail}")
                else:
                    lacking += row.error == "missing_text"
        except tables.TableError as err:
            raise ValueError(f"contamination: benchmark {err}; the knob `columns` names those to look into") from None
        if lacking and not items:
            raise ValueError(f"contamination: column {column!r} of {path} holds no text (a list of choices is none)")
        yield items


def _sorted(parts: Sequence[tuple[Numbers, npt.NDArray[np.int64]]]) -> _Runs:
    hashes, items = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(hashes, kind="stable")
    first = np.concatenate(([True], hashes[order[1:]] != hashes[order[:-1]]))
    return _Runs(hashes[order[first]], items[order[first]])
