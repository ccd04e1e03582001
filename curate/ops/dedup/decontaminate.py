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
from curate.text.words import Numbers, plain_words, window_hashes


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
    version=2,
)
class contamination:  # noqa: N801 - ops are named as recipes name them
    """Runs of `run_words` words that a text shares with an item of the benchmarks; the first one found, and of which.

    runs: how many of the text's runs; share: of its words, those in such a run; by: file and number of the item, from
    1; words: the run as plain words. `benchmarks`: files as `curate.readers.texts` reads them, of tables the `columns`,
    each an item of its own; files of text with `split` between items. An item of fewer words is looked for as a whole,
    one of fewer than `min_words` not at all: it stands everywhere.
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
            for name, item in _items(path, columns or ["text"], split):
                numbers = plain_words(item).numbers
                if len(numbers) >= min_words:
                    length = min(run_words, len(numbers))
                    hashes = window_hashes(numbers, length)
                    found.setdefault(length, []).append((hashes, np.full(len(hashes), len(self._names))))
                    self._names.append(name)
        if not found:
            raise ValueError(f"contamination: no item of {', '.join(benchmarks)} has {min_words} words")
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


def _items(path: Path, columns: Sequence[str], split: str) -> Iterator[tuple[str, str]]:
    """Name and text of each item. Raises ValueError for a benchmark that is damaged: a part would be missed."""
    is_table = texts.kind_of(path) in texts.TABLE_SUFFIXES
    for column in columns if is_table else columns[:1]:
        try:
            for row in texts.read(path, text=column, split=None if is_table else split):
                if not isinstance(row, tables.BadRow):
                    yield row["origin"], row["text"]
                elif row.error not in ("missing_text", "empty_text"):
                    raise ValueError(f"benchmark {path}: {row.error}: {row.detail}")
        except tables.TableError as err:
            raise ValueError(f"contamination: benchmark {err}; the knob `columns` names those to look into") from None


def _sorted(parts: Sequence[tuple[Numbers, npt.NDArray[np.int64]]]) -> _Runs:
    hashes, items = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(hashes, kind="stable")
    first = np.concatenate(([True], hashes[order[1:]] != hashes[order[:-1]]))
    return _Runs(hashes[order[first]], items[order[first]])
