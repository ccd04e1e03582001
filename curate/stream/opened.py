"""Open a mixture's datasets in one process, and bear the samples that cannot be read up to a limit."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from curate import mix
from curate.shards import ShardCache
from curate.stream.reading import (
    DatasetReader,
    DrawnSample,
    ReadOptions,
    Replaced,
    SampleReader,
    ShardReaderCache,
    StreamError,
    check_kinds,
)

ALWAYS_BORNE = 8
"""Unreadable samples always borne, so that a short run does not stop at its first."""


class UnreadableCount:
    """Counts what a process could not read of what it read, and stops it beyond the share that it bears."""

    def __init__(self, bearable: float) -> None:
        self.bearable = bearable
        self.by_shard: Counter[str] = Counter()
        self.seen = 0
        self._lock = Lock()

    def add(self, replaced: Sequence[Replaced], seen: int) -> None:
        """Count samples seen and replaced. Raises StreamError where they are more than is borne, and names a shard."""
        with self._lock:
            self.seen += seen
            self.by_shard.update(r.shard for r in replaced)
            unreadable = self.by_shard.total()
            if unreadable <= ALWAYS_BORNE + self.bearable * self.seen:
                return
            shard, count = self.by_shard.most_common(1)[0]
        last = next((r for r in replaced if r.shard == shard), replaced[-1])
        mend = "check that shard with `curate verify`"
        if last.unfit:
            mend = "it was read well: give the stream a function that can prepare such samples"
        raise StreamError(
            f"{unreadable} of {self.seen} samples could not be read, more than data.max_unreadable"
            f" ({self.bearable:g}) bears; most of them ({count}) in {shard} ({last.error}); {mend}, or raise the limit"
        )


@dataclass(frozen=True)
class OpenMixture:
    """The datasets of a mixture as process `pid` has them open, and what reads samples and counts the unreadable."""

    pid: int
    datasets: list[DatasetReader]
    samples: SampleReader
    cache: ShardCache | None
    readers: ShardReaderCache
    unreadable: UnreadableCount

    @property
    def is_own(self) -> bool:
        """Whether this very process opened it: a fork inherits neither threads nor places in files."""
        return self.pid == os.getpid()

    def close(self) -> None:
        """Close the shards."""
        self.readers.close()


def open_mixture(
    mixture: mix.Mixture, prepare: Callable[[DrawnSample], Any] | None, reading: ReadOptions
) -> OpenMixture:
    """Open the datasets of a mixture in this process.

    Raises StreamError where `prepare` says that it does not take samples of a dataset's kind.
    """
    readers = ShardReaderCache(reading.open_shards)
    cache = ShardCache(reading.cache, reading.cache_bytes) if reading.cache else None
    sources = enumerate(mixture.manifest.datasets)
    datasets = [DatasetReader(source.name, mixture.folder(n), cache, readers) for n, source in sources]
    check_kinds(prepare, datasets)
    samples, unreadable = (
        SampleReader(datasets, mixture.manifest.seed, prepare),
        UnreadableCount(reading.max_unreadable),
    )
    return OpenMixture(os.getpid(), datasets, samples, cache, readers, unreadable)
