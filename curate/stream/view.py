"""The view: a mixture as a list, the sample at any position, for trainers that read with a sampler of their own.

`view[i]` is what the stream gives at position i, whichever process asks, whenever and in whatever order: so torch's
map-style datasets, the samplers of Hugging Face and Grain's sources are read. The order is drawn already: a reader that
goes from 0 on has the mixture's shares and epochs at any moment, one that shuffles has them over the whole.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from torch.utils.data import Dataset

from curate import mix
from curate.commit import file_sha256
from curate.shards import UnreachableError
from curate.stream.opened import OpenMixture, open_mixture
from curate.stream.reading import DrawnSample, Place, ReadOptions, ReadySample, Replaced, StreamError, check_count
from curate.stream.state import position_of, state_at

BLOCK = 1 << 8
"""Positions located at once where they are asked for one by one: as dear as one alone, and the next is often near."""


class MixtureView(Dataset[Any]):
    """A mixture as a list of `length` samples: up to its end, where it has one and nothing else is said.

    An item is a DrawnSample, or what `prepare` makes of it, which may be anything. Its stage is that of the step it
    stands in, where the manifest counts steps, else of its own position. Only rows: packs are the stream's.

    A sample that cannot be read or prepared is replaced by the stream's rule, so that `view[i]` is a sample at any i
    and the same as the stream's: torch and Grain have no word for one that is to be left out, and end at the first
    error. A process that meets more of them than `reading.max_unreadable` is stopped and told which shard;
    `replaced` tells which they are. Of `reading`, threads and prefetching are the reader's own.

    Raises StreamError, and what `curate.mix.load` raises for a manifest or dataset that cannot be used.
    """

    def __init__(
        self,
        manifest: Path,
        prepare: Callable[[DrawnSample], Any] | None = None,
        length: int | None = None,
        reading: ReadOptions | None = None,
    ) -> None:
        self.mixture = mix.load(manifest)
        self.digest = file_sha256(self.mixture.path)
        self.prepare, self.reading = prepare, reading or ReadOptions()
        self.length = _check_length(self.mixture.manifest, length)
        self._block: tuple[int, list[Place]] = 0, []
        self._opened: OpenMixture | None = open_mixture(self.mixture, prepare, self.reading)

    def __len__(self) -> int:
        return self.length

    def __repr__(self) -> str:
        """A name that changes with what is given at the positions: Grain keeps it in a checkpoint and compares it."""
        return f"MixtureView({self.mixture.path.name}, SHA-256 {self.digest[:16]}, {self.length} positions)"

    def __getitem__(self, position: SupportsIndex) -> Any:
        return self._items([self._check_index(position)])[0]

    def __getitems__(self, positions: Sequence[SupportsIndex]) -> list[Any]:
        """Read a batch at once, as torch's DataLoader asks for it: samples of one shard are read together."""
        return self._items([self._check_index(position) for position in positions])

    def replaced(self, positions: Sequence[SupportsIndex]) -> list[Replaced]:
        """Read these positions and tell what cannot be read there, why, and what takes its place."""
        checked = [self._check_index(position) for position in positions]
        ready = zip(checked, self._read(checked), strict=True)
        return [replace(replaced, position=at) for at, item in ready for replaced in item.replaced]

    def state_at(self, position: int) -> dict[str, Any]:
        """The state of a run that has read up to `position`: what a stream of this mixture would give, or take."""
        return state_at(position, self.digest)

    def position_of(self, state: Mapping[str, Any]) -> int:
        """The position to go on from by a state of a view or stream. Raises StreamError for another mixture's."""
        return position_of(state, self.mixture, self.digest)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process is given: open files stay here."""
        return self.__dict__ | {"_opened": None, "_block": (0, [])}

    def close(self) -> None:
        """Close the shards; the next item opens them again."""
        if self._opened is not None and self._opened.is_own:
            self._opened.close()
        self._opened = None

    def _items(self, positions: Sequence[int]) -> list[Any]:
        ready = self._read(positions)
        return [item.sample if self.prepare is None else item.tensors for item in ready]

    def _read(self, positions: Sequence[int]) -> list[ReadySample]:
        step, opened = self.mixture.manifest.batch or 1, self._ensure_open()
        places = [self._place(positions[0])] if len(positions) == 1 else self._locate(positions)
        try:
            ready = opened.samples.read_chunk(0, places, [at // step * step for at in positions])
        except UnreachableError as err:
            raise StreamError(str(err)) from err
        opened.unreadable.add([replaced for item in ready for replaced in item.replaced], len(ready))
        return ready

    def _place(self, position: int) -> Place:
        """The place at one position, from the block of them that was located last if it is there."""
        begin, places = self._block
        if not 0 <= position - begin < len(places):
            begin = position // BLOCK * BLOCK
            places = self._locate(range(begin, min(begin + BLOCK, self.length)))
            self._block = begin, places
        return places[position - begin]

    def _locate(self, positions: Sequence[int]) -> list[Place]:
        columns = self.mixture.locate(np.asarray(positions, np.int64))
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _check_index(self, position: SupportsIndex) -> int:
        """The position that an index means, as a list has it."""
        index = operator.index(position)
        found = index + self.length if index < 0 else index
        if not 0 <= found < self.length:
            raise IndexError(f"position {index} of a view of {self.length}")
        return found

    def _ensure_open(self) -> OpenMixture:
        """The datasets as this process has them open. Where two threads open them at once, either's will do."""
        opened = self._opened
        if opened is None or not opened.is_own:
            opened = self._opened = open_mixture(self.mixture, self.prepare, self.reading)
        return opened


def _check_length(manifest: mix.Manifest, length: int | None) -> int:
    """The positions of a view. Raises StreamError where none are said of an endless mixture, or more than there are."""
    if length is not None:
        check_count("length, the positions of the view,", length)
    if length is None and manifest.end is None:
        samples = sum(dataset.samples for dataset in manifest.datasets)
        raise StreamError(
            "the mixture has no end, so a view of it needs a `length`: the positions of the whole run, or of what you"
            f" call an epoch (its datasets hold {samples} samples)"
        )
    if length is not None and manifest.end is not None and length > manifest.end:
        raise StreamError(f"a view of {length} positions is longer than its mixture, which ends at {manifest.end}")
    return int(length if length is not None else manifest.end or 0)
