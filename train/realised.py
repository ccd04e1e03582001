"""What a run has really been served, source by source, and an alarm where that is not what the manifest promised.

Counts are of global batches, the same on every rank; replacements are those this rank met. The state is plain JSON, so
that a checkpoint carries the counts along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from curate import mix
from curate.mix.indexes import IMAGES, TEXT_TOKENS
from train.data import Batch
from train.lengths import Lengths

SAMPLES_OFF = 2.0
"""Samples a source may be off from its wanted share, for each segment of the schedule that the run has been through."""
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


@dataclass
class Realised:
    """The tally of the stream of one manifest: add every batch, ask for the report or the alarms at any time."""

    manifest: mix.Manifest
    path: Path
    served: dict[str, Served] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lengths = Lengths(self.manifest, self.path)
        self._units = [unit for unit in (TEXT_TOKENS, IMAGES) if self._known(unit)]
        self._by_position = self.manifest.model_copy(update={"batch": 1})
        tokens, images = (0 if unit in self._units else None for unit in (TEXT_TOKENS, IMAGES))
        self.served = self.served or {d.name: Served(text_tokens=tokens, images=images) for d in self.manifest.datasets}

    def add(self, batch: Batch) -> None:
        """Count a global batch; any rank's part of it says which."""
        size, end = sum(batch.drawn.values()), int(batch.state["position"])
        source, _, row = mix.locate(self.manifest, np.arange(end - size, end, dtype=np.int64))
        counts = np.bincount(source, minlength=len(self.manifest.datasets)).tolist()
        weights = mix.stage_at(self._by_position, end - size).weights
        for number, (data, served) in enumerate(zip(self.manifest.datasets, self.served.values(), strict=True)):
            served.samples += counts[number]
            served.wanted += size * weights[number] / sum(weights)
            served.epochs = served.samples / data.samples
        for unit in self._units:
            totals = np.bincount(source, self._lengths.of(source, row, unit), len(counts)).astype(np.int64).tolist()
            for total, served in zip(totals, self.served.values(), strict=True):
                setattr(served, unit, getattr(served, unit) + total)
        for replaced in batch.replaced:
            self.served[replaced.source].replaced += 1

    def report(self) -> dict[str, dict[str, Any]]:
        """Each source's figures, and its share of the samples, text tokens and images of all."""
        out: dict[str, dict[str, Any]] = {name: vars(served).copy() for name, served in self.served.items()}
        for unit in ("samples", *self._units):
            whole = sum(figures[unit] for figures in out.values())
            for figures in out.values():
                figures[f"{unit}_share"] = figures[unit] / whole if whole else 0.0
        return out

    def alarms(self) -> list[str]:
        """A sentence for each source that is off its share, or of which too many samples were replaced."""
        quantum = (self.manifest.batch or 1) if self.manifest.mode == "homogeneous" else 1
        bound = SAMPLES_OFF * quantum * len(self.manifest.segments)
        found = []
        for name, served in self.served.items():
            off = served.samples - served.wanted
            if self.manifest.mode in ("interleave", "homogeneous") and abs(off) > bound:
                found.append(
                    f"{name}: {served.samples} samples, {served.wanted:.1f} wanted: off by more than {bound:g}"
                )
            if served.samples >= ENOUGH and served.replaced > REPLACED_SHARE * served.samples:
                found.append(f"{name}: {served.replaced} of {served.samples} samples were unreadable and replaced")
        return found

    def state_dict(self) -> dict[str, Any]:
        """The counts as plain data."""
        return {name: vars(served).copy() for name, served in self.served.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on from the counts of a checkpoint."""
        self.served = {name: Served(**figures) for name, figures in state.items()}

    def _known(self, unit: str) -> bool:
        try:
            self._lengths.check([unit])
        except mix.MixtureError:
            return False
        return True
