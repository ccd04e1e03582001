"""What a run has really been served, source by source, and an alarm where that is not what the manifest promised.

Counts are of global batches, the same on every rank; replacements are those this rank met (`over_ranks` adds them up).
What is wanted are the shares of the manifest's segments, in which ramps and limits on epochs are worked out. The state
is plain JSON, so that a checkpoint carries the counts along.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curate import mix
from curate.mix.indexes import IMAGES, TEXT_TOKENS
from curate.mix.plan import stream_position
from train.data import Batch
from train.lengths import Ints, Lengths

SAMPLES_OFF = 2.0
"""Samples a source may be off from its wanted share, for each segment and skipped range of the manifest."""
REPLACED_SHARE = 0.01
"""Share of a source's samples that may have been replaced before that is an alarm."""
ENOUGH = 100
"""Samples of a source from which on replacements are judged."""


@dataclass
class Served:
    """One source so far: samples drawn and wanted, their text tokens and images, passes over it, replacements.

    Tokens and images are None where its indexes do not tell them.
    """

    samples: int = 0
    wanted: float = 0.0
    text_tokens: int | None = 0
    images: int | None = 0
    epochs: float = 0.0
    replaced: int = 0


@dataclass(frozen=True)
class Alarm:
    """A promise that is broken: which source, which promise, and the sentence that says by how much."""

    source: str
    promise: Literal["share", "readable"]
    text: str


@dataclass
class Realised:
    """The tally of the stream of one manifest: add every batch, ask for the report or the alarms at any time.

    `slack`: samples that a source may be off besides, where batches are packs: a quarter of their window, for within
    one they come in another order. Of packs, `used` tokens of their `room` are counted, and what of a long document was
    left out is not.
    """

    manifest: mix.Manifest
    path: Path
    slack: float = 0.0
    served: dict[str, Served] = field(init=False)
    used: int = 0
    room: int = 0

    def __post_init__(self) -> None:
        self._lengths = Lengths(self.manifest, self.path)
        self._units = [unit for unit in (TEXT_TOKENS, IMAGES) if self._known(unit)]
        self._starts = [stream_position(s.start, self.manifest.skips) for s in self.manifest.segments]
        self.load_state_dict({})

    def add(self, batch: Batch) -> None:
        """Count a global batch; any rank's part of it says which."""
        for data, wanted in zip(self.manifest.datasets, self._wanted(batch.positions), strict=True):
            served = self.served[data.name]
            served.samples += batch.drawn[data.name]
            served.wanted += wanted
            served.epochs = served.samples / data.samples
        if batch.packed is not None:
            self.used, self.room = self.used + batch.packed.used, self.room + batch.packed.room
        for unit in self._units:
            for served, count in zip(self.served.values(), self._measured(batch, unit), strict=True):
                setattr(served, unit, getattr(served, unit) + count)
        for replaced in batch.replaced:
            self.served[replaced.source].replaced += 1

    @property
    def padding_waste(self) -> float:
        """The share of padding in all packs, 0 to 1."""
        return 1 - self.used / self.room if self.room else 0.0

    def report(self) -> dict[str, dict[str, Any]]:
        """Each source's figures, how many samples it is off, and its share of all samples, text tokens and images."""
        out: dict[str, dict[str, Any]] = {name: vars(served).copy() for name, served in self.served.items()}
        for figures in out.values():
            figures["off"] = round(figures["samples"] - figures["wanted"], 6)
        for unit in ("samples", *self._units):
            whole = sum(figures[unit] for figures in out.values())
            for figures in out.values():
                figures[f"{unit}_share"] = figures[unit] / whole if whole else 0.0
        return out

    def alarms(self) -> list[Alarm]:
        """What is amiss: each source that is off its share, or of which too many samples were replaced."""
        quantum = (self.manifest.batch or 1) if self.manifest.mode == "homogeneous" else 1
        bound = SAMPLES_OFF * quantum * (len(self.manifest.segments) + len(self.manifest.skips)) + self.slack
        found = []
        for name, served in self.served.items():
            if self.manifest.mode in ("interleave", "homogeneous") and abs(served.samples - served.wanted) > bound:
                text = f"{name}: {served.samples} samples, {served.wanted:.1f} wanted: off by more than {bound:g}"
                found.append(Alarm(name, "share", text))
            if served.samples >= ENOUGH and served.replaced > REPLACED_SHARE * served.samples:
                text = f"{name}: {served.replaced} of {served.samples} samples were unreadable and replaced"
                found.append(Alarm(name, "readable", text))
        return found

    def over_ranks(self, total: Callable[[list[float]], list[float]]) -> Realised:
        """This tally with the replacements of all ranks; `total` sums a list over them, and every rank must ask."""
        sums = total([float(served.replaced) for served in self.served.values()])
        whole = copy.copy(self)
        whole.served = {
            name: replace(served, replaced=int(count))
            for (name, served), count in zip(self.served.items(), sums, strict=True)
        }
        return whole

    def state_dict(self) -> dict[str, Any]:
        """The counts as plain data."""
        sources = {name: vars(served).copy() for name, served in self.served.items()}
        return {"sources": sources, "used": self.used, "room": self.room}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the counts of a checkpoint, of this manifest or of the one that it continues.

        A unit is told only where it has been counted from the beginning and still is: lengths that came or went since
        would make a sum of a part of the run.
        """
        sources: Mapping[str, Any] = state.get("sources", {})
        self.used, self.room = int(state.get("used", 0)), int(state.get("room", 0))
        self._units = [unit for unit in self._units if all(s[unit] is not None for s in sources.values())]
        unknown: dict[str, Any] = {unit: None for unit in (TEXT_TOKENS, IMAGES) if unit not in self._units}
        begun = {d.name: Served(**sources.get(d.name, {})) for d in self.manifest.datasets}
        self.served = {name: replace(served, **unknown) for name, served in begun.items()}

    def _wanted(self, positions: Ints) -> list[float]:
        """Samples of each source that the shares of the segments make of `positions`."""
        out = np.zeros(len(self.manifest.datasets))
        segment = np.searchsorted(self._starts, positions, side="right") - 1
        for number, count in zip(*np.unique(segment, return_counts=True), strict=True):
            slots = np.array(self.manifest.segments[number].slots, np.float64)
            out += count * slots / slots.sum()
        return [float(wanted) for wanted in out]

    def _measured(self, batch: Batch, unit: str) -> list[int]:
        """Text tokens or images of each source in a batch: as packed, or as the indexes say."""
        if batch.packed is not None:
            return list(batch.packed.text_tokens if unit == TEXT_TOKENS else batch.packed.images)
        source, _, row = mix.locate(self.manifest, batch.positions)
        totals = np.bincount(source, self._lengths.of(source, row, unit), len(self.served))
        return [int(total) for total in totals]

    def _known(self, unit: str) -> bool:
        try:
            self._lengths.check([unit])
        except mix.MixtureError:
            return False
        return True
