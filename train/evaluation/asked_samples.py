"""Samples that are asked of: of a published dataset in its order, or of a mixture in the order of its positions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from curate import mix
from curate.commit import file_sha256
from curate.mix.content import IMAGE_NAMES
from curate.sample import Kind
from curate.shards.info import dataset_file
from curate.stream.reading import UNREADABLE, DatasetReader
from train.evaluation.answerer import decoded

_AHEAD = 64
"""Positions of a mixture that are looked at together."""
_TRIES = 64
"""Other samples that are looked at for pictures which differ from a sample's own."""

Parts = Mapping[str, bytes]


class AskedSamples:
    """The first `limit` samples behind numbers from 0 on, and for each the sample whose pictures stand in for its own.

    A published dataset lies in one seeded order, so that its first samples are a fair draw. Raises ShardError,
    MixtureError, SettingsError.
    """

    def __init__(self, path: Path, limit: int | None, seed: int) -> None:
        self.path = path
        self.dataset: Path | None = None
        """The dataset, if they are of one."""
        if path.suffix == ".json" and path.name != "dataset.json":
            mixture = mix.load(path)
            sources = enumerate(mixture.manifest.datasets)
            self._readers = [DatasetReader(source.name, mixture.folder(number)) for number, source in sources]
            self._places = _drawn(mixture, limit or sum(reader.rows for reader in self._readers))
            self.name, self.digest = path.stem, file_sha256(path)
        else:
            self.dataset, reader = path, DatasetReader(path.name, path)
            self._readers = [reader]
            self._places = [(0, row) for row in range(min(reader.rows, limit or reader.rows))]
            self.name, self.digest = dataset_file(path).parent.name, file_sha256(dataset_file(path))
        order = np.random.default_rng(seed).permutation(len(self._places))
        self._next = np.empty_like(order)
        self._next[order] = np.roll(order, -1)  # one circle through all: nobody is his own neighbour

    def __len__(self) -> int:
        return len(self._places)

    def read(self, number: int) -> tuple[str, Kind, Parts]:
        """(uid, kind, parts) of a sample. Raises what UNREADABLE names."""
        source, row = self._places[number]
        uid, parts = self._readers[source].read(row)
        return uid, self._readers[source].kind, parts

    def others_pictures(self, number: int, pictures: Sequence[bytes]) -> list[Image.Image] | None:
        """As many pictures of another sample, by seed: of the next one that has others than these; None without any.

        Of a sample with fewer, they come again.
        """
        own = {_digest(picture) for picture in pictures}
        at = number
        for _ in range(min(_TRIES, len(self) - 1)):
            at = int(self._next[at])
            try:
                _, _, parts = self.read(at)
                found = [parts[name] for name in sorted(parts) if name.rpartition(".")[2] in IMAGE_NAMES]
                if found and not own & {_digest(picture) for picture in found}:
                    return [decoded(found[place % len(found)]) for place in range(len(pictures))]
            except UNREADABLE:
                continue
        return None

    def close(self) -> None:
        """Close every open shard."""
        for reader in self._readers:
            reader.close()


def _digest(picture: bytes) -> bytes:
    return hashlib.blake2b(picture, digest_size=16).digest()


def _drawn(mixture: mix.Mixture, limit: int) -> list[tuple[int, int]]:
    """(source, row) of the first `limit` samples of a mixture, each once; fewer where it comes to its second epoch."""
    found: dict[tuple[int, int], None] = {}
    end, position = mixture.manifest.end, 0
    while len(found) < limit and (end is None or position < end):
        stop = position + _AHEAD if end is None else min(position + _AHEAD, end)
        before = len(found)
        places = (part.tolist() for part in mixture.locate(np.arange(position, stop)))
        for source, epoch, row in zip(*places, strict=True):
            if not epoch and len(found) < limit:
                found[source, row] = None
        position = stop
        if len(found) == before:
            break
    return list(found)
