"""A mixture: a manifest at work, and the file it is in. What stands at a position, what holds at a step."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curate.mix import stages
from curate.mix.datasets import check_datasets, folder_of
from curate.mix.manifest import Manifest, read_manifest
from curate.mix.order import shuffle
from curate.mix.plan import Plan, stream_position
from curate.mix.schedule import Ints, MixtureError, Sources
from curate.mix.spread import check_tables, strata


class Mixture:
    """The arithmetic of the `manifest` in the file `path`, which is looked at for what lies beside it.

    Positions are those the stream counts, unless they are said to be the mixture's: a skipped range is stepped over,
    and the position after it takes its place. Sources are told by their numbers in the manifest.
    """

    def __init__(self, manifest: Manifest, path: Path) -> None:
        self.manifest, self.path = manifest, Path(path)
        self.plan = Plan.of(manifest, strata(manifest, self.path))

    def __reduce__(self) -> tuple[type[Mixture], tuple[Manifest, Path]]:
        """What another process is given: it makes its own plan."""
        return Mixture, (self.manifest, self.path)

    def locate(self, positions: npt.ArrayLike) -> tuple[Sources, Ints, Ints]:
        """(source, epoch, row) of each position, shapes as `positions`. Raises MixtureError beyond the mixture."""
        source, draw = self.plan.drawn(positions)
        return source, *shuffle(draw, source, self.plan.orders)

    def choose(self, source: int, uid: str, epoch: int, what: str = "text") -> str | None:
        """Choose one of a source's options for a sample in an epoch: a key of its texts, a template, a system prompt.

        A pure function of (seed, uid, epoch, what), by the choices' weights; None where the source has no such choice.
        """
        options = self.manifest.datasets[source].choices.get(what)
        if not options:
            return None
        data = f"{self.manifest.seed}\0{uid}\0{epoch}\0{what}".encode("utf-8", "surrogatepass")
        word = int.from_bytes(hashlib.blake2b(data, digest_size=7, person=b"curate.choice.1").digest(), "little")
        left = word / (1 << 56) * sum(options.values())
        ranked = sorted(option for option, weight in options.items() if weight > 0)  # a file keeps no other order
        for option in ranked:
            left -= options[option]
            if left < 0:
                return option
        return ranked[-1]

    def step_size(self, batch: int | None = None) -> int:
        """Positions of a step: the manifest's own, or `batch`. Raises MixtureError where neither or both say."""
        own = self.manifest.batch
        if own is None and batch is None:
            raise MixtureError("the manifest names no batch size, so steps cannot be counted; give --batch")
        if own is not None and batch not in (None, own):
            raise MixtureError(f"the manifest counts steps of {own} samples, not {batch}; give that")
        return own or batch or 1

    def positions_of(self, step: int, batch: int | None = None) -> Ints:
        """The positions of a step."""
        size = self.step_size(batch)
        if (step + 1) * size > np.iinfo(np.int64).max:
            raise MixtureError(
                f"step {step}: positions end at 2**63, which is {2**63 // size:,} steps of {size:,} samples"
            )
        return np.arange(step * size, (step + 1) * size, dtype=np.int64)

    def stage_at(self, step: int) -> stages.StageAt:
        """The settings at a step of the stream: resolution, sequence length, what is trained, weights."""
        return self.stage_of(step * self.step_size() if step else 0)

    def stage_of(self, position: int) -> stages.StageAt:
        """The settings at a position of the stream."""
        return stages.stage_of(self.manifest, self.mixture_position(position))

    def served(self, position: int) -> Ints:
        """Draws of each source before a position."""
        return self.plan.served(position)

    def counts(self, position: int) -> Ints:
        """Draws of each source before a position of the mixture, skipped ones included."""
        return self.plan.counts(position)

    def strays(self, source: int, epoch: int = 0) -> int | None:
        """The most of its unit that a source is off between ranges of shards; None where its order is not by length.

        What it strays by within a range is about its longest sample (`curate.mix.strata`).
        """
        order = self.plan.orders.each[source].strata
        return None if order is None else order.off(epoch)

    def mixture_position(self, position: int) -> int:
        """A position as one of the mixture: what is skipped before it is counted."""
        return int(self.plan.unskipped(np.array([position], np.int64))[0])

    def stream_position(self, position: int) -> int:
        """A position of the mixture as one of the stream: what is skipped before it is not counted."""
        return stream_position(position, self.manifest.skips)

    def folder(self, source: int) -> Path:
        """The folder of a source; in the cache, if it is a URL.

        Raises MixtureError, ShardError for one that lies elsewhere, is not in the cache yet and cannot be had.
        """
        return folder_of(self.manifest.datasets[source], self.path)

    def knows(self, digest: str, position: int) -> bool:
        """Whether a state of the manifest file with this SHA-256 can go on here: this mixture continues that one.

        Up to the position at which it takes over, a mixture gives what the one before gave.
        """
        continued = self.manifest.continued
        return continued is not None and continued.digest == digest and position <= continued.position


def load(path: Path) -> Mixture:
    """Read a mixture and check that its datasets are those it was made of.

    Raises MixtureError, ShardError or SettingsError, each a ValueError.
    """
    mixture = read(path)
    check_tables(mixture.manifest, mixture.path)
    check_datasets(mixture.manifest, mixture.path)
    return mixture


def read(path: Path) -> Mixture:
    """Read a mixture without looking at its datasets. Raises MixtureError, ShardError or SettingsError."""
    path = Path(path)
    return Mixture(read_manifest(path), path)
