"""Datasets for tests of mixtures: real ones of a few samples, and published sizes listed without their tars."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml

from bench import peers
from curate.mix import Built, MixtureSpec, Onto, compose
from curate.settings import validate
from curate.shards import DatasetInfo, Part, ShardInfo, ShardWriter, load_dataset, save_dataset
from curate.shards.index import index_metadata, write_index


def a_dataset(folder: Path, count: int, name: str | None = None, **columns: Sequence[int]) -> Path:
    """A dataset of `count` small samples in one shard, with integer columns in its index."""
    schema = pa.schema([(column, pa.int32()) for column in columns])
    with ShardWriter(folder / "00000.tar", columns=schema) as shard:
        for n in range(count):
            shard.add(f"{folder.name}{n}", {"txt": b"x"}, {key: value[n] for key, value in columns.items()})
    info = shard.info
    save_dataset(
        DatasetInfo(
            name=name or folder.name, kind="caption", samples=count, bytes=info.bytes, recipe="0" * 16, shards=(info,)
        ),
        folder,
    )
    return folder


def listed(folder: Path, sizes: Mapping[str, int], per_shard: int = 10_000) -> None:
    """Only the dataset.json of each, which is all that a mixture in samples needs."""
    for name, count in sizes.items():
        full, rest = divmod(count, per_shard)
        rows = [per_shard] * full + [rest] * (rest > 0)
        shards = tuple(
            ShardInfo(f"{n:05d}.tar", f"{n:05d}.arrow", size, 1, hashlib.sha256(f"{name}{n}".encode()).hexdigest())
            for n, size in enumerate(rows)
        )
        (folder / name).mkdir(parents=True)
        info = DatasetInfo(name=name, kind="caption", samples=count, bytes=len(shards), recipe="0" * 16, shards=shards)
        save_dataset(info, folder / name)


def measured(
    folder: Path, sources: Mapping[str, npt.NDArray[np.int64]], per_shard: int, column: str = "text_tokens"
) -> None:
    """Datasets of which only the lists of shards and their indexes are there, with lengths in a column."""
    listed(folder, {name: len(lengths) for name, lengths in sources.items()}, per_shard)
    for name, lengths in sources.items():
        for number, shard in enumerate(load_dataset(folder / name).shards):
            mine = lengths[number * per_shard : number * per_shard + shard.samples]
            uids = [f"{name}{number}-{row}" for row in range(shard.samples)]
            metadata = index_metadata("caption", shard.tar, shard.bytes, shard.sha256)
            parts = [[Part("txt", 0, 1)]] * shard.samples
            write_index(folder / name / shard.index, metadata, uids, parts, {column: pa.array(mine, pa.int32())})


def composed(folder: Path, text: str, onto: Onto | None = None, out: str = "mixture.json") -> Built:
    """The mixture that a specification in YAML says, of datasets in `folder`."""
    spec = validate(yaml.safe_load(text), MixtureSpec, "spec.yaml")
    return compose(spec, folder, folder / out, onto)


def drawn_shares(built: Built, steps_of: int = 1 << 20) -> dict[str, float]:
    """Each source's part of the first draws."""
    counts = built.mixture.counts(steps_of)
    return {source.name: float(n / steps_of) for source, n in zip(built.mixture.manifest.datasets, counts, strict=True)}


THREE = {"a": 1000, "b": 400, "c": 90}

ALL = "{path: a}, {path: b}, {path: c}"

RAMPED = f"""
batch: 10
sources: [{ALL}]
stages:
  - {{name: low, steps: 100, resolution: 224, sequence: {{a: 1024, b: 512}}}}
  - {{name: high, ramp: 50, resolution: 448, resolution_multiple: 14, sequence: {{a: 2048, c: 768}},
     sequence_multiple: 256, train: [connector]}}
"""

FAR = 10**12

SHAPES = {**peers.SHAPES, "a hundred uneven": list(np.random.default_rng(1).dirichlet([0.2] * 100))}
