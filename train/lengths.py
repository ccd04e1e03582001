"""How long samples are, by the columns of their shards' indexes: looked up where they are needed, nothing is held."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curate import mix
from curate.mix.indexes import lengths
from curate.shards import load_dataset

Ints = npt.NDArray[np.int64]
SHARDS_KEPT = 1024
"""Shards whose columns stay at hand: 8 bytes a sample and unit each."""


class Lengths:
    """Text tokens or images of the samples of a mixture, from the indexes alone."""

    def __init__(self, manifest: mix.Manifest, path: Path) -> None:
        self.folders = [mix.folder_of(manifest, path, number) for number in range(len(manifest.datasets))]
        self.infos = [load_dataset(folder) for folder in self.folders]
        self.ends = [np.cumsum([shard.samples for shard in info.shards]) for info in self.infos]
        self._shard = lru_cache(SHARDS_KEPT)(self._column)

    def check(self, units: Sequence[str]) -> None:
        """Raise MixtureError if a source's indexes lack one of the columns."""
        for source, info in enumerate(self.infos):
            for unit in units if info.shards else ():
                self._shard(source, 0, unit)

    def of(self, source: npt.NDArray[np.integer], row: Ints, unit: str) -> Ints:
        """The length in `unit` of each (source, row), arrays of one shape."""
        out = np.zeros(len(row), np.int64)
        for number in np.unique(source).tolist():
            mine = np.flatnonzero(source == number)
            holder = np.searchsorted(self.ends[number], row[mine], side="right")
            for shard in np.unique(holder).tolist():
                here = mine[holder == shard]
                first = int(self.ends[number][shard]) - self.infos[number].shards[shard].samples
                out[here] = self._shard(number, shard, unit)[row[here] - first]
        return out

    def _column(self, source: int, shard: int, unit: str) -> Ints:
        info = self.infos[source]
        return lengths(self.folders[source] / info.shards[shard].index, info.kind, unit, 0)
