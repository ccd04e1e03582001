"""A manifest made ready for arithmetic: from positions to sources and their draws, segment by segment.

Positions are those the stream counts. A skipped range is stepped over: the position after it takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from curate.mix.manifest import Manifest
from curate.mix.order import Orders, SourceOrder, order_key
from curate.mix.schedule import Ints, MixtureError, Sources, check_not_negative, counts, schedule
from curate.mix.strata import Strata


@dataclass(frozen=True, eq=False)
class Plan:
    """Segments with what each source had before them (`bases`), orders of the sources, and skipped ranges."""

    starts: Ints
    slots: tuple[tuple[int, ...], ...]
    mode: str
    batch: int
    end: int | None
    skips: tuple[tuple[int, int], ...]
    orders: Orders

    @staticmethod
    def of(manifest: Manifest, strata: Sequence[Strata | None]) -> Plan:
        """The plan of a manifest; `strata` are the orders by length of the sources that have one."""
        return Plan(
            starts=np.array([s.start for s in manifest.segments], np.int64),
            slots=tuple(s.slots for s in manifest.segments),
            mode=manifest.mode,
            batch=manifest.batch or 1,
            end=manifest.end,
            skips=tuple(sorted(manifest.skips)),
            orders=Orders.of(
                [
                    SourceOrder(d.shards, order_key(manifest.seed, d.name), manifest.open_shards, d.rotate, by_length)
                    for d, by_length in zip(manifest.datasets, strata, strict=True)
                ]
            ),
        )

    @cached_property
    def bases(self) -> tuple[Ints, ...]:
        """Draws each source had before each segment."""
        out = [np.zeros(len(self.orders.each), np.int64)]
        for number, length in enumerate(np.diff(self.starts).tolist()):
            out.append(out[-1] + self._within(number, length))
        return tuple(out)

    def unskipped(self, positions: Ints) -> Ints:
        """Positions of the stream as positions of the mixture, from which ranges are left out."""
        out = positions
        for first, end in self.skips:
            out = np.where(out >= first, out + (end - first), out)
        return out

    def drawn(self, positions: npt.ArrayLike) -> tuple[Sources, Ints]:
        """(source, draw) of each position. Raises MixtureError before 0 and from the mixture's end on."""
        at = np.asarray(positions, dtype=np.int64)
        check_not_negative(at, "positions")
        if self.end is not None and at.size and int(at.max()) >= self.end:
            raise MixtureError(f"the mixture ends at position {self.end}, where a source has had its epochs")
        flat = self.unskipped(at.reshape(-1))
        if len(self.slots) == 1:
            source, draw = self._laid(0, flat)
            return source.reshape(at.shape), draw.reshape(at.shape)
        number = np.searchsorted(self.starts, flat, side="right") - 1
        source, draw = np.empty(flat.shape, np.int32), np.empty(flat.shape, np.int64)
        for segment in sorted(set(number.tolist())):
            mine = np.flatnonzero(number == segment)
            found, count = self._laid(segment, flat[mine] - self.starts[segment])
            source[mine], draw[mine] = found, count + self.bases[segment][found]
        return source.reshape(at.shape), draw.reshape(at.shape)

    def counts(self, position: int) -> Ints:
        """Draws each source has had before a position of the mixture, skipped ones included."""
        number = int(np.searchsorted(self.starts, position, side="right")) - 1
        return self.bases[number] + self._within(number, position - int(self.starts[number]))

    def served(self, position: int) -> Ints:
        """Draws of each source in the stream's first `position` positions: what is skipped does not count."""
        upto = int(self.unskipped(np.array([position], np.int64))[0])
        out = self.counts(upto)
        for first, end in self.skips:
            if end <= upto:
                out = out - (self.counts(end) - self.counts(first))
        return out

    def _laid(self, segment: int, at: Ints) -> tuple[Sources, Ints]:
        slots = self.slots[segment]
        if self.mode == "homogeneous":
            source, draw = schedule(slots, at // self.batch)
            return source, draw * self.batch + at % self.batch
        if self.mode == "accumulate":
            ends, mine = np.cumsum(slots), np.array(slots, np.int64)
            step, place = np.divmod(at, ends[-1])
            source = np.searchsorted(ends, place, side="right").astype(np.int32)
            return source, step * mine[source] + place - (ends - mine)[source]
        return schedule(slots, at)

    def _within(self, segment: int, length: int) -> Ints:
        slots = self.slots[segment]
        if self.mode == "homogeneous":
            batches, rest = divmod(length, self.batch)
            out = counts(slots, batches) * self.batch
            if rest:
                out[schedule(slots, [batches])[0][0]] += rest
            return out
        if self.mode == "accumulate":
            ends, mine = np.cumsum(slots), np.array(slots, np.int64)
            steps, rest = divmod(length, int(ends[-1]))
            return steps * mine + np.clip(rest - (ends - mine), 0, mine)
        return counts(slots, length)


def stream_position(position: int, skips: Sequence[tuple[int, int]]) -> int:
    """The position of the stream for a position of the mixture from which `skips` are left out."""
    return position - sum(max(min(end, position) - first, 0) for first, end in skips)


def skipped(
    old: Sequence[tuple[int, int]], size: int | None, position: int, steps: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Ranges of positions to leave out: the `old` ones, and (first, last) steps, counted as the stream does."""
    out = list(old)
    for first, last in steps:
        if size is None:
            raise MixtureError("steps are counted in batches: say `batch`, the samples of a step, to skip some")
        if not 0 <= first <= last:
            raise MixtureError(f"steps {first}-{last} cannot be skipped: give the first and the last, as in 100-120")
        if first * size < position:
            raise MixtureError(f"step {first} is over at position {position}, it cannot be skipped any more")
        begin, end = (_among(old, at) for at in (first * size, (last + 1) * size - 1))
        out = sorted([s for s in out if not begin <= s[0] <= end] + [(begin, end + 1)])
    return out


def _among(skips: Sequence[tuple[int, int]], position: int) -> int:
    for first, end in sorted(skips):
        position += (end - first) * (position >= first)
    return position
