"""Mixture specification, a YAML file written by hand: nested groups, weights, units, stages.

`curate mix SPEC.yaml -o mixture.json` resolves it into a manifest. Paths are seen from the current folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from curate.mix.manifest import Mode, Unit
from curate.mix.order import OPEN_SHARDS
from curate.mix.segments import Policy
from curate.settings import PathText, Settings

By = Literal["weight", "size"]
Options = dict[str, float]


class Entry(Settings):
    """A source (`path`: a folder or a URL) or a group of entries (`group` and `sources`).

    `weight` is relative to its neighbours; where they are weighted by size it multiplies, in mode accumulate it is the
    weight of the loss. For sources: `cap` samples and `epochs` of itself are what one pass of the mixture takes (by
    size and in mode concat), `max_epochs` how often it may be seen in the whole run, `rotate: 5` lets a fifth take
    part in each pass, `batch` its samples in a step of mode accumulate, `again` that its content is meant twice.
    `texts`, `templates` and `system` are chosen from at each access, by weight.
    """

    short: ClassVar[Mapping[type, str]] = {str: "path"}

    path: PathText | None = None
    name: str | None = Field(None, min_length=1)
    group: str | None = Field(None, min_length=1)
    sources: tuple[Entry, ...] = ()
    weight: float = Field(1.0, ge=0)
    by: By | None = None
    power: float = Field(1.0, ge=0)
    cap: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    max_epochs: float | None = Field(None, gt=0)
    rotate: int = Field(1, ge=1)
    batch: int | None = Field(None, ge=1)
    again: bool = False
    texts: Options = Field(default_factory=dict)
    templates: Options = Field(default_factory=dict)
    system: Options = Field(default_factory=dict)

    @field_validator("texts", "templates", "system", mode="before")
    @classmethod
    def _evenly(cls, value: object) -> object:
        return dict.fromkeys(map(str, value), 1.0) if isinstance(value, list | tuple) else value

    @field_validator("texts", "templates", "system")
    @classmethod
    def _weights(cls, value: Options) -> Options:
        if value and (min(value.values()) < 0 or not any(value.values())):
            raise ValueError("the weights of choices are 0 or more, and one of them is positive")
        return value

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Entry:
        if (self.path is None) == (self.group is None):
            raise ValueError("say either `path` (a dataset) or `group` and `sources`")
        if self.group is not None and not self.sources:
            raise ValueError(f"group {self.group!r} has no sources")
        if self.path is not None and (self.sources or self.by is not None):
            raise ValueError("a dataset has no `sources` and no `by`; make it a `group`")
        if self.power != 1 and self.by != "size":
            raise ValueError("`power` is of sizes: say `by: size` as well")
        own = {"name", "epochs", "rotate", "batch", "again", "texts", "templates", "system"} & self.model_fields_set
        if self.group is not None and own:
            raise ValueError(f"{sorted(own)[0]!r} is said of a dataset, not of a group")
        return self


class StageSpec(Settings):
    """A part of the run: its `steps` (the last may leave them out), over how many of them it `ramp`s in.

    `weights` names sources or groups and replaces their weights; others keep theirs. Weights, resolution and sequence
    ramp from those of the stage before, resolution and sequence in whole multiples.
    """

    short: ClassVar[Mapping[type, str]] = {str: "name"}

    name: str = Field(min_length=1)
    steps: int | None = Field(None, ge=1)
    ramp: int = Field(0, ge=0)
    weights: dict[str, float] = Field(default_factory=dict)
    resolution: PositiveInt | dict[str, PositiveInt] | None = None
    resolution_multiple: int = Field(1, ge=1)
    sequence: PositiveInt | dict[str, PositiveInt] | None = None
    sequence_multiple: int = Field(1, ge=1)
    train: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _multiples(self) -> StageSpec:
        for what, setting, multiple in (
            ("resolution", self.resolution, self.resolution_multiple),
            ("sequence", self.sequence, self.sequence_multiple),
        ):
            values = setting.values() if isinstance(setting, dict) else [setting]
            given = [value for value in values if value is not None]
            if multiple > 1 and not (given and self.ramp):
                raise ValueError(f"`{what}_multiple` is for a `{what}` that ramps: say `{what}` and `ramp` as well")
            if any(value % multiple for value in given):
                raise ValueError(f"`{what}` {max(given)} is no multiple of {multiple}")
        return self


class MixtureSpec(Settings):
    """A whole mixture. `total` samples make a pass; `scale` shrinks `cap` and `total`, never shares."""

    seed: int = Field(0, ge=0, lt=1 << 63)
    mode: Mode = "interleave"
    unit: Unit = "samples"
    visual_tokens: int = Field(0, ge=0)
    batch: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    open_shards: int = Field(OPEN_SHARDS, ge=1)
    by: By = "weight"
    power: float = Field(1.0, ge=0)
    cap: int | None = Field(None, ge=1)
    total: int | None = Field(None, ge=1)
    scale: float = Field(1.0, gt=0)
    max_epochs: float | None = Field(None, gt=0)
    at_limit: Policy = "refuse"
    sources: tuple[Entry, ...] = Field(min_length=1)
    stages: tuple[StageSpec, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> MixtureSpec:
        if self.unit == "total_tokens" and not self.visual_tokens:
            raise ValueError("unit total_tokens needs `visual_tokens`, the tokens an image becomes")
        if (self.stages or self.steps) and self.batch is None and self.mode != "accumulate":
            raise ValueError("stages and steps are counted in batches: say `batch`, the samples of a step")
        if any(stage.steps is None for stage in self.stages[:-1]):
            raise ValueError("every stage but the last needs `steps`")
        if len({stage.name for stage in self.stages}) != len(self.stages):
            raise ValueError("two stages have one name")
        self._nothing_in_vain()
        if self.mode == "homogeneous" and self.batch is None:
            raise ValueError("mode homogeneous draws whole batches: say `batch`, the samples of a step")
        if self.mode == "concat" and any(stage.ramp and stage.weights for stage in self.stages):
            raise ValueError("mode concat has counts, not weights, and they cannot ramp")
        return self

    def _nothing_in_vain(self) -> None:
        """Refuse what would be read and not done."""
        entries = list(walk_entries(self.sources))
        if self.power != 1 and self.by != "size":
            raise ValueError("`power` is of sizes: say `by: size` as well")
        if self.scale != 1 and self.total is None and self.cap is None and all(e.cap is None for e in entries):
            raise ValueError("`scale` shrinks `cap` and `total`, and neither is said")
        sized = self.total or self.by == "size" or self.cap or any(e.by == "size" or e.cap or e.epochs for e in entries)
        if self.mode == "accumulate" and sized:
            raise ValueError("mode accumulate weighs losses: it has no use for sizes, caps, epochs or a total")
        if self.mode == "concat" and (self.by == "size" or any(e.by for e in entries)):
            raise ValueError("mode concat goes by sizes anyway: leave `by` out")
        if self.mode != "accumulate" and any(e.batch for e in entries):
            raise ValueError("a source's `batch` is for mode accumulate; elsewhere weights say how much comes")


def walk_entries(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Walk all entries, groups before what is in them."""
    for entry in entries:
        yield entry
        yield from walk_entries(entry.sources)
