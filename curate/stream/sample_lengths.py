"""Look up lengths of a mixture's samples in its shards' indexes, where needed; nothing is held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate import mix
from curate.mix.indexes import COUNTED_BY, read_index, sample_lengths
from curate.shards import load_dataset
from curate.tokens.encoders import counting

Ints = npt.NDArray[np.int64]
SHARDS_KEPT = 1024
"""Shards whose columns stay at hand: 8 bytes a sample and unit each."""


class SampleLengths:
    """Text tokens, images, or another unit of the samples of a mixture, from the indexes alone."""

    def __init__(self, mixture: mix.Mixture) -> None:
        self.visual_tokens = mixture.manifest.visual_tokens
        self.folders = [mixture.folder(number) for number in range(len(mixture.manifest.datasets))]
        self.infos = [load_dataset(folder) for folder in self.folders]
        self.ends = [np.cumsum([shard.samples for shard in info.shards]) for info in self.infos]
        self._reset_caches()

    def _reset_caches(self) -> None:
        self._shard = lru_cache(SHARDS_KEPT)(self._column)
        self._table = lru_cache(SHARDS_KEPT)(self._index)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process is given: it opens indexes of its own."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_shard", "_table")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset_caches()

    def check_columns(self, units: Sequence[str]) -> None:
        """Raise MixtureError if a source's indexes lack one of the columns."""
        for source, info in enumerate(self.infos):
            for unit in units if info.shards else ():
                self._shard(source, 0, unit)

    def check_tokenizer(self, name: str) -> None:
        """Raise MixtureError if a source's tokens were counted in another way than texts are spelled by `name` here."""
        here = counting(name)
        for source, info in enumerate(self.infos):
            metadata = (self._table(source, 0).schema.metadata if info.shards else None) or {}
            counted_by = metadata.get(COUNTED_BY.encode(), b"").decode()
            if counted_by not in ("", here):
                raise mix.MixtureError(
                    f"{self.folders[source] / info.shards[0].index}: its texts were counted by {counted_by!r}, the"
                    f" model spells by {here!r}; run `curate index {self.folders[source]} --tokenizer {name}`"
                )

    def of(self, source: npt.NDArray[np.integer], row: Ints, unit: str) -> Ints:
        """The length in `unit` of each (source, row), arrays of one shape."""
        out = np.zeros(len(row), np.int64)
        for number in np.unique(source).tolist():
            mine = np.flatnonzero(source == number)
            for shard, here, inner in self._by_shard(number, row[mine]):
                out[mine[here]] = self._shard(number, shard, unit)[inner]
        return out

    def longest(self, source: int, row: Ints, unit: str) -> int:
        """The length in `unit` of the longest sample of the shards that hold these rows of a source."""
        of_shards = (self._shard(source, shard, unit).max(initial=0) for shard, _, _ in self._by_shard(source, row))
        return int(max(of_shards, default=0))

    def values(self, source: int, row: Ints, column: str) -> list[Any]:
        """Look up any column of one source's indexes, for each row. Raises MixtureError if they lack it."""
        out: list[Any] = [None] * len(row)
        for shard, here, inner in self._by_shard(source, row):
            table = self._table(source, shard)
            if column not in table.column_names:
                index = self.folders[source] / self.infos[source].shards[shard].index
                raise mix.MixtureError(f"{index}: has no column {column!r}; {_remedy(column)}")
            for at, value in zip(here.tolist(), table.column(column).take(pa.array(inner)).to_pylist(), strict=True):
                out[at] = value
        return out

    def _by_shard(self, source: int, row: Ints) -> Iterator[tuple[int, Ints, Ints]]:
        """(shard, which of `row` lie in it, their rows in it)."""
        holder = np.searchsorted(self.ends[source], row, side="right")
        for shard in np.unique(holder).tolist():
            here = np.flatnonzero(holder == shard)
            yield shard, here, row[here] - (int(self.ends[source][shard]) - self.infos[source].shards[shard].samples)

    def _column(self, source: int, shard: int, unit: str) -> Ints:
        info = self.infos[source]
        return sample_lengths(self.folders[source] / info.shards[shard].index, info.kind, unit, self.visual_tokens)

    def _index(self, source: int, shard: int) -> pa.Table:
        return read_index(self.folders[source] / self.infos[source].shards[shard].index)


def _remedy(column: str) -> str:
    _, colon, key = column.partition(":")
    texts = f" --texts {key}" if colon else ""
    return f"add it with `curate index FOLDER --tokenizer NAME{texts}`"
