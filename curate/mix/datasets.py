"""The datasets of a manifest: where they lie, and whether they are still those it was made of."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from curate.commit import file_sha256
from curate.mix.manifest import Manifest, Source
from curate.mix.schedule import AGAIN, MixtureError
from curate.mix.short_answers import check_prompted
from curate.shards import DatasetInfo, UnreachableError, attach_cached, fetch_dataset_json, is_url, load_dataset
from curate.shards.info import DATASET_FILE
from curate.shards.remote import ORIGIN_FILE

ASKED_AT_ONCE = 8
"""Datasets that lie elsewhere, of which dataset.json is compared at a time."""


def folder_of(source: Source, path: Path) -> Path:
    """The folder of a source of the manifest in the file `path`; in the cache, if it is a URL.

    Raises MixtureError, ShardError for one that lies elsewhere, is not in the cache yet and cannot be had.
    """
    if not is_url(source.path):
        return path.parent / source.path
    try:
        return attach_cached(source.path, source.digest)
    except UnreachableError as err:
        raise MixtureError(f"{path}: dataset {source.name!r}: {err}") from err


def check_datasets(manifest: Manifest, path: Path) -> None:
    """Raise MixtureError or ShardError unless all datasets are those that the manifest in the file `path` was made of.

    Looks at each dataset.json, at the sizes of tars and at some conversations (curate.mix.short_answers); of what lies
    elsewhere at dataset.json alone.
    """
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        list(pool.map(lambda s: _check_there(s, path), [s for s in manifest.datasets if is_url(s.path)]))
    for source in manifest.datasets:
        if not is_url(source.path):
            _check_here(source, path)


def changed_shard(folder: Path, info: DatasetInfo) -> str | None:
    """A tar of another size than dataset.json says, one look at the folder for all; tars that lie elsewhere pass."""
    with os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".tar")}
    return next((str(folder / s.tar) for s in info.shards if sizes.get(s.tar, s.bytes) != s.bytes), None)


def _check_here(source: Source, path: Path) -> None:
    file = folder_of(source, path) / DATASET_FILE
    if not file.is_file():
        raise MixtureError(f"{path}: dataset {source.name!r} is not at {file}; move it there, or {AGAIN}")
    if file_sha256(file) != source.digest or (info := load_dataset(file)).samples != source.samples:
        raise MixtureError(f"{path}: dataset {source.name!r} at {file} has changed since it was mixed; {AGAIN}")
    if changed := changed_shard(file.parent, info):
        raise MixtureError(
            f"{path}: shard {changed} of dataset {source.name!r} has changed since it was published; put it"
            f" back, or publish again and {AGAIN} (this looked at sizes; `curate verify` reads every byte)"
        )
    if not (file.parent / ORIGIN_FILE).is_file():
        check_prompted(source.name, file.parent, info, source.choices.get("system", {}))


def _check_there(source: Source, path: Path) -> None:
    """Raise MixtureError if a dataset that lies elsewhere is another now; its tars are looked at when they are read."""
    try:
        changed = hashlib.sha256(fetch_dataset_json(source.path)).hexdigest() != source.digest
    except UnreachableError as err:
        raise MixtureError(f"{path}: dataset {source.name!r}: {err}") from err
    if changed:
        raise MixtureError(f"{path}: dataset {source.name!r} at {source.path} has changed since it was mixed; {AGAIN}")
