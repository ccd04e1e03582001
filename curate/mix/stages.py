"""Settings at a position of a mixture: the stage, its weights, how to train; within a ramp, what lies between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from curate.mix.manifest import BySource, Manifest


@dataclass(frozen=True)
class StageAt:
    """Settings at a step: the stage's name, whether its weights are still ramping, and how to train.

    `weights`: each source's wanted share of the samples drawn, or in mode accumulate the weight of its loss.
    """

    name: str
    ramping: bool
    weights: tuple[float, ...]
    resolution: BySource
    sequence: BySource
    train: tuple[str, ...] | None


def stage_of(manifest: Manifest, position: int) -> StageAt:
    """Settings at a position of the mixture; within a ramp resolution and sequence are the nearest multiples."""
    number = max(n for n, s in enumerate(manifest.stages) if s.start <= position)
    stage = manifest.stages[number]
    weights = _as_used(manifest, stage.weights)
    if not number or position >= stage.start + stage.ramp:
        return StageAt(stage.name, False, weights, stage.resolution, stage.sequence, stage.train)
    before, done = manifest.stages[number - 1], position - stage.start
    weights = tuple(
        a + (b - a) * (done / stage.ramp) for a, b in zip(_as_used(manifest, before.weights), weights, strict=True)
    )
    at = (done, stage.ramp)
    resolution = _ramped(before.resolution, stage.resolution, at, stage.resolution_multiple)
    sequence = _ramped(before.sequence, stage.sequence, at, stage.sequence_multiple)
    return StageAt(stage.name, True, weights, resolution, sequence, stage.train)


def _ramped(then: BySource, now: BySource, at: tuple[int, int], multiple: int) -> BySource:
    """What holds at (positions done, positions in all) of a ramp, for all or source by source."""
    if isinstance(now, dict):
        past = then if isinstance(then, dict) else dict.fromkeys(now, then)
        return {name: _between(past.get(name), n, *at, multiple) for name, n in now.items()}
    return _between(None if isinstance(then, dict) else then, now, *at, multiple)


N = TypeVar("N", int, int | None)


def _between(before: int | None, after: N, done: int, ramp: int, multiple: int) -> N:
    """The multiple nearest to where a ramp stands; where the stage before says nothing, there is none."""
    if before is None or after is None:
        return after
    doubled = 2 * (before * ramp + (after - before) * done)
    return (doubled + ramp * multiple) // (2 * ramp * multiple) * multiple


def _as_used(manifest: Manifest, weights: tuple[float, ...]) -> tuple[float, ...]:
    """Losses as they are; shares add up to one."""
    whole = 1.0 if manifest.mode == "accumulate" else sum(weights)
    return tuple(weight / whole for weight in weights)
