"""The stream: from a mixture manifest and a position to batches of tensors. Its only state is the position.

Batch k holds the positions [k*B, (k+1)*B) of the mixture, whatever the number of ranks and threads: each rank decodes
its own share of them. Position to sample is arithmetic (`curate.mix.locate`), so starting at any position costs
the same, and nothing is replayed. Decoding runs in threads: reading, Pillow and torch release Python's lock.

A sample that cannot be read is replaced by another of its source, chosen by (seed, source, epoch, row), and counted;
above a limit the stream stops and names the shard.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curate import mix
from curate.sample import file_sha256
from curate.shards import ShardReader, load_dataset
from curate.shards.info import dataset_file
from train.images import BROKEN

CHUNK = 8
"""Samples a thread takes at a time: enough that handing over costs little."""
MAX_TRIES = 16
"""Replacements tried for one unreadable sample before its source counts as broken."""
GRACE = 8
"""Unreadable samples always borne, so that a short run does not stop at its first."""


class StreamError(ValueError):
    """Data that cannot be streamed; the message says which source or shard, what and what to do."""


@dataclass(frozen=True)
class Drawn:
    """A sample as read: its content by part name, and which pass over its source this is."""

    uid: str
    source: str
    epoch: int
    parts: Mapping[str, bytes]


@dataclass(frozen=True)
class Replaced:
    """An unreadable sample: the batch it was met in, where it lies, what was wrong, and the uid that took its place."""

    position: int
    source: str
    shard: str
    row: int
    error: str
    by: str


@dataclass(frozen=True)
class Batch:
    """This rank's share of a global batch: stacked tensors, their uids in order, and what had to be replaced.

    `drawn` counts the whole global batch by source, the same on every rank.
    """

    tensors: dict[str, Tensor]
    uids: tuple[str, ...]
    replaced: tuple[Replaced, ...]
    drawn: Mapping[str, int]


Prepare = Callable[[Drawn], dict[str, Tensor]]


@dataclass(frozen=True)
class Share:
    """Which part of each global batch this process decodes."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class Reading:
    """How a stream reads: decoding threads, batches decoded ahead, and the share of unreadable samples it bears."""

    threads: int = 2
    prefetch: int = 3
    max_unreadable: float = 0.01


class Shelf:
    """One dataset's shards behind one row number; readers open when first needed and stay open."""

    def __init__(self, name: str, path: Path) -> None:
        info = load_dataset(path)
        self.name = name
        self.folder = dataset_file(path).parent
        self.shards = info.shards
        self.ends = list(itertools.accumulate(shard.samples for shard in info.shards))
        self.rows = info.samples
        self._readers: dict[int, ShardReader] = {}
        self._lock = Lock()

    def place(self, row: int) -> tuple[int, int]:
        """(shard, row in it) of the dataset's `row`."""
        shard = bisect_right(self.ends, row)
        return shard, row - (self.ends[shard - 1] if shard else 0)

    def read(self, row: int) -> tuple[str, dict[str, bytes]]:
        """(uid, parts) of the dataset's `row`. Raises what a broken shard raises."""
        shard, inner = self.place(row)
        reader = self._reader(shard)
        return str(reader.uids[inner]), reader.read(inner)

    def shard_name(self, row: int) -> str:
        """The path of the tar that holds `row`."""
        return str(self.folder / self.shards[self.place(row)[0]].tar)

    def close(self) -> None:
        """Close every open shard."""
        with self._lock:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()

    def _reader(self, shard: int) -> ShardReader:
        with self._lock:
            if shard not in self._readers:
                info = self.shards[shard]
                self._readers[shard] = ShardReader(self.folder / info.tar, self.folder / info.index)
            return self._readers[shard]


class Stream:
    """Batches of a mixture from a position on, without end; `batch_size` samples a batch over all ranks.

    Raises StreamError, and what `curate.mix.load` raises for a manifest or dataset that cannot be used.
    """

    def __init__(
        self,
        manifest: Path,
        batch_size: int,
        prepare: Prepare,
        share: Share | None = None,
        reading: Reading | None = None,
    ) -> None:
        share, reading = share or Share(), reading or Reading()
        if batch_size % share.world:
            raise StreamError(f"a batch of {batch_size} cannot be shared by {share.world} ranks; choose a multiple")
        self.manifest = mix.load(manifest)
        self.digest = file_sha256(manifest)
        sources = enumerate(self.manifest.datasets)
        self.shelves = [Shelf(s.name, mix.folder_of(self.manifest, manifest, n)) for n, s in sources]
        self.batch_size, self.prepare, self.share = batch_size, prepare, share
        self.reading = reading
        self.position = 0
        self.unreadable: Counter[str] = Counter()
        self._seen = 0
        self._pool = ThreadPoolExecutor(reading.threads, thread_name_prefix="decode")
        self._ahead: deque[_Pending] = deque()

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: the position of the next sample to be given, and the manifest it belongs to."""
        return {"position": self.position, "manifest": self.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same manifest, on any number of ranks. Raises StreamError if it is another's."""
        if state["manifest"] != self.digest:
            raise StreamError(
                "the mixture manifest has changed since this state was saved; start a new run for a new mixture"
            )
        self._forget()
        self.position = int(state["position"])

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        start = self.position + len(self._ahead) * self.batch_size
        while len(self._ahead) < self.reading.prefetch + 1:
            self._ahead.append(self._submit(start))
            start += self.batch_size
        pending = self._ahead.popleft()
        ready = [item for future in pending.chunks for item in future.result()]
        self.position += self.batch_size
        replaced = tuple(r for item in ready for r in item.replaced)
        self._bear(replaced, len(ready))
        tensors = {name: torch.stack([item.tensors[name] for item in ready]) for name in ready[0].tensors}
        return Batch(tensors, tuple(item.uid for item in ready), replaced, pending.drawn)

    def close(self) -> None:
        """Stop decoding and close the shards."""
        self._forget()
        self._pool.shutdown(cancel_futures=True)
        for shelf in self.shelves:
            shelf.close()

    def _forget(self) -> None:
        for pending in self._ahead:
            for future in pending.chunks:
                future.cancel()
        self._ahead.clear()

    def _submit(self, start: int) -> _Pending:
        positions = np.arange(start, start + self.batch_size, dtype=np.int64)
        source, epoch, row = mix.locate(self.manifest, positions)
        counts = np.bincount(source, minlength=len(self.shelves)).tolist()
        each = self.batch_size // self.share.world
        mine = slice(self.share.rank * each, (self.share.rank + 1) * each)
        wanted = list(zip(source[mine].tolist(), epoch[mine].tolist(), row[mine].tolist(), strict=True))
        chunks = [self._pool.submit(self._make, start, wanted[at : at + CHUNK]) for at in range(0, each, CHUNK)]
        return _Pending(chunks, {shelf.name: n for shelf, n in zip(self.shelves, counts, strict=True)})

    def _make(self, start: int, wanted: list[tuple[int, int, int]]) -> list[_Ready]:
        return [self._one(start, self.shelves[source], epoch, row) for source, epoch, row in wanted]

    def _one(self, start: int, shelf: Shelf, epoch: int, row: int) -> _Ready:
        faults: list[tuple[str, int, str]] = []
        for number in range(MAX_TRIES):
            at = row if number == 0 else self._another(shelf, epoch, row, number)
            try:
                uid, parts = shelf.read(at)
                tensors = self.prepare(Drawn(uid, shelf.name, epoch, parts))
            except BROKEN as err:
                faults.append((shelf.shard_name(at), at, f"{type(err).__name__}: {err}"[:200]))
                continue
            return _Ready(uid, tensors, tuple(Replaced(start, shelf.name, *fault, by=uid) for fault in faults))
        shard, at, error = faults[0]
        raise StreamError(
            f"source {shelf.name!r}: row {at} in {shard} cannot be read ({error}), nor can {MAX_TRIES - 1} others"
            " drawn in its place; check the shards with `curate verify`, or publish them again"
        )

    def _another(self, shelf: Shelf, epoch: int, row: int, number: int) -> int:
        key = f"{self.manifest.seed}/{shelf.name}/{epoch}/{row}/{number}".encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") % shelf.rows

    def _bear(self, replaced: tuple[Replaced, ...], seen: int) -> None:
        """Count what was replaced; stop when it is more than the run said it would bear."""
        self._seen += seen
        self.unreadable.update(r.shard for r in replaced)
        if self.unreadable.total() <= GRACE + self.reading.max_unreadable * self._seen:
            return
        shard, count = self.unreadable.most_common(1)[0]
        last = next((r.error for r in replaced if r.shard == shard), replaced[-1].error)
        raise StreamError(
            f"{self.unreadable.total()} of {self._seen} samples could not be read, more than data.max_unreadable"
            f" ({self.reading.max_unreadable:g}) bears; most of them ({count}) in {shard} ({last}); check that shard"
            " with `curate verify`, or raise the limit"
        )


@dataclass(frozen=True)
class _Ready:
    uid: str
    tensors: dict[str, Tensor]
    replaced: tuple[Replaced, ...]


@dataclass(frozen=True)
class _Pending:
    chunks: list[Future[list[_Ready]]]
    drawn: Mapping[str, int]
