"""The mixture manifest, `mixture.json`: which datasets, in what shares, by which seed; checked whenever it is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from curate.mix.schedule import MAX_ROWS, MixtureError, shares
from curate.sample import commit_text, dump_json, file_sha256
from curate.settings import Settings, validate
from curate.shards import DatasetInfo, load_dataset
from curate.shards.info import DATASET_FILE, check_version, dataset_file, read_json

MANIFEST_VERSION = 1
AGAIN = "run `curate mix` again"


class Source(Settings):
    """One dataset of a mixture. `path` is seen from the manifest's folder, `digest` is the SHA-256 of dataset.json."""

    name: str = Field(min_length=1)
    path: str = Field(min_length=1)
    weight: float = Field(ge=0)
    slots: int = Field(ge=0)
    samples: int = Field(ge=1, le=MAX_ROWS)
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(Settings):
    """A mixture: `slots` of a period for each dataset say exactly which share it has."""

    version: Literal[1] = 1
    seed: int = Field(ge=0, lt=1 << 63)
    datasets: tuple[Source, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        names = [d.name for d in self.datasets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are named {twice[0]!r}, and a name keys the order; {AGAIN}")
        digests = [d.digest for d in self.datasets]
        if again := [d for d in self.datasets if digests.count(d.digest) > 1]:
            raise ValueError(f"{_same(again[0].path, again[1].path)}")
        wanted = shares([d.weight for d in self.datasets])
        if wanted != (found := tuple(d.slots for d in self.datasets)):
            raise ValueError(f"the weights mean the slots {wanted}, the file says {found}; {AGAIN} after a change")
        return self


def build(datasets: Sequence[tuple[Path, float]], seed: int, out: Path) -> Manifest:
    """Check the datasets (folders) and their weights, and write the manifest `out`. Raises MixtureError, ShardError."""
    if not datasets:
        raise MixtureError("no datasets to mix: give at least one folder that holds a dataset.json")
    slots = shares([weight for _, weight in datasets])
    names: list[str] = []
    content: dict[tuple[str, ...], Path] = {}
    sources = []
    for (path, weight), slot in zip(datasets, slots, strict=True):
        file = dataset_file(Path(path))
        info = _usable(file)
        if other := content.get(key := tuple(sorted(shard.sha256 for shard in info.shards))):
            raise MixtureError(_same(str(other), str(file.parent)))
        content[key] = file.parent
        names.append(_unused(info.name, names))
        sources.append(
            Source(
                name=names[-1],
                path=_seen_from(Path(out).parent, file.parent),
                weight=weight,
                slots=slot,
                samples=info.samples,
                digest=file_sha256(file),
            )
        )
    manifest = validate({"seed": seed, "datasets": sources}, Manifest, str(out))
    save(manifest, out)
    return manifest


def save(manifest: Manifest, path: Path) -> None:
    """Write a manifest whole or not at all; the same manifest, the same bytes."""
    commit_text(Path(path), dump_json(manifest.model_dump(mode="json")))


def load(path: Path) -> Manifest:
    """Read a manifest and check that its datasets are those it was made of.

    Raises MixtureError, ShardError or SettingsError, each a ValueError.
    """
    path = Path(path)
    data = read_json(path, "make a mixture with `curate mix`")
    check_version(path, data, MANIFEST_VERSION)
    manifest = validate(data, Manifest, str(path))
    for number, source in enumerate(manifest.datasets):
        file = folder_of(manifest, path, number) / DATASET_FILE
        if not file.is_file():
            raise MixtureError(f"{path}: dataset {source.name!r} is not at {file}; move it there, or {AGAIN}")
        if file_sha256(file) != source.digest or _usable(file).samples != source.samples:
            raise MixtureError(f"{path}: dataset {source.name!r} at {file} has changed since it was mixed; {AGAIN}")
    return manifest


def folder_of(manifest: Manifest, path: Path, source: int) -> Path:
    """The folder of one dataset of the manifest that was read from the file `path`."""
    return Path(path).parent / manifest.datasets[source].path


def _usable(file: Path) -> DatasetInfo:
    if file.name != DATASET_FILE:
        raise MixtureError(f"{file}: a dataset is given by its folder, or by the {DATASET_FILE} in it")
    info = load_dataset(file)
    if info.samples == 0:
        raise MixtureError(f"{file}: the dataset {info.name!r} has no samples; leave it out or loosen its recipe")
    return info


def _unused(name: str, taken: list[str]) -> str:
    """The name itself, or with a number behind it: the name keys a source's order, so it must be its own."""
    candidates = (name if n == 1 else f"{name}-{n}" for n in range(1, len(taken) + 2))
    return next(candidate for candidate in candidates if candidate not in taken)


def _seen_from(folder: Path, target: Path) -> str:
    try:
        return Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return target.resolve().as_posix()


def _same(one: str, other: str) -> str:
    return f"{one} and {other} hold the same content; name it once, with the sum of the weights"
