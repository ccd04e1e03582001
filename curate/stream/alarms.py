"""Alarms: where a run is off what the manifest promises by more than it allows.

Bounds follow from the law of the order, in the unit that the mixture weighs. Of samples a source is never off by more
than 2 (measured: 1.15). Of tokens, images and the like, the order by length adds the longest sample (measured, over
600 mixtures: 1.06; a search met one a hair above 1.25) and what ranges of unlike shards are off by (`Strata.off`),
which the manifest tells; what the other sources are off by counts by the source's share, for a share is one of all. Of
packs, what the planner strays by within a window is known to the unit (`curate.stream.packing.max_stray`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from curate import mix

SAMPLES_OFF = 2.0
"""Samples (batches in mode homogeneous) that a source may be off from its wanted share."""
LONGEST_OFF = 1.5
"""How many of its longest samples a source may be off besides, where shares are of tokens or images."""
REPLACED_SHARE = 0.01
"""Share of a source's samples that may have been replaced before that is an alarm."""
ENOUGH = 100
"""Samples of a source from which on replacements are judged."""


@dataclass
class Served:
    """One source so far: samples drawn and wanted, their text tokens and images, passes over it, replacements.

    `units`: how much of the mixture's unit, where that is not samples; `due` is its share of all that was served.
    `longest`: the longest sample of the shards that were met; `between`: what ranges of shards are off by. Figures are
    None where the source's indexes do not tell them.
    """

    samples: int = 0
    wanted: float = 0.0
    text_tokens: int | None = 0
    images: int | None = 0
    epochs: float = 0.0
    replaced: int = 0
    units: int | None = None
    due: float = 0.0
    longest: int = 0
    between: int = 0


@dataclass(frozen=True)
class Alarm:
    """A promise that is broken: which source, which promise, and the sentence that says by how much."""

    source: str
    promise: Literal["share", "unit", "readable"]
    text: str


@dataclass(frozen=True)
class ServedConditions:
    """Conditions under which samples were served: in packs or not, how far packs stray within a window, whether `units`
    count a part only.
    """

    packed: bool = False
    stray: float = 0.0
    late: bool = False


def find_alarms(manifest: mix.Manifest, served: Mapping[str, Served], conditions: ServedConditions) -> Iterator[Alarm]:
    """Find each source that is off its share, or of which too many samples were replaced."""
    shared, of_units = manifest.mode in ("interleave", "homogeneous"), manifest.unit != "samples"
    samples = SAMPLES_OFF * _batch(manifest) * _count_ends(manifest, conditions) + conditions.stray
    units = _units_off(manifest, served, conditions) if shared and of_units and _kept(manifest, served) else {}
    for name, source in served.items():
        # Packs come in an order that keeps the shares of the mixture's own unit.
        judged = shared and not (conditions.packed and of_units)
        if judged and abs(source.samples - source.wanted) > samples:
            text = f"{name}: {source.samples} samples, {source.wanted:.1f} wanted: off by more than {samples:.4g}"
            yield Alarm(name, "share", text)
        if name in units and abs((source.units or 0) - source.due) > units[name]:
            what = manifest.unit.replace("_", " ")
            text = f"{name}: {source.units} {what}, {source.due:.1f} wanted: off by more than {units[name]:.4g}"
            yield Alarm(name, "unit", text)
        if source.samples >= ENOUGH and source.replaced > REPLACED_SHARE * source.samples:
            text = f"{name}: {source.replaced} of {source.samples} samples were unreadable and replaced"
            yield Alarm(name, "readable", text)


def _batch(manifest: mix.Manifest) -> int:
    """Samples that are drawn together."""
    return (manifest.batch or 1) if manifest.mode == "homogeneous" else 1


def _count_ends(manifest: mix.Manifest, conditions: ServedConditions) -> int:
    """How many times over a source may be off: now, where what is counted began, and at both sides of what is left out.

    A segment that ends with a period of its own ends even.
    """
    cut = sum(
        (then.start - now.start) // _batch(manifest) % sum(now.slots) > 0
        for now, then in zip(manifest.segments, manifest.segments[1:], strict=False)
    )
    return 1 + cut + 2 * len(manifest.skips) + conditions.late


def _units_off(manifest: mix.Manifest, served: Mapping[str, Served], conditions: ServedConditions) -> dict[str, float]:
    """How much of the mixture's unit each source may be off."""
    own = {
        source.name: _count_ends(manifest, conditions)
        * (
            SAMPLES_OFF * _batch(manifest) * source.units / source.samples
            + LONGEST_OFF * served[source.name].longest
            + served[source.name].between
        )
        for source in manifest.datasets
    }
    whole = sum(source.due for source in served.values()) or 1.0
    return {
        name: own[name] + source.due / whole * sum(own.values()) + conditions.stray for name, source in served.items()
    }


def _kept(manifest: mix.Manifest, served: Mapping[str, Served]) -> bool:
    """Whether the orders of all sources that were drawn keep shares of the unit; `curate mix` says whose do not."""
    drawn = [source for source in manifest.datasets if served[source.name].samples]
    return all(served[d.name].units is not None and _spread(manifest, d, served[d.name].longest) for d in drawn)


def _spread(manifest: mix.Manifest, source: mix.Source, longest: int) -> bool:
    """Whether a source's order is by length in the mixture's unit, or its samples were of one length when it was mixed.

    Of a mixture that goes on from another, the samples themselves must tell that.
    """
    if source.spread is not None:
        return (source.spread.unit, source.spread.visual_tokens) == (manifest.unit, manifest.visual_tokens)
    return source.rotate == 1 and (manifest.continued is None or longest * source.samples == source.units)
