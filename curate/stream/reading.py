"""Read, prepare and replace samples of datasets, in threads.

A sample that cannot be read is replaced by another of its source, chosen by (seed, source, epoch, row), whichever
thread, worker or rank meets it. What cannot be *reached* is not replaced: that would make a batch depend on the
weather. Nor is a shard that is not the one that was published: its rows are other samples, and the stream stops.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from curate.sample import Kind
from curate.shards import ShardCache, ShardError, ShardReader, load_dataset, open_shard
from curate.shards.info import dataset_file
from curate.shards.remote import ORIGIN_FILE

OPEN_SHARDS = 512
"""Tars kept open; systems allow a process about a thousand files."""
MAX_TRIES = 16
"""Replacements tried for one unreadable sample before its source counts as broken."""
UNREADABLE = (LookupError, OSError, RecursionError, ValueError)
"""What says that a sample, not the program, is at fault: damage (ShardError, ImageError, ContentError and what is no
UTF-8 or JSON are ValueErrors), a part or key that it lacks, a disk's error, JSON nested too deep."""


PLAIN = (ValueError, LookupError, KeyError, IndexError)
"""Of these, what a function says of a sample that lacks what it looks for; damage has errors of its own."""


class StreamError(ValueError):
    """Data that cannot be streamed; the message says which source or shard, what and what to do."""


def check_count(what: str, value: int, least: int = 1) -> None:
    """Raise StreamError for a count that is too small, or none."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise StreamError(f"{what} is {value!r}; give a whole number of {least} or more")


@dataclass(frozen=True)
class Share:
    """The part of each global batch that this process decodes. Raises StreamError for a rank that is none of them."""

    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        check_count("Share.world", self.world)
        check_count("Share.rank", self.rank, 0)
        if self.rank >= self.world:
            raise StreamError(f"Share.rank is {self.rank} of {self.world} ranks, which are counted from 0")


@dataclass(frozen=True)
class DrawnSample:
    """A sample as read: its content by part name, which pass over its source this is, and where its stage is told."""

    uid: str
    source: str
    epoch: int
    parts: Mapping[str, bytes]
    kind: Kind = "caption"
    at: int = 0


@dataclass(frozen=True)
class Replaced:
    """An unreadable sample: the batch it was met in, where it lies, what was wrong, and what took its place.

    `position` is that batch's, of a view the sample's own. `tried`: 0 for one that was planned here, else the how
    manyeth that was drawn in its stead. `by` is the uid of the sample that came, `by_row` its row. `unfit`: nothing is
    known to be wrong with it but that `prepare` refused it.
    """

    position: int
    source: str
    shard: str
    row: int
    error: str
    unfit: bool
    tried: int
    by: str
    by_row: int


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading: decoding threads, batches decoded ahead, and the share of unreadable samples that is borne.

    Tars that lie elsewhere are kept whole in `cache`, at most `cache_bytes` of them on this host; without it they are
    read in ranges. Of all sources together, `open_shards` tars are open at a time. Raises StreamError for less than
    none.
    """

    threads: int = 2
    prefetch: int = 3
    max_unreadable: float = 0.01
    cache: Path | None = None
    cache_bytes: int = 1 << 36
    open_shards: int = OPEN_SHARDS

    def __post_init__(self) -> None:
        for what, least in (("threads", 1), ("prefetch", 0), ("cache_bytes", 1), ("open_shards", 1)):
            check_count(f"ReadOptions.{what}", getattr(self, what), least)
        if not 0 <= self.max_unreadable <= 1:
            raise StreamError(f"ReadOptions.max_unreadable is {self.max_unreadable}; it is a share, from 0 to 1")


class ShardReaderCache:
    """LRU cache of a stream's open shards, at most `most` of them.

    A shard that another thread is still reading closes when that thread is done with it.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: OrderedDict[tuple[str, int], ShardReader] = OrderedDict()
        self._lock = Lock()

    def get(self, source: str, shard: int) -> ShardReader | None:
        """Get the reader of that shard, if it is open."""
        with self._lock:
            reader = self._open.get((source, shard))
            if reader is not None:
                self._open.move_to_end((source, shard))
            return reader

    def put(self, source: str, shard: int, reader: ShardReader) -> None:
        """Keep the reader of that shard."""
        with self._lock:
            self._open[source, shard] = reader
            while len(self._open) > self.most:
                self._open.popitem(last=False)

    def close_dropped(self, needed: Collection[tuple[str, int]]) -> None:
        """Close shards that the cache has dropped and that are not `needed`: open, they take room on the disk."""
        with self._lock:
            for key in [key for key, reader in self._open.items() if key not in needed and reader.dropped]:
                del self._open[key]

    def close(self) -> None:
        """Close every open shard."""
        with self._lock:
            for reader in self._open.values():
                reader.close()
            self._open.clear()


Prepare = Callable[[DrawnSample], dict[str, Tensor]]
"""Makes tensors of a sample; one that takes samples of some kinds alone may name them in `kinds`."""
Fault = tuple[str, int, str, bool]
"""Of an unreadable sample: its shard, its row, what was wrong, and whether it is `unfit` (see Replaced)."""

Place = tuple[int, int, int]
"""Source, epoch and row: what stands at a position."""


class DatasetReader:
    """One dataset's shards behind one row number; readers open when first needed, `readers` keeps them."""

    def __init__(
        self, name: str, path: Path, cache: ShardCache | None = None, readers: ShardReaderCache | None = None
    ) -> None:
        info = load_dataset(path)
        self.name, self.kind = name, info.kind
        self.folder = dataset_file(path).parent
        self.shards = info.shards
        self.ends = list(itertools.accumulate(shard.samples for shard in info.shards))
        self.rows = info.samples
        self.cache = cache
        self.is_remote = (self.folder / ORIGIN_FILE).is_file()
        self._readers = ShardReaderCache(OPEN_SHARDS) if readers is None else readers
        self._broken: dict[int, ShardError] = {}
        self._opening = Lock()

    def place(self, row: int) -> tuple[int, int]:
        """(shard, row in it) of the dataset's `row`."""
        shard = bisect_right(self.ends, row)
        return shard, row - (self.ends[shard - 1] if shard else 0)

    def read(self, row: int) -> tuple[str, dict[str, bytes]]:
        """Read (uid, parts) of the dataset's `row`. Raises what a broken shard raises."""
        return self.read_many([row])[0]

    def read_many(self, rows: Sequence[int]) -> list[tuple[str, dict[str, bytes]]]:
        """Read (uid, parts) of each row, in the order asked for; rows of one shard are read together."""
        places = [self.place(row) for row in rows]
        by_shard: dict[int, list[int]] = {}
        for shard, inner in places:
            by_shard.setdefault(shard, []).append(inner)
        found = {shard: iter(self._reader(shard).read_many(inner)) for shard, inner in by_shard.items()}
        return [next(found[shard]) for shard, _ in places]

    def shard_name(self, row: int) -> str:
        """The path of the tar that holds `row`."""
        return str(self.folder / self.shards[self.place(row)[0]].tar)

    def close(self) -> None:
        """Close every open shard, of all who share these readers."""
        self._readers.close()

    def _reader(self, shard: int) -> ShardReader:
        if (found := self._open_reader(shard)) is not None:
            return found
        with self._opening:
            if (found := self._open_reader(shard)) is not None:
                return found
            if shard in self._broken:
                raise self._broken[shard]
            try:
                reader = open_shard(self.folder, self.shards[shard], self.cache)
            except ShardError as err:
                self._broken[shard] = err  # what was fetched and found changed is not fetched for every row again
                raise
            self._check_same_tar(shard, reader)
            self._readers.put(self.name, shard, reader)
            return reader

    def _open_reader(self, shard: int) -> ShardReader | None:
        """The reader of a shard, if it is open; not one that reads in ranges what has come into the cache by now."""
        found = self._readers.get(self.name, shard)
        if found is None or self.cache is None or not found.is_remote:
            return found
        return None if self.cache.mark_used(self.shards[shard].sha256) else found

    def _check_same_tar(self, shard: int, reader: ShardReader) -> None:
        """Raise StreamError where the index is of another tar than dataset.json: its rows are then other samples."""
        info, found = self.shards[shard], reader.metadata["tar_sha256"]
        if found == info.sha256:
            return
        reader.close()
        raise StreamError(
            f"shard {self.folder / info.tar} has changed: its index {info.index} is of SHA-256 {found[:16]}...,"
            f" dataset.json names {info.sha256[:16]}...; put both back, or publish (attach, index) the dataset again,"
            " and run `curate mix` again"
        )


@dataclass(frozen=True)
class ReadySample:
    """A sample that stands in its batch, and what was met on the way to it.

    It comes as read where nothing prepares it, as what was made of it where that is not stacked.
    """

    uid: str
    replaced: tuple[Replaced, ...]
    sample: DrawnSample | None
    tensors: dict[str, Tensor] | None


@dataclass
class BatchTensors:
    """The tensors of one batch, laid out when the first sample comes; each sample is copied to its own place."""

    samples: int
    tensors: dict[str, Tensor] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def put(self, number: int, uid: str, sample: Mapping[str, Tensor]) -> None:
        """Copy the tensors of sample `number`. Raises StreamError if they differ from the others' in name or shape."""
        with self._lock:
            if not self.tensors:
                self.tensors = {k: torch.empty((self.samples, *t.shape), dtype=t.dtype) for k, t in sample.items()}
        if sample.keys() != self.tensors.keys():
            raise StreamError(f"sample {uid}: prepared as {sorted(sample)}, others as {sorted(self.tensors)}")
        for name, tensor in sample.items():
            place = self.tensors[name][number]
            if place.shape != tensor.shape or place.dtype != tensor.dtype:
                raise StreamError(
                    f"sample {uid}: {name!r} is {tensor.dtype} {tuple(tensor.shape)}, others are {place.dtype}"
                    f" {tuple(place.shape)}; prepare every sample to one shape"
                )
            place.copy_(tensor)


@dataclass(frozen=True)
class SampleReader:
    """Reads and prepares the samples that stand at places, replacing those that are broken."""

    datasets: Sequence[DatasetReader]
    seed: int
    prepare: Prepare | None

    def read_chunk(
        self,
        start: int,
        places: Sequence[Place],
        stages: Sequence[int],
        first: int = 0,
        stack: BatchTensors | None = None,
    ) -> list[ReadySample]:
        """Read the samples at `places`, put into `stack` from number `first` on.

        `start` is their batch's position, `stages` are the positions by which their stages are told.
        """
        read = self._read_together(places)
        ready = []
        for number, (place, at, sample) in enumerate(zip(places, stages, read, strict=True)):
            faults: list[Fault] = []
            drawn, tensors = self._prepare_sample(place, sample, at, faults)
            if tensors is not None and stack is not None:
                stack.put(first + number, drawn.uid, tensors)
                tensors = None
            replaced = tuple(
                Replaced(start, drawn.source, *fault, tried, drawn.uid, self._replacement_row(place, len(faults)))
                for tried, fault in enumerate(faults)
            )
            ready.append(ReadySample(drawn.uid, replaced, None if self.prepare else drawn, tensors))
        return ready

    def _read_together(self, places: Sequence[Place]) -> list[tuple[str, dict[str, bytes]] | None]:
        """Content of each place, None where reading together failed: those are then read one by one."""
        out: list[tuple[str, dict[str, bytes]] | None] = [None] * len(places)
        by_source: dict[int, list[int]] = {}
        for number, place in enumerate(places):
            by_source.setdefault(place[0], []).append(number)
        for source, numbers in by_source.items():
            try:
                found = self.datasets[source].read_many([places[n][2] for n in numbers])
            except StreamError:
                raise
            except UNREADABLE:
                continue
            for number, sample in zip(numbers, found, strict=True):
                out[number] = sample
        return out

    def _prepare_sample(
        self, place: Place, read: tuple[str, dict[str, bytes]] | None, stage: int, faults: list[Fault]
    ) -> tuple[DrawnSample, dict[str, Tensor] | None]:
        """The sample at `place`, or the first whole one of those drawn in its stead; what was broken joins `faults`."""
        source, epoch, _ = place
        dataset = self.datasets[source]
        for number in range(MAX_TRIES):
            at = self._replacement_row(place, number)
            is_whole = False
            try:
                uid, parts = read if read is not None and number == 0 else dataset.read(at)
                drawn = DrawnSample(uid, dataset.name, epoch, parts, dataset.kind, stage)
                is_whole = True
                return drawn, self.prepare(drawn) if self.prepare else None
            except StreamError:
                raise
            except UNREADABLE as err:
                faults.append(
                    (dataset.shard_name(at), at, f"{type(err).__name__}: {err}"[:200], is_whole and type(err) in PLAIN)
                )
        shard, at, error, unfit = faults[0]
        if unfit:
            raise StreamError(
                f"source {dataset.name!r}, of kind {dataset.kind}: row {at} in {shard} was read, and could not be"
                f" prepared ({error}), nor could {MAX_TRIES - 1} others; give the stream a function that takes such"
                " samples, or leave the source out of the mixture"
            )
        raise StreamError(
            f"source {dataset.name!r}: row {at} in {shard} cannot be read ({error}), nor can {MAX_TRIES - 1} others"
            " drawn in its place; check the shards with `curate verify`, or publish them again"
        )

    def _replacement_row(self, place: Place, number: int) -> int:
        """The row at a place, or the `number`-th drawn in its stead: any but that row, unless there is no other."""
        source, epoch, row = place
        if number == 0:
            return row
        dataset = self.datasets[source]
        key = f"{self.seed}/{dataset.name}/{epoch}/{row}/{number}".encode()
        drawn = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
        return (row + 1 + drawn % max(dataset.rows - 1, 1)) % dataset.rows


def check_kinds(prepare: Prepare | None, datasets: Sequence[DatasetReader]) -> None:
    """Raise StreamError where the function that prepares samples says that it does not take those of a source."""
    kinds = getattr(prepare, "kinds", None)
    for dataset in datasets:
        if kinds is not None and dataset.kind not in kinds:
            raise StreamError(
                f"source {dataset.name!r} is of kind {dataset.kind}, and {type(prepare).__name__} takes samples of kind"
                f" {' or '.join(kinds)}: leave it out of the mixture, or give another function (curate.stream.Sequences"
                " takes every kind)"
            )
