"""Tally what a run was served, source by source, and check it against the manifest.

Counts are of global batches, the same on every rank; replacements, and what they change, are those this rank met
(`sum_over_ranks` adds them up). What is wanted are the shares of the manifest's segments, in which ramps and limits on
epochs are worked out. The state is plain JSON, so that a checkpoint carries the counts along.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from curate import mix
from curate.mix.indexes import IMAGES, TEXT_TOKENS
from curate.stream.alarms import Alarm, Served, ServedConditions, find_alarms
from curate.stream.batches import PackedBatch, pack_contents
from curate.stream.fates import FateTally
from curate.stream.reading import Replaced
from curate.stream.sample_lengths import Ints, SampleLengths
from curate.stream.sequences import SampleAccount
from curate.stream.spelling import MARKS
from curate.stream.stream import Batch

REPLACED_FIGURES = ("replaced", TEXT_TOKENS, IMAGES, "units")
"""The figures that a rank's own replacements change."""


@dataclass
class ServedTally:
    """The tally of the stream of one mixture: add every batch, ask for the report or the alarms at any time.

    Of packs, `used` tokens of their `room` are counted. Shares of the mixture's unit are told by the indexes, of packs
    too. What became of what was seen is told beside (`curate.stream.fates`).
    """

    mixture: mix.Mixture
    served: dict[str, Served] = field(init=False)
    used_tokens: int = 0
    tokens_room: int = 0
    conditions: ServedConditions = field(init=False)
    fates: FateTally = field(init=False)
    _units: list[str] = field(init=False)
    _weighed: bool = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = self.mixture.manifest
        self._lengths = SampleLengths(self.mixture)
        self._starts = [self.mixture.stream_position(s.start) for s in self.manifest.segments]
        means = [source.units / source.samples for source in self.manifest.datasets]
        drawn = [np.array(segment.slots, np.float64) for segment in self.manifest.segments]
        self._shares = [slots / slots.sum() for slots in drawn]
        self._shares_of_unit = [slots * means / (slots * means).sum() for slots in drawn]
        self.load_state_dict({})

    def add(self, batch: Batch) -> None:
        """Count a global batch; any rank's part of it says which."""
        source, epoch, row = self.mixture.locate(batch.positions)
        segment = np.searchsorted(self._starts, batch.positions, side="right") - 1
        wanted = self._expected(segment, np.ones(len(segment)), self._shares)
        for data, more in zip(self.manifest.datasets, wanted, strict=True):
            served = self.served[data.name]
            served.samples += batch.drawn[data.name]
            served.wanted += more
            served.epochs = served.samples / data.samples
        for unit in self._units:
            self._count(unit, self._measure(batch, unit, source, row))
        if self._weighed:
            lengths = self._lengths.of(source, row, self.manifest.unit)
            self._count("units", np.bincount(source, lengths, len(self.served)))
            for served, expected in zip(
                self.served.values(), self._expected(segment, lengths, self._shares_of_unit), strict=True
            ):
                served.due += expected
            self._count_bounds(source, epoch, row)
        if batch.packed is not None:
            self.used_tokens, self.tokens_room = (
                self.used_tokens + batch.packed.used_tokens,
                self.tokens_room + batch.packed.tokens_room,
            )
            self.conditions = replace(
                self.conditions, packed=True, stray=max(self.conditions.stray, batch.packed.stray)
            )
        self._count_replaced(batch)
        self.fates.add(batch, self._lengths_of)

    @property
    def padding_waste(self) -> float:
        """The share of padding in all packs as planned, 0 to 1."""
        return 1 - self.used_tokens / self.tokens_room if self.tokens_room else 0.0

    def report(self) -> dict[str, dict[str, Any]]:
        """Report each source's figures, its fates, how much it is off, and its share of samples and each unit."""
        fates = self.fates.report()
        out: dict[str, dict[str, Any]] = {
            name: vars(served) | fates[name] for name, served in self._with_replacements().items()
        }
        for figures in out.values():
            figures["off"] = round(figures["samples"] - figures["wanted"], 6)
            figures["units_off"] = round(figures["units"] - figures["due"], 6) if self._weighed else None
        for unit in ("samples", *self._units, *(["units"] if self._weighed else [])):
            whole = sum(figures[unit] for figures in out.values())
            for figures in out.values():
                figures[f"{unit}_share"] = figures[unit] / whole if whole else 0.0
        return out

    def find_alarms(self) -> list[Alarm]:
        """Find each source that is off its share, or of which too many samples were replaced."""
        return list(find_alarms(self.manifest, self._with_replacements(), self.conditions))

    def sum_over_ranks(self, total: Callable[[list[float]], list[float]]) -> ServedTally:
        """Sum what the ranks met into a copy; `total` sums a list over them, and every rank must ask."""
        counts = [float(count) for delta in self._replacements.values() for count in delta.values()]
        sums = iter(total([*counts, *self.fates.met()]))
        whole = copy.copy(self)
        whole._replacements = {
            name: {figure: int(next(sums)) for figure in delta} for name, delta in self._replacements.items()
        }
        whole.fates = self.fates.having_met(list(sums))
        return whole

    def state_dict(self) -> dict[str, Any]:
        """The counts as plain data."""
        return {
            "sources": {name: vars(served).copy() for name, served in self._with_replacements().items()},
            "used": self.used_tokens,
            "room": self.tokens_room,
            "unit": self.manifest.unit,
            "stray": self.conditions.stray,
            "late": self.conditions.late,
            "fates": self.fates.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the counts of a checkpoint, of this manifest or of the one that it continues.

        Tokens and images are told only where they have been counted from the beginning and still are: lengths that came
        or went since would make a sum of a part of the run. The mixture's unit is counted since it is the unit.
        """
        sources: Mapping[str, Any] = state.get("sources", {})
        self.used_tokens, self.tokens_room = int(state.get("used", 0)), int(state.get("room", 0))
        since = not sources or state.get("unit") == self.manifest.unit
        late = bool(state.get("late", False)) or (not since and self.manifest.unit != "samples")
        self.conditions = ServedConditions(self.tokens_room > 0, float(state.get("stray", 0.0)) if since else 0.0, late)
        counted = [unit for unit in (TEXT_TOKENS, IMAGES) if self._has_lengths(unit)]
        self._units = [unit for unit in counted if all(s[unit] is not None for s in sources.values())]
        self._weighed = self.manifest.unit != "samples" and self._has_lengths(self.manifest.unit)
        uncounted: dict[str, Any] = {unit: None for unit in (TEXT_TOKENS, IMAGES) if unit not in self._units}
        if not self._weighed or not since:
            uncounted |= {"units": 0 if self._weighed else None, "due": 0.0, "longest": 0, "between": 0}
        begun = {d.name: Served(**sources.get(d.name, {"units": 0})) for d in self.manifest.datasets}
        self.served = {name: replace(served, **uncounted) for name, served in begun.items()}
        self._replacements = {name: dict.fromkeys(REPLACED_FIGURES, 0) for name in self.served}
        self._passes: set[tuple[int, int]] = set()
        self.fates = FateTally(list(self.served), state.get("fates") if sources else {})

    def _with_replacements(self) -> dict[str, Served]:
        """The counts with what replacements changed."""
        out = {}
        for name, served in self.served.items():
            delta = {
                figure: count
                for figure, count in self._replacements[name].items()
                if getattr(served, figure) is not None
            }
            changed: dict[str, Any] = {figure: getattr(served, figure) + count for figure, count in delta.items()}
            out[name] = replace(served, **changed)
        return out

    def _count(self, figure: str, counts: Iterable[float]) -> None:
        for served, count in zip(self.served.values(), counts, strict=True):
            setattr(served, figure, getattr(served, figure) + int(count))

    def _expected(self, segment: Ints, of: npt.NDArray[Any], shares: Sequence[npt.NDArray[np.float64]]) -> list[float]:
        """What each source's shares in the segments make of `of`, a number a position."""
        out = np.zeros(len(self.manifest.datasets))
        for number in np.unique(segment).tolist():
            out += of[segment == number].sum() * shares[number]
        return [float(expected) for expected in out]

    def _count_bounds(self, source: npt.NDArray[np.int32], epoch: Ints, row: Ints) -> None:
        """The longest samples of the shards met, and what the orders are off between ranges of them."""
        for number, turn in set(zip(source.tolist(), epoch.tolist(), strict=True)):
            served = self.served[self.manifest.datasets[number].name]
            mine = (source == number) & (epoch == turn)
            served.longest = max(served.longest, self._lengths.longest(number, row[mine], self.manifest.unit))
            if (number, turn) not in self._passes:
                served.between = max(served.between, self.mixture.strays(number, turn) or 0)
                self._passes.add((number, turn))

    def _measure(self, batch: Batch, unit: str, source: npt.NDArray[np.int32], row: Ints) -> Sequence[int]:
        """Text tokens or images of each source in a batch: as packed, or as the indexes say."""
        if batch.packed is not None:
            return batch.packed.text_tokens if unit == TEXT_TOKENS else batch.packed.images
        return [int(n) for n in np.bincount(source, self._lengths.of(source, row, unit), len(self.served))]

    def _count_replaced(self, batch: Batch) -> None:
        """Count replacements, and by how much they are longer or shorter than what was planned in their places."""
        for replaced in batch.replaced:
            self._replacements[replaced.source]["replaced"] += 1
        found = [replaced for replaced in batch.replaced if replaced.tried == 0]
        if batch.packed is None:
            changes = {unit: self._length_changes(found, unit) for unit in self._units if found}
        else:
            changes = self._pack_changes(batch.packed, batch.account) if found and batch.account is not None else {}
        if self._weighed and found:
            longer = self._length_changes(found, self.manifest.unit)
            changes["units"] = longer if batch.packed is None else np.minimum(longer, 0)
        for figure, counts in changes.items():
            for delta, count in zip(self._replacements.values(), counts.tolist(), strict=True):
                delta[figure] += count

    def _length_changes(self, found: Sequence[Replaced], unit: str) -> Ints:
        """By how much the samples that came are longer than those planned, of each source."""
        numbers = {name: number for number, name in enumerate(self.served)}
        source = np.array([numbers[r.source] for r in found], np.int32)
        planned, replacing = (
            np.array(rows, np.int64) for rows in zip(*((r.row, r.by_row) for r in found), strict=True)
        )
        longer = self._lengths.of(source, replacing, unit) - self._lengths.of(source, planned, unit)
        return np.bincount(source, longer, len(self.served)).astype(np.int64)

    def _pack_changes(self, packed: PackedBatch, account_D6: Tensor) -> dict[str, Ints]:
        """By how much this rank's packs hold more than was planned, where replacements did not fill their places."""
        of = SampleAccount(*account_D6.T)
        text = of.tokens - of.images_taken * packed.limits.visual_tokens - MARKS
        found = (self._by_source(of.source, numbers) for numbers in (text, of.images_taken))
        planned = pack_contents(self.mixture, packed.mine, packed.limits)
        return {unit: there - n for unit, there, n in zip((TEXT_TOKENS, IMAGES), found, planned, strict=True)}

    def _by_source(self, source_D: Tensor, numbers_D: Tensor) -> Ints:
        """The sums of numbers, by source."""
        return np.bincount(source_D.numpy(), numbers_D.numpy(), len(self.served)).astype(np.int64)

    def _lengths_of(self, source: npt.NDArray[np.int32], row: Ints) -> tuple[Ints, Ints]:
        """The text tokens and images of rows, as far as indexes count them."""
        none = np.zeros(len(row), np.int64)
        text, images = (
            self._lengths.of(source, row, unit) if self._has_lengths(unit) else none for unit in (TEXT_TOKENS, IMAGES)
        )
        return text, images

    def _has_lengths(self, unit: str) -> bool:
        try:
            self._lengths.check_columns([unit])
        except mix.MixtureError:
            return False
        return True
