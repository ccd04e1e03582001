"""Stages of a mixture as the trainer obeys them: resolution, sequence length, trained parts."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from curate import mix


@dataclass(frozen=True)
class Stages:
    """Settings at a position of the stream; all samples of a batch go by the position at which it starts.

    `own_px` is the resolution where the mixture says none.
    """

    mixture: mix.Mixture
    own_px: int

    @cached_property
    def starts(self) -> list[int]:
        """The position of the stream at which each stage starts."""
        return [self.mixture.stream_position(stage.start) for stage in self.mixture.manifest.stages]

    def number(self, position: int) -> int:
        """The number of the stage at a position."""
        return max(bisect_right(self.starts, position) - 1, 0)

    def resolution(self, position: int, source: int) -> int:
        """The side of a source's images in pixels."""
        return self._setting_of(self.mixture.stage_of(position).resolution, source) or self.own_px

    def resolutions(self) -> list[set[int]]:
        """The resolutions of each stage's sources, ramps aside."""
        sources = range(len(self.mixture.manifest.datasets))
        stages = self.mixture.manifest.stages
        return [{self._setting_of(stage.resolution, source) or self.own_px for source in sources} for stage in stages]

    def all_resolutions(self) -> set[int]:
        """The resolutions that a run meets, those on the way of a ramp as well."""
        found = set().union(*(set(sides) for sides in self.resolutions()))
        for before, stage in itertools.pairwise(self.mixture.manifest.stages):
            for source in range(len(self.mixture.manifest.datasets)) if stage.ramp else ():
                first, last = self._setting_of(before.resolution, source), self._setting_of(stage.resolution, source)
                if first is not None and last is not None:
                    found.update(range(min(first, last), max(first, last), stage.resolution_multiple))
        return found

    def sequence(self, position: int, source: int) -> int | None:
        """Tokens of a sample of a source at most, where the manifest says so."""
        return self._setting_of(self.mixture.stage_of(position).sequence, source)

    def pack(self, position: int, own: int) -> int:
        """Tokens of a pack: the longest sequence of the stage, or `own`."""
        setting = self.mixture.manifest.stages[self.number(position)].sequence
        if isinstance(setting, dict):
            return max(setting.values(), default=own)
        return own if setting is None else setting

    def scale(self, position: int, counts: Sequence[float]) -> list[float]:
        """The factor of each source's losses, given how many there are of each in the step.

        The step's loss is the mean of all; in mode accumulate (Flamingo) the sum of the sources' means, each times its
        weight.
        """
        if self.mixture.manifest.mode != "accumulate":
            return [1 / max(sum(counts), 1.0)] * len(counts)
        weights = self.mixture.stage_at(position // self.mixture.step_size()).weights
        return [weight / max(count, 1.0) for weight, count in zip(weights, counts, strict=True)]

    def _setting_of(self, setting: int | dict[str, int] | None, source: int) -> int | None:
        """What is said of a source: by its name, by the innermost of its groups that is named, or for all."""
        if not isinstance(setting, dict):
            return setting
        of = self.mixture.manifest.datasets[source]
        return next((setting[name] for name in (of.name, *reversed(of.group.split("/"))) if name in setting), None)
