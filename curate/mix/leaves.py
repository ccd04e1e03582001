"""Resolve the datasets that a specification names: what each holds, and what a pass takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.commit import file_sha256
from curate.mix.datasets import changed_shard
from curate.mix.manifest import same_content
from curate.mix.schedule import MixtureError
from curate.mix.short_answers import check_prompted
from curate.mix.spec import Entry, MixtureSpec
from curate.mix.spread import Measure, survey
from curate.mix.weights import Leaf, samples_taken
from curate.settings import seen_from_here
from curate.shards import DatasetInfo, UnreachableError, attach_cached, is_url, load_dataset
from curate.shards.info import DATASET_FILE, dataset_file


def resolve_leaves(spec: MixtureSpec, home: Path) -> Iterator[Leaf]:
    """Resolve the sources of a specification, whose paths are seen from `home`. Raises MixtureError, ShardError."""
    names: list[str] = []
    content: dict[tuple[str, ...], str] = {}
    for entry, groups, cap, epochs in _walk_entries(spec.sources, (), spec.cap, spec.max_epochs):
        file = _file_of(entry.path or "", home, spec.unit)
        info = _check_usable(file)
        key = tuple(sorted(shard.sha256 for shard in info.shards))
        if key in content and not entry.again:
            raise MixtureError(same_content(content[key], entry.path or ""))
        content.setdefault(key, entry.path or "")
        if entry.name in names:
            raise MixtureError(f"two sources are named {entry.name!r}, and a name keys the order; rename one")
        names.append(entry.name or unused_name(info.name, names))
        check_prompted(names[-1], file.parent, info, entry.system)
        part, most, binds = samples_taken(entry, cap, spec.scale, info.samples)
        surveyed = survey(Measure(file.parent, spec.unit, spec.visual_tokens))
        digest = file_sha256(file)
        yield Leaf(entry, "/".join(groups), file.parent, info, digest, names[-1], surveyed, part, most, binds, epochs)


def _file_of(path: str, home: Path, unit: str) -> Path:
    """The dataset.json that a path means; of a URL, with its indexes as they are now if their lengths are needed."""
    if not is_url(path):
        return dataset_file(home / path)
    try:
        return attach_cached(path, fresh=unit != "samples") / DATASET_FILE
    except UnreachableError as err:
        raise MixtureError(str(err)) from err


Inherited = tuple[Entry, tuple[str, ...], int | None, float | None]


def _walk_entries(
    entries: Sequence[Entry], groups: tuple[str, ...], cap: int | None, epochs: float | None
) -> Iterator[Inherited]:
    """Every dataset of nested entries with its groups, cap and max_epochs; the innermost that says one decides."""
    for entry in entries:
        own_cap, own_epochs = entry.cap or cap, entry.max_epochs or epochs
        if entry.path is not None:
            yield entry, groups, own_cap, own_epochs
        else:
            yield from _walk_entries(entry.sources, (*groups, entry.group or ""), own_cap, own_epochs)


def _check_usable(file: Path) -> DatasetInfo:
    if not file.exists() and file.name != DATASET_FILE:
        raise MixtureError(
            f"{file}: no such folder{seen_from_here(file)}; a dataset is given by the folder that `curate run`"
            " published"
        )
    if file.name != DATASET_FILE:
        raise MixtureError(f"{file}: a dataset is given by its folder, or by the {DATASET_FILE} in it")
    info = load_dataset(file)
    if info.samples == 0:
        raise MixtureError(f"{file}: the dataset {info.name!r} has no samples; leave it out or loosen its recipe")
    if changed := changed_shard(file.parent, info):
        raise MixtureError(f"{changed} has another size than {file} says: it was changed; publish the dataset again")
    return info


def unused_name(name: str, taken_names: Sequence[str]) -> str:
    """The name itself, or with a number behind it: the name keys a source's order, so it must be its own."""
    candidates = (name if n == 1 else f"{name}-{n}" for n in range(1, len(taken_names) + 2))
    return next(candidate for candidate in candidates if candidate not in taken_names)
