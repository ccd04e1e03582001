"""The stream: batches of tensors from a mixture manifest and a position, its only state.

What stands in the batch at a position (`batches`) does not depend on the number of ranks, worker processes and threads:
each rank decodes its own share of it. Position to sample is arithmetic (`curate.mix.Mixture`), so starting at any
position costs the same, and nothing is replayed. Decoding runs in threads: reading, libjpeg-turbo, Pillow and torch
release Python's lock.

In any torch trainer:

    stream = Stream(Path("mixture.json"), 256, Fit(224))            # or any function of a sample to tensors
    loader = DataLoader(stream, batch_size=None, num_workers=2)     # or StatefulDataLoader, or `stream` itself
    for batch in loader: ...; checkpoint(batch.state)               # later: stream.load_state_dict(state)

A sample that cannot be read is replaced (`curate.stream.reading`) and counted; above a limit the stream stops and
names the shard.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from curate import mix
from curate.commit import file_sha256
from curate.shards import UnreachableError
from curate.stream.batches import PackBatchSampler, PackedBatch, Packing, PlannedBatch, RowBatchSampler
from curate.stream.opened import OpenMixture, open_mixture
from curate.stream.packing import PackedDocument, PackingError, assemble
from curate.stream.prefetch import Prefetcher
from curate.stream.reading import (
    BatchTensors,
    DatasetReader,
    DrawnSample,
    Prepare,
    ReadOptions,
    ReadySample,
    Replaced,
    Share,
    StreamError,
    check_count,
)
from curate.stream.sample_lengths import Ints
from curate.stream.state import can_resume, position_of, state_at

__all__ = [
    "Batch",
    "DatasetReader",
    "DrawnSample",
    "Packing",
    "Prepare",
    "ReadOptions",
    "Replaced",
    "Share",
    "Stream",
    "StreamError",
]

CHUNK = 8
"""Samples a thread takes at a time: enough that handing over costs little."""
RAW_CHUNK = 64
"""The same where nothing is decoded."""


@dataclass(frozen=True)
class Batch:
    """This rank's share of a global batch: stacked tensors, their uids in order, and what had to be replaced.

    `drawn` counts the whole global batch by source, and `positions` are all of its positions, the same on every rank.
    `state` is the stream's once this batch has been used: what a checkpoint keeps. `samples` holds the samples as read
    where nothing prepares them; `packed` tells of the packs where there are any. `account` tells of each of this rank's
    samples what it had and what of it was taken, where its preparation does (`curate.stream.sequences.SampleAccount`),
    and `planned` which of them are those that were planned.
    """

    tensors: dict[str, Tensor]
    uids: tuple[str, ...]
    replaced: tuple[Replaced, ...]
    drawn: Mapping[str, int]
    state: Mapping[str, Any]
    samples: tuple[DrawnSample, ...] = ()
    positions: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    packed: PackedBatch | None = None
    account: Tensor | None = None
    planned: tuple[bool, ...] = ()


def this_share() -> Share:
    """The share of this process in torch's process group; all of it where there is none."""
    group = torch.distributed
    return (
        Share(group.get_rank(), group.get_world_size()) if group.is_available() and group.is_initialized() else Share()
    )


class Stream(IterableDataset[Batch]):
    """Batches of a mixture from a position on; `batch_size` samples a batch over all ranks, packs with `packing`.

    Without end, unless the manifest has one: the last whole batch before it is then the last.
    Without `prepare` a batch holds the samples' bytes; that of packs is a `curate.stream.sequences.Sequences`. Without
    `share`, ranks are those of torch's process group.
    Raises StreamError, and what `curate.mix.load` raises for a manifest or dataset that cannot be used.
    """

    def __init__(
        self,
        manifest: Path,
        batch_size: int,
        prepare: Prepare | None = None,
        share: Share | None = None,
        reading: ReadOptions | None = None,
        packing: Packing | None = None,
    ) -> None:
        self.share, self.reading = share or this_share(), reading or ReadOptions()
        check_count("batch_size, the samples of a step over all ranks,", batch_size)
        if batch_size % self.share.world:
            raise StreamError(
                f"a batch of {batch_size} cannot be shared by {self.share.world} ranks; choose a multiple"
            )
        self.mixture = mix.load(manifest)
        if packing is None and self.mixture.manifest.mode in ("homogeneous", "accumulate"):
            _check_batch(self.mixture.manifest, batch_size)
        self.digest = file_sha256(self.mixture.path)
        self.batch_size, self.prepare = batch_size, prepare
        self.sampler = (
            PackBatchSampler(packing, batch_size, self.share)
            if packing
            else RowBatchSampler(self.mixture, batch_size, self.share)
        )
        self.packs = packing.name if packing else None
        self.position = 0
        self._worker = (0, 1)
        self._workers: _Workers | None = None

    @property
    def datasets(self) -> list[DatasetReader]:
        """The datasets, in the manifest's order."""
        return self._ensure_workers().opened.datasets

    def state_dict(self) -> dict[str, Any]:
        """The state: the position of the next sample to be given, and the manifest it belongs to."""
        state = self._state(self.position)
        return state | {"worker": list(self._worker)} if self._worker[1] > 1 else state

    def _state(self, position: int) -> dict[str, Any]:
        state = state_at(position, self.digest)
        if isinstance(self.sampler, PackBatchSampler):
            state |= {"packs": self.packs, "window": list(self.sampler.window_bounds(position))}
        return state

    def can_resume(self, state: Mapping[str, Any]) -> bool:
        """Whether a state can be resumed from: it is of this manifest, or of the one that this one continues."""
        return can_resume(state, self.mixture, self.digest)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state that is known, on any number of ranks. Raises StreamError if it is another's."""
        position = position_of(state, self.mixture, self.digest)
        if state.get("packs") != self.packs:
            raise StreamError(
                "this state is of rows, or of packs with other limits; go on with those it was saved with, or start a"
                " new run"
            )
        if tuple(state.get("worker", self._worker)) != self._worker:
            raise StreamError(
                f"this is the state of worker {state['worker']}, loaded in {list(self._worker)}; to go on with another"
                " number of workers, load the last batch's `state` before the loader is made"
            )
        if isinstance(self.sampler, PackBatchSampler) and state["manifest"] != self.digest:
            self._check_window(self.sampler, state)
        self._cancel_prefetched()
        self.position = position

    def _check_window(self, sampler: PackBatchSampler, state: Mapping[str, Any]) -> None:
        """Raise StreamError where a mixture takes over from another within a window whose packs have been begun."""
        position, size, continued = int(state["position"]), sampler.limits.window, self.mixture.manifest.continued
        start = position // size * size
        first, last = state.get("window", (start, start + size))
        assert continued is not None
        if not sampler.can_continue(position, (first, last), continued.position):
            raise StreamError(
                f"this mixture takes over at position {continued.position}, within samples {first} to {last}, which are"
                f" packed together and of which {position - first} have been given; continue the old one at {last} or"
                " later, at the end of such a window"
            )

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        if info is not None and self._worker == (0, 1) and info.num_workers > 1:
            self._worker = (info.id, info.num_workers)
            self.position = self.sampler.position_after(self.position, info.id)
        return self

    def __next__(self) -> Batch:
        work, others = self._ensure_workers(), self._worker[1] - 1
        try:
            start = (
                self.sampler.position_after(work.prefetched[-1].planned.following, others)
                if work.prefetched
                else self.position
            )
            if work.prefetcher is not None:
                work.prefetcher.advance_to(start)
            while (
                len(work.prefetched) < self.reading.prefetch + 1 and (planned := self.sampler.batch(start)) is not None
            ):
                work.prefetched.append(self._submit(work, planned))
                start = self.sampler.position_after(planned.following, others)
            if not work.prefetched:
                raise StopIteration
            pending = work.prefetched.popleft()
            ready = [item for future in pending.chunks for item in future.result()]
            tensors = _assemble_batch(pending, ready)
        except (UnreachableError, PackingError) as err:
            raise StreamError(str(err)) from err
        planned = pending.planned
        self.position = self.sampler.position_after(planned.following, others)
        replaced = tuple(r for item in ready for r in item.replaced)
        work.opened.unreadable.add(replaced, len(ready))
        return Batch(
            tensors,
            tuple(item.uid for item in ready),
            replaced,
            {dataset.name: n for dataset, n in zip(work.opened.datasets, planned.drawn, strict=True)},
            self._state(planned.following),
            tuple(item.sample for item in ready if item.sample is not None),
            planned.positions,
            planned.packed,
            tensors.pop("account", None),
            tuple(not item.replaced for item in ready),
        )

    def has_batches(self, batches: int) -> bool:
        """Whether the mixture has so many more batches."""
        if self.mixture.manifest.end is None:
            return True
        return self.sampler.batch(self.sampler.position_after(self.position, batches - 1)) is not None

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process is given: threads, locks and open files stay here."""
        return self.__dict__ | {"_workers": None}

    def close(self) -> None:
        """Stop decoding and close the shards."""
        self._cancel_prefetched()
        if self._workers is not None:
            self._workers.pool.shutdown(cancel_futures=True)
            if self._workers.prefetcher is not None:
                self._workers.prefetcher.close()
            self._workers.opened.close()
        self._workers = None

    def _ensure_workers(self) -> _Workers:
        """Threads and open shards of this very process: a fork inherits neither."""
        if self._workers is None or not self._workers.opened.is_own:
            opened = open_mixture(self.mixture, self.prepare, self.reading)
            far = any(dataset.is_remote for dataset in opened.datasets)
            pool = _start_threads(self.reading.threads if self.prepare or far else 1)
            prefetcher = (
                Prefetcher(self.mixture, opened.datasets, opened.cache, opened.readers)
                if opened.cache and far
                else None
            )
            self._workers = _Workers(opened, pool, deque(), prefetcher)
            if prefetcher is not None:  # a stream in someone's loader is dropped rather than closed
                weakref.finalize(self._workers, prefetcher.close)
        return self._workers

    def _cancel_prefetched(self) -> None:
        if self._workers is not None and self._workers.opened.is_own:
            for pending in self._workers.prefetched:
                for future in pending.chunks:
                    future.cancel()
            self._workers.prefetched.clear()

    def _submit(self, work: _Workers, planned: PlannedBatch) -> _Pending:
        stack = BatchTensors(len(planned.places)) if planned.packed is None else None
        size, places, stages = CHUNK if self.prepare else RAW_CHUNK, planned.places, planned.stages
        tasks = [
            work.pool.submit(
                work.opened.samples.read_chunk, planned.start, places[at : at + size], stages[at : at + size], at, stack
            )
            for at in range(0, len(places), size)
        ]
        return _Pending(tasks, stack, planned)


def _check_batch(manifest: mix.Manifest, batch_size: int) -> None:
    """Raise StreamError for batches that are no whole part of a step, in whose source or sources its mode consists."""
    if (manifest.batch or 1) % batch_size:
        raise StreamError(
            f"the mixture's mode is {manifest.mode}, with steps of {manifest.batch} samples, and batches of"
            f" {batch_size} would run across them; take as many, or a whole part of them, or change the specification"
        )


def _start_threads(count: int) -> ThreadPoolExecutor:
    """A pool whose threads each work alone: torch, called from them, takes no more threads of its own.

    Mere reading takes one thread: several would only hand Python's lock to and fro.
    """
    before, all_there = torch.get_num_threads(), Barrier(count)
    pool = ThreadPoolExecutor(count, "decode", initializer=_limit_to_one_thread)
    for started in [pool.submit(all_there.wait) for _ in range(count)]:
        started.result()
    torch.set_num_threads(before)  # OpenMP keeps the number by thread, but new threads take the last one that was set
    return pool


def _limit_to_one_thread() -> None:
    torch.get_num_threads()  # a thread's first question brings the number of all: ask before it is set
    torch.set_num_threads(1)


def _assemble_batch(pending: _Pending, ready: Sequence[ReadySample]) -> dict[str, Tensor]:
    """The tensors of a batch: as stacked, or laid out in packs."""
    if pending.stack is not None:
        return pending.stack.tensors
    packed = pending.planned.packed
    if packed is None or any(item.tensors is None for item in ready):
        return {}
    documents = [PackedDocument(item.uid, item.tensors or {}, bool(item.replaced)) for item in ready]
    return assemble(packed.mine, documents, packed.limits)


@dataclass(frozen=True)
class _Pending:
    chunks: list[Future[list[ReadySample]]]
    stack: BatchTensors | None
    planned: PlannedBatch


@dataclass
class _Workers:
    opened: OpenMixture
    pool: ThreadPoolExecutor
    prefetched: deque[_Pending]
    prefetcher: Prefetcher | None
