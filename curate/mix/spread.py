"""Survey lengths of the samples of each source when a mixture is made, one line a shard.

The lines lie beside the manifest (`mixture.lengths.npy`). What each row's length is stays in the indexes, and is looked
up for the shards that are being read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from curate.commit import commit_file, file_sha256
from curate.mix.datasets import folder_of
from curate.mix.indexes import sample_lengths
from curate.mix.manifest import Manifest, Source, Unit
from curate.mix.order import order_key, shard_rows
from curate.mix.schedule import AGAIN, Ints, MixtureError
from curate.mix.strata import LINE, Strata, Table, cut_strata, shard_line
from curate.shards import DatasetInfo, load_dataset


@dataclass(frozen=True)
class Measure:
    """The lengths of a dataset's samples in a unit, from the indexes in `folder`."""

    folder: Path
    unit: Unit
    visual_tokens: int

    @cached_property
    def info(self) -> DatasetInfo:
        """The dataset's own file, read when first needed."""
        return load_dataset(self.folder)

    def of(self, shard: int) -> Ints:
        """The lengths of a shard's rows. Raises MixtureError, ShardError."""
        return sample_lengths(
            self.folder / self.info.shards[shard].index, self.info.kind, self.unit, self.visual_tokens
        )


@dataclass(frozen=True, eq=False)
class LengthSurvey:
    """Survey of a source: what it holds of the unit, its longest sample, and where uneven, a line a shard."""

    units: int
    longest: int
    lines: Table

    @property
    def uneven(self) -> bool:
        """Whether samples differ in length, so that their order matters."""
        return len(self.lines) > 0


def survey(measure: Measure) -> LengthSurvey:
    """Go through the lengths of a dataset twice: for the strata, and for each shard's rows in them."""
    shards = range(len(measure.info.shards))
    if measure.unit == "samples":
        return LengthSurvey(measure.info.samples, 1, np.zeros(0, LINE))
    known, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for shard in shards:
        found, times = np.unique(measure.of(shard), return_counts=True)
        known, at = np.unique(np.concatenate([known, found]), return_inverse=True)
        counts = np.bincount(at, np.concatenate([counts, times])).astype(np.int64)
    bounds = cut_strata(known, counts) if len(known) > 1 else ()
    lines = [shard_line(measure.of(shard), bounds) for shard in shards if bounds]
    return LengthSurvey(int((known * counts).sum()), int(known.max(initial=0)), np.array(lines, LINE))


def write(path: Path, lines: Sequence[Table]) -> None:
    """Write the lines of all sources, one after another, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate(lines), allow_pickle=False)
    with commit_file(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def tables(manifest: Manifest, path: Path) -> Iterator[Table]:
    """The lines of each source of the manifest in the file `path`, mapped; none for one whose order needs none."""
    if manifest.lengths is None:
        yield from (np.zeros(0, LINE) for _ in manifest.datasets)
        return
    file, first = path.parent / manifest.lengths.file, 0
    whole = _mapped(file)
    for source in manifest.datasets:
        count = len(shard_rows(source.shards)) if source.spread else 0
        yield whole[first : first + count]
        first += count
    if first != len(whole):
        raise MixtureError(f"{file}: has {len(whole)} lines, {path} needs {first}; {AGAIN}")


def check_tables(manifest: Manifest, path: Path) -> None:
    """Raise MixtureError unless the lines beside the manifest are those that it was written with."""
    if manifest.lengths is None:
        return
    file = path.parent / manifest.lengths.file
    if not file.is_file() or file_sha256(file) != manifest.lengths.sha256:
        raise MixtureError(f"{file}: is not there, or is not the one that {path} was written with; {AGAIN}")


def strata(manifest: Manifest, path: Path) -> list[Strata | None]:
    """The order by length of each source of the manifest in the file `path`, where it has one."""
    if manifest.lengths is None:
        return [None] * len(manifest.datasets)
    out: list[Strata | None] = []
    for source, table in zip(manifest.datasets, tables(manifest, path), strict=True):
        if source.spread is None:
            out.append(None)
            continue
        key, rows = order_key(manifest.seed, source.name), shard_rows(source.shards)
        out.append(Strata(table, rows, key, manifest.open_shards, _LateLengths(source, path)))
    return out


@dataclass(frozen=True)
class _LateLengths:
    """The lengths of a source's shards, whose folder is looked for when the first of them is asked for."""

    source: Source
    path: Path

    def __call__(self, shard: int) -> Ints:
        return self._measure.of(shard)

    @cached_property
    def _measure(self) -> Measure:
        spread = self.source.spread
        assert spread is not None
        return Measure(folder_of(self.source, self.path), spread.unit, spread.visual_tokens)


def _mapped(file: Path) -> Table:
    try:
        whole: Table = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise MixtureError(f"{file}: no such file; it belongs beside the manifest: put it there, or {AGAIN}") from None
    except (OSError, ValueError, EOFError) as err:
        raise MixtureError(f"{file}: cannot be read ({err}); {AGAIN}") from None
    if whole.dtype != LINE or whole.ndim != 1:
        raise MixtureError(f"{file}: holds no lines of lengths; {AGAIN}")
    return whole
