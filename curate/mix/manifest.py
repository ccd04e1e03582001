"""The mixture manifest, `mixture.json`: sources, shares, stages and seed; checked when read.

Everything in it is resolved: nested groups, units, sizes, caps and limits have become the weights of stages and the
slots of segments. A file like this is written by `curate mix`; people write specifications (`curate.mix.spec`).
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from curate.commit import commit_text, dump_json, file_sha256
from curate.mix.order import MAX_ROWS, OPEN_SHARDS, Runs
from curate.mix.plan import Plan
from curate.mix.schedule import AGAIN, MAX_SLOTS, MixtureError
from curate.mix.spread import strata
from curate.sample import fingerprint
from curate.settings import Settings, validate
from curate.shards import DatasetInfo, UnreachableError, attach_cached, fetch_dataset_json, is_url, load_dataset
from curate.shards.info import DATASET_FILE, check_version, read_json

MANIFEST_VERSION = 3
ASKED_AT_ONCE = 8
"""Datasets that lie elsewhere, of which dataset.json is compared at a time."""
SINCE_3: Any = {
    "lengths": True,
    "datasets": {"__all__": {"spread"}},
    "stages": {"__all__": {"resolution_multiple", "sequence_multiple"}},
}
"""What a manifest of version 2 does not have, and its seal does not name."""

Mode = Literal["interleave", "accumulate", "homogeneous", "concat"]
Unit = Literal["samples", "text_tokens", "images", "total_tokens", "answer_tokens"]
Choices = dict[str, dict[str, float]]
BySource = int | dict[str, int] | None
"""A side in pixels or a length in tokens: of all, or by source or group."""


class Spread(Settings):
    """The length by which a source's order spreads its samples."""

    unit: Unit
    visual_tokens: int = 0


class Lengths(Settings):
    """The file beside the manifest that has a line for each shard of the sources that are spread, and its SHA-256."""

    file: str = Field(pattern=r"^[^/\\\x00]+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Source(Settings):
    """One dataset of a mixture. `path` is seen from the manifest's folder, or a URL; `digest` is that of dataset.json.

    `weight` is the one given, within its group; `share` that of the whole mixture, in the mixture's unit, at its first
    stage. `units` is how much of that unit the dataset holds. `shards`: (how many, samples of each) in order.
    """

    name: str = Field(min_length=1)
    group: str = ""
    path: str = Field(min_length=1)
    weight: float = Field(ge=0)
    share: float = Field(ge=0, le=1)
    samples: int = Field(ge=1, le=MAX_ROWS)
    units: int = Field(ge=0)
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    shards: Runs
    again: bool = False
    rotate: int = Field(1, ge=1)
    max_epochs: float | None = Field(None, gt=0)
    choices: Choices = Field(default_factory=dict)
    spread: Spread | None = None


class Stage(Settings):
    """From position `start` on: the sources' weights in samples (losses in mode accumulate), and how to train.

    `resolution` in pixels, `sequence` in tokens, for all sources or by source or group; `train` names what is trained.
    Over the first `ramp` positions weights, resolution and sequence go from the stage before's to these, the latter in
    whole multiples.
    """

    name: str = Field(min_length=1)
    start: int = Field(ge=0)
    ramp: int = Field(0, ge=0)
    weights: tuple[float, ...]
    resolution: BySource = None
    resolution_multiple: int = Field(1, ge=1)
    sequence: BySource = None
    sequence_multiple: int = Field(1, ge=1)
    train: tuple[str, ...] | None = None


class Segment(Settings):
    """From position `start` on, `slots` of a period for each source (batches in mode homogeneous)."""

    start: int = Field(ge=0)
    slots: tuple[int, ...]


class Continued(Settings):
    """The manifest this one goes on from, by the SHA-256 of its file, at which position."""

    digest: str = Field(pattern="^[0-9a-f]{64}$")
    position: int = Field(ge=0)


@dataclass(frozen=True)
class _Place:
    """The file a manifest was read from or written to; it is no part of what the manifest says."""

    file: Path | None = field(default=None, compare=False)


class Manifest(Settings):
    """A mixture: a flat list of sources; stages say what is wanted, segments which slots of a period give it.

    `batch`: positions of a step. `epoch`: positions of one pass where the mixture has one. `end`: how many positions
    the stream has, where a source's epochs end it. `skips`: ranges [first, end) of the mixture left out. `seal` names
    the content, so that a change by hand is noticed.
    """

    version: Literal[2, 3] = 3
    seed: int = Field(ge=0, lt=1 << 63)
    mode: Mode = "interleave"
    unit: Unit = "samples"
    visual_tokens: int = 0
    batch: int | None = Field(None, ge=1)
    epoch: int | None = Field(None, ge=1)
    end: int | None = Field(None, ge=0)
    open_shards: int = Field(OPEN_SHARDS, ge=1)
    datasets: tuple[Source, ...] = Field(min_length=1)
    stages: tuple[Stage, ...] = Field(min_length=1)
    segments: tuple[Segment, ...] = Field(min_length=1)
    skips: tuple[tuple[int, int], ...] = ()
    lengths: Lengths | None = None
    continued: Continued | None = None
    seal: str = ""
    _place: _Place = PrivateAttr(default_factory=lambda: _Place())

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        self._check_sources()
        for what, entries in (("stages", self.stages), ("segments", self.segments)):
            starts = [e.start for e in entries]
            if starts[0] != 0 or sorted(set(starts)) != starts:
                raise ValueError(f"{what} must start at 0 and rise, found {starts[:8]}; {AGAIN}")
        rows, width = (*(s.weights for s in self.stages), *(s.slots for s in self.segments)), len(self.datasets)
        if any(len(row) != width for row in rows):
            raise ValueError(f"every stage and segment needs one number for each of {width} sources; {AGAIN}")
        if any(min(s.slots) < 0 or not 0 < sum(s.slots) <= MAX_SLOTS for s in self.segments):
            raise ValueError(f"the slots of a segment are counts that add up to 1 to {MAX_SLOTS}; {AGAIN}")
        ends = [end for skip in sorted(self.skips) for end in skip]
        if sorted(set(ends)) != ends:
            raise ValueError(f"skips must be ranges [first, end) that do not meet, found {self.skips[:4]}; {AGAIN}")
        if self.batch is None and self.mode in ("accumulate", "homogeneous"):
            raise ValueError(f"mode {self.mode} needs `batch`, the samples of a step")
        if self.seal and self.seal != self.content:
            raise ValueError(f"was changed by hand (its seal is another's): change the specification, then {AGAIN}")
        return self

    def _check_sources(self) -> None:
        names = [d.name for d in self.datasets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are named {twice[0]!r}, and a name keys the order; {AGAIN}")
        once = [d for d in self.datasets if not d.again]
        digests = [d.digest for d in once]
        if again := [d for d in once if digests.count(d.digest) > 1]:
            raise ValueError(same_content(again[0].path, again[1].path))
        if any(d.spread for d in self.datasets) != (self.lengths is not None):
            raise ValueError(f"sources that are spread by length need `lengths`, and no others do; {AGAIN}")

    @property
    def content(self) -> str:
        """16 hex digits that name all of the manifest but its seal."""
        absent = SINCE_3 if self.version == 2 else {}
        return fingerprint(self.model_dump(mode="json", exclude={"seal": True, **absent}))

    @cached_property
    def plan(self) -> Plan:
        """The manifest made ready for arithmetic; made when first asked for."""
        return Plan.of(self, strata(self, self._place.file))

    def at(self, path: Path) -> Manifest:
        """The manifest as the one in the file `path`, beside which the lengths lie."""
        self._place = _Place(Path(path))
        return self

    def __getstate__(self) -> dict[Any, Any]:
        """What another process is given: it makes its own plan."""
        state = super().__getstate__()
        return state | {"__dict__": {k: v for k, v in state["__dict__"].items() if k != "plan"}}

    def sealed(self) -> Manifest:
        """The manifest with the seal of its content."""
        return self.model_copy(update={"seal": self.content})


def save(manifest: Manifest, path: Path) -> None:
    """Write a manifest whole or not at all; the same manifest, the same bytes."""
    commit_text(Path(path), dump_json(manifest.sealed().model_dump(mode="json")))


def load(path: Path) -> Manifest:
    """Read a manifest and check that its datasets are those it was made of.

    Raises MixtureError, ShardError or SettingsError, each a ValueError.
    """
    manifest = read(path)
    _check_lengths(manifest, path)
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        list(pool.map(lambda s: _check_there(s, path), [s for s in manifest.datasets if is_url(s.path)]))
    for number, source in enumerate(manifest.datasets):
        if is_url(source.path):
            continue
        file = folder_of(manifest, path, number) / DATASET_FILE
        if not file.is_file():
            raise MixtureError(f"{path}: dataset {source.name!r} is not at {file}; move it there, or {AGAIN}")
        if file_sha256(file) != source.digest or (info := load_dataset(file)).samples != source.samples:
            raise MixtureError(f"{path}: dataset {source.name!r} at {file} has changed since it was mixed; {AGAIN}")
        if changed := changed_shard(file.parent, info):
            raise MixtureError(
                f"{path}: shard {changed} of dataset {source.name!r} has changed since it was published; put it"
                f" back, or publish again and {AGAIN} (this looked at sizes; `curate verify` reads every byte)"
            )
    return manifest


def _check_there(source: Source, path: Path) -> None:
    """Raise MixtureError if a dataset that lies elsewhere is another now; its tars are looked at when they are read."""
    try:
        changed = hashlib.sha256(fetch_dataset_json(source.path)).hexdigest() != source.digest
    except UnreachableError as err:
        raise MixtureError(f"{path}: dataset {source.name!r}: {err}") from err
    if changed:
        raise MixtureError(f"{path}: dataset {source.name!r} at {source.path} has changed since it was mixed; {AGAIN}")


def _check_lengths(manifest: Manifest, path: Path) -> None:
    if manifest.lengths is None:
        return
    file = Path(path).parent / manifest.lengths.file
    if not file.is_file() or file_sha256(file) != manifest.lengths.sha256:
        raise MixtureError(f"{file}: is not there, or is not the one that {path} was written with; {AGAIN}")


def changed_shard(folder: Path, info: DatasetInfo) -> str | None:
    """A tar of another size than dataset.json says, one look at the folder for all; tars that lie elsewhere pass."""
    with os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".tar")}
    return next((str(folder / s.tar) for s in info.shards if sizes.get(s.tar, s.bytes) != s.bytes), None)


def read(path: Path) -> Manifest:
    """Read a manifest without looking at its datasets. Raises ShardError or SettingsError."""
    path = Path(path)
    data = read_json(path, "make a mixture with `curate mix`")
    check_version(path, data, MANIFEST_VERSION)
    if data.get("version", 1) == 1:
        raise MixtureError(f"{path}: a manifest of version 1, whose order this curate no longer has; {AGAIN}")
    manifest = validate(data, Manifest, str(path)).at(path)
    assert manifest.plan  # made now, so that the first seek need not
    return manifest


def knows(manifest: Manifest, digest: str, position: int) -> bool:
    """Whether a state of the manifest file with this SHA-256 can go on under `manifest`, which continues that one.

    Up to the position at which it takes over, a manifest gives what the one before gave.
    """
    return (
        manifest.continued is not None
        and manifest.continued.digest == digest
        and (position <= manifest.continued.position)
    )


def folder_of(manifest: Manifest, path: Path, source: int) -> Path:
    """The folder of one dataset of the manifest that was read from the file `path`; in the cache, if it is a URL.

    Raises MixtureError, ShardError for one that lies elsewhere, is not in the cache yet and cannot be had.
    """
    found = manifest.datasets[source]
    if not is_url(found.path):
        return Path(path).parent / found.path
    try:
        return attach_cached(found.path, found.digest)
    except UnreachableError as err:
        raise MixtureError(f"{path}: dataset {found.name!r}: {err}") from err


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `mixture.json`."""
    return Manifest.model_json_schema()


def same_content(one: str, other: str) -> str:
    """The message for one dataset reached by two paths."""
    return (
        f"{one} and {other} hold the same content; name it once, with the sum of the weights,"
        " or say `again: true` where it is meant"
    )
