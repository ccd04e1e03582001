"""The mixture manifest, `mixture.json`: sources, shares, stages and seed; checked when read.

Everything in it is resolved: nested groups, units, sizes, caps and limits have become the weights of stages and the
slots of segments. A file like this is written by `curate mix`; people write specifications (`curate.mix.spec`). It is
plain data: what follows from it is worked out by a `Mixture` (`curate.mix.mixture`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from curate.commit import commit_text, dump_json
from curate.mix.order import MAX_ROWS, OPEN_SHARDS, Runs
from curate.mix.schedule import AGAIN, MAX_SLOTS, MixtureError
from curate.sample import fingerprint
from curate.settings import Settings, validate
from curate.shards.info import check_version, read_json

MANIFEST_VERSION = 3
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

    def sealed(self) -> Manifest:
        """The manifest with the seal of its content."""
        return self.model_copy(update={"seal": self.content})


def save(manifest: Manifest, path: Path) -> None:
    """Write a manifest whole or not at all; the same manifest, the same bytes."""
    commit_text(Path(path), dump_json(manifest.sealed().model_dump(mode="json")))


def read_manifest(path: Path) -> Manifest:
    """Read the manifest in a file, and look at nothing else. Raises MixtureError, ShardError or SettingsError."""
    data = read_json(path, "make a mixture with `curate mix`")
    check_version(path, data, MANIFEST_VERSION)
    if data.get("version", 1) == 1:
        raise MixtureError(f"{path}: a manifest of version 1, whose order this curate no longer has; {AGAIN}")
    return validate(data, Manifest, str(path))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `mixture.json`."""
    return Manifest.model_json_schema()


def same_content(one: str, other: str) -> str:
    """The message for one dataset reached by two paths."""
    return (
        f"{one} and {other} hold the same content; name it once, with the sum of the weights,"
        " or say `again: true` where it is meant"
    )
