"""Prefetch remote shards into the host's cache before the stream comes to them.

Which shards come next is known from the manifest. Threads of their own fetch them, a few at a time, in the order of
their use; what is needed sooner is never dropped for what is needed later, and what another process used a moment ago
is not dropped at all. Whatever fails is left to the read that needs it, so batches are what they would be without.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Condition, Thread

import numpy as np

from curate import mix
from curate.shards import ShardCache, ShardError, UnreachableError, prefetch_shard
from curate.shards.cache import IDLE_S
from curate.stream.reading import DatasetReader, ShardReaderCache

AT_ONCE = 2
"""Tars fetched at a time, besides those that a read waits for."""
HORIZON = 1 << 18
"""Positions that are looked ahead."""
PROBES = 1 << 11
"""How many of them are looked at: many near by, few far off."""
IN_USE = 1 << 12
"""Positions whose shards are in use; after half of them, or a third of the cache's idle time, is looked ahead again."""

RemoteShard = tuple[DatasetReader, int]
"""A shard elsewhere: its dataset, its number."""


def upcoming_shards(mixture: mix.Mixture, datasets: Sequence[DatasetReader], position: int) -> dict[RemoteShard, int]:
    """Find the remote shards that a stream at `position` comes to, in the order of their first use, and how far off."""
    off = np.unique(np.geomspace(1, HORIZON, PROBES).astype(np.int64)) - 1
    end = mixture.manifest.end
    off = off if end is None else off[position + off < end]
    source, _, row = mixture.locate(position + off)
    found: dict[RemoteShard, int] = {}
    for number, place, far in zip(source.tolist(), row.tolist(), off.tolist(), strict=True):
        if datasets[number].is_remote:
            found.setdefault((datasets[number], datasets[number].place(place)[0]), far)
    return found


class Prefetcher:
    """Prefetches shards in threads; `advance_to` tells it the stream's position, `close` ends it."""

    def __init__(
        self, mixture: mix.Mixture, datasets: Sequence[DatasetReader], cache: ShardCache, readers: ShardReaderCache
    ) -> None:
        self.mixture, self.datasets, self.cache, self.readers = mixture, datasets, cache, readers
        self._changed = Condition()
        self._seen, self._at = -HORIZON, 0.0
        self._unseen: int | None = None
        self._order: list[str] = []
        self._queue: list[RemoteShard] = []
        self._closed = False
        for _ in range(AT_ONCE):
            Thread(target=self._work, name="ahead", daemon=True).start()

    def advance_to(self, position: int) -> None:
        """Note that the stream reads what is at `position`."""
        now = time.monotonic()
        if 0 <= position - self._seen < IN_USE // 2 and now < self._at + IDLE_S / 3:
            return
        self._seen, self._at = position, now
        with self._changed:
            self._unseen = position
            self._changed.notify()

    def close(self) -> None:
        """Stop fetching; what is under way stops at its next block."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while not self._closed:
            with self._changed:
                while not (self._closed or self._queue or self._unseen is not None):
                    self._changed.wait()
                position, self._unseen = self._unseen, None
                wanted = self._queue.pop(0) if position is None and self._queue else None
            try:
                if position is not None:
                    self._plan_ahead(position)
                elif wanted is not None and not self._fetch(*wanted):
                    with self._changed:
                        self._queue.clear()  # there is no room; later there may be
            except (ShardError, UnreachableError, mix.MixtureError, OSError):
                continue  # whoever needs it will say so

    def _plan_ahead(self, position: int) -> None:
        """Find what is coming, mark what of it is kept, the nearest as used last, and begin to fetch the rest."""
        found = upcoming_shards(self.mixture, self.datasets, position)
        order = [dataset.shards[shard].sha256 for dataset, shard in found]
        kept = {sha256 for sha256 in reversed(order) if self.cache.mark_used(sha256)}
        self.readers.close_dropped({(dataset.name, shard) for (dataset, shard), off in found.items() if off < IN_USE})
        with self._changed:
            self._order = order
            self._queue = [wanted for wanted, sha256 in zip(found, order, strict=True) if sha256 not in kept]
            self._changed.notify_all()

    def _fetch(self, dataset: DatasetReader, shard: int) -> bool:
        order, info = self._order, dataset.shards[shard]
        later = set(order[order.index(info.sha256) + 1 :] if info.sha256 in order else ())
        return prefetch_shard(dataset.folder, info, self.cache, later, lambda: not self._closed)
