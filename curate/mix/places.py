"""Look up the uids at positions of a mixture, from the indexes alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.mix.indexes import read_index
from curate.mix.mixture import Mixture
from curate.mix.schedule import Ints
from curate.shards import load_dataset


@dataclass(frozen=True)
class SampleAt:
    """The sample at a position: a row of a source's dataset in its n-th epoch, the uid, and the tar that holds it."""

    position: int
    source: str
    epoch: int
    row: int
    uid: str
    shard: str


def uids_at(mixture: Mixture, positions: Ints) -> list[SampleAt]:
    """Look up the samples at positions of a mixture; only indexes are read."""
    where = mixture.locate(positions)
    out: list[SampleAt | None] = [None] * len(positions)
    for number in np.unique(where[0]).tolist():
        mine = np.flatnonzero(where[0] == number)
        epoch, row = where[1][mine], where[2][mine]
        folder, name = mixture.folder(number), mixture.manifest.datasets[number].name
        info = load_dataset(folder)
        ends = np.cumsum([shard.samples for shard in info.shards])
        holder = np.searchsorted(ends, row, side="right")
        for shard in np.unique(holder).tolist():
            here = np.flatnonzero(holder == shard)
            entry = info.shards[shard]
            inner = row[here] - (int(ends[shard]) - entry.samples)
            uids = read_index(folder / entry.index).column("uid").take(pa.array(inner)).to_pylist()
            for at, uid in zip(here.tolist(), uids, strict=True):
                place = int(mine[at])
                out[place] = SampleAt(int(positions[place]), name, int(epoch[at]), int(row[at]), str(uid), entry.tar)
    return [found for found in out if found is not None]
