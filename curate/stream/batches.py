"""Batch samplers: the positions of the mixture that make the batch at a position, and what follows it.

Two kinds. `RowBatchSampler`: a batch of B is the positions [p, p + B). `PackBatchSampler`: a batch is B packs of
documents (`curate.stream.packing`).
Both are pure functions of the position, which counts the samples that came before: of packs too, since every window
of positions is packed by itself and its packs follow one another. So one integer resumes either.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from curate import mix
from curate.sample import fingerprint
from curate.stream.packing import (
    EMPTY,
    Pack,
    PackingError,
    PackLimits,
    balance,
    max_stray,
    pack_cost,
    plan_packs,
    spread_packs,
)
from curate.stream.reading import Place, Share
from curate.stream.sample_lengths import Ints
from curate.stream.sequences import Sizes
from curate.stream.spelling import MARKS
from curate.stream.stages import Stages

PLANNED = 1 << 13
"""Positions whose places are worked out at once, where batches are rows."""
CACHED_WINDOWS = 4


@dataclass(frozen=True)
class PackedBatch:
    """The packs of a batch: those of this rank, and of the whole batch tokens used, tokens in all, images.

    `text_tokens` and `images` are those of each source; `stray` is how much of the mixture's unit a source is off its
    share at most in the windows that the batch is of.
    """

    mine: tuple[Pack, ...]
    limits: PackLimits
    used_tokens: int
    tokens_room: int
    text_tokens: tuple[int, ...]
    images: tuple[int, ...]
    stray: float


@dataclass(frozen=True)
class PlannedBatch:
    """A global batch before it is read: all its positions, this rank's places, samples of each source.

    `stages` are the positions by which the stages of this rank's samples are told: the batch's, or the window's.
    """

    start: int
    following: int
    positions: Ints
    places: list[Place]
    stages: list[int]
    drawn: tuple[int, ...]
    packed: PackedBatch | None = None


class RowBatchSampler:
    """Batches of consecutive positions; each rank takes its run of them."""

    def __init__(self, mixture: mix.Mixture, batch_size: int, share: Share) -> None:
        self.mixture, self.batch_size, self.share = mixture, batch_size, share
        self._plan: tuple[Any, Any, Any] | None = None
        self._planned = 0

    def batch(self, start: int) -> PlannedBatch | None:
        """Plan the batch at `start`; None where the mixture ends before its last sample."""
        end = self.mixture.manifest.end
        if end is not None and start + self.batch_size > end:
            return None
        plan, offset = self._plan, start - self._planned
        if plan is None or not 0 <= offset <= len(plan[0]) - self.batch_size:
            whole = max(PLANNED // self.batch_size, 1) * self.batch_size
            whole = whole if end is None else min(whole, end - start)
            plan = self._plan = self.mixture.locate(np.arange(start, start + whole, dtype=np.int64))
            self._planned, offset = start, 0
        each = self.batch_size // self.share.world
        first = offset + self.share.rank * each
        places = list(zip(*(column[first : first + each].tolist() for column in plan), strict=True))
        counts = np.bincount(plan[0][offset : offset + self.batch_size], minlength=len(self.mixture.manifest.datasets))
        positions = np.arange(start, start + self.batch_size, dtype=np.int64)
        return PlannedBatch(start, start + self.batch_size, positions, places, [start] * each, tuple(counts.tolist()))

    def position_after(self, start: int, batches: int) -> int:
        """The stream's position that many batches later."""
        return start + batches * self.batch_size


@dataclass(frozen=True)
class Packing:
    """Parameters of packing: how long samples become, the stages, and the limits of a pack."""

    sizes: Sizes
    stages: Stages
    limits: PackLimits

    @property
    def name(self) -> str:
        """Names the limits, and what packs are ordered by: a state of packs is of these."""
        unit = self.stages.mixture.manifest.unit
        return fingerprint(vars(self.limits) | ({} if unit == "samples" else {"shares": unit}))


@dataclass(frozen=True)
class _Window:
    """Packed positions of one stage; `ends`: where the stream stands before each pack, and after the last.

    `stray`: how much of the mixture's unit a source is off its share at most, after any of the packs.
    """

    stage: int
    limits: PackLimits
    packs: Sequence[Pack]
    ends: list[int]
    stray: float


@dataclass(frozen=True)
class _PackRun:
    """The packs of a batch, where the stream stands after it, their limits, and how far a window of them strays."""

    packs: list[Pack]
    following: int
    limits: PackLimits
    stray: float


class PackBatchSampler:
    """Batches of packs, dealt to the ranks by their cost; a window ends where a stage does.

    Within a window packs come so that each source has about its share of the mixture's unit at any moment. The last
    packs of a window may be fewer than a batch: it is filled from the next window, at the end of a stage with empty
    packs. Raises PackingError for a position at which no pack starts.
    """

    def __init__(self, packing: Packing, batch_size: int, share: Share) -> None:
        self.sizes, self.stages, self.limits = packing.sizes, packing.stages, packing.limits
        self.mixture, self.batch_size, self.share = packing.stages.mixture, batch_size, share
        self._windows: OrderedDict[int, _Window] = OrderedDict()

    def batch(self, start: int) -> PlannedBatch | None:
        """Plan the batch at `start`; None where the mixture ends before it is full."""
        taken = self._take_packs(start)
        packs, limits = taken.packs, taken.limits
        if not packs:
            return None
        costs = [pack_cost(pack, limits) for pack in packs]
        mine = [packs[n] for n in balance(costs, self.share.world)[self.share.rank]]
        positions, own = _column(packs, "positions"), _column(mine, "positions")
        source, _, _ = self.mixture.locate(positions)
        text_S, images_S = pack_contents(self.mixture, packs, limits)
        used, room = int(_column(packs, "tokens").sum()), limits.tokens * len(packs)
        return PlannedBatch(
            start,
            taken.following,
            positions,
            list(zip(*(column.tolist() for column in self.mixture.locate(own)), strict=True)),
            [self.window_bounds(position)[0] for position in own.tolist()],
            tuple(np.bincount(source, minlength=len(self.mixture.manifest.datasets)).tolist()),
            PackedBatch(tuple(mine), limits, used, room, tuple(text_S.tolist()), tuple(images_S.tolist()), taken.stray),
        )

    def can_continue(self, position: int, window: tuple[int, int], continued_from: int) -> bool:
        """Whether packs go on at `position` of a mixture that this one continues, begun in that `window` of it.

        They do at its start, and within it where all of it lies before this mixture takes over: else some of its
        samples would come twice, and others never.
        """
        return position == window[0] or (window[1] <= continued_from and self.window_bounds(position) == window)

    def position_after(self, start: int, batches: int) -> int:
        """The stream's position that many batches later."""
        for _ in range(batches):
            start = self._take_packs(start).following
        return start

    def _take_packs(self, start: int) -> _PackRun:
        """The batch at `start`; without packs, followed by `start` itself, at the end."""
        packs: list[Pack] = []
        at, first_window, off = start, self._window(start), 0.0
        while len(packs) < self.batch_size:
            window = self._window(at)
            if window is None or first_window is None:
                return _PackRun([], start, self.limits, off)
            if window.stage != first_window.stage:
                packs += [EMPTY] * (self.batch_size - len(packs))
                break
            first = bisect_left(window.ends, at)
            if window.ends[first] != at:
                raise PackingError(
                    f"no pack starts at position {at}: the packs around it start at {window.ends[first - 1]} and"
                    f" {window.ends[first]}; a state is of the manifest and the limits that it was saved with, and a"
                    f" mixture is best continued at a step whose state is a multiple of {self.limits.window}"
                )
            found = window.packs[first : first + self.batch_size - len(packs)]
            packs += found
            at, off = window.ends[first + len(found)], max(off, window.stray)
        assert first_window is not None
        return _PackRun(packs, at, first_window.limits, off)

    def _window(self, position: int) -> _Window | None:
        """The window that holds `position`, packed; None where the mixture ends."""
        first, last = self.window_bounds(position)
        if position >= last:
            return None
        if first not in self._windows:
            self._windows[first] = self._pack_window(first, last, self.stages.number(position))
            while len(self._windows) > CACHED_WINDOWS:
                self._windows.popitem(last=False)
        return self._windows[first]

    def window_bounds(self, position: int) -> tuple[int, int]:
        """Bounds of a position's window: its first position, and the one after its last."""
        stage, size = self.stages.number(position), self.limits.window
        first = max(position // size * size, self.stages.starts[stage])
        bounds = [first // size * size + size, *self.stages.starts[stage + 1 : stage + 2]]
        return first, min(bounds if self.mixture.manifest.end is None else [*bounds, self.mixture.manifest.end])

    def _pack_window(self, first: int, last: int, stage: int) -> _Window:
        limits = replace(self.limits, tokens=self.stages.pack(first, self.limits.tokens))
        positions = np.arange(first, last, dtype=np.int64)
        packs = plan_packs(positions.tolist(), *self.sizes.of(positions, first), limits)
        packs = spread_packs(packs, self._unit_per_pack(packs, positions))
        ends = list(accumulate((len(pack.positions) for pack in packs), initial=first))
        return _Window(stage, limits, packs, ends, max_stray(self._unit_per_pack(packs, positions)))

    def _unit_per_pack(self, packs: Sequence[Pack], positions: Ints) -> Ints:
        """How much of the mixture's unit packs of a window hold of each source, P x S."""
        source, _, row = self.mixture.locate(positions)
        units = self.sizes.lengths.of(source, row, self.mixture.manifest.unit)
        out_PS = np.zeros((len(packs), len(self.mixture.manifest.datasets)), np.int64)
        number = np.repeat(np.arange(len(packs)), [len(pack.positions) for pack in packs])
        at = _column(packs, "positions") - int(positions[0])
        np.add.at(out_PS, (number, source[at]), units[at])
        return out_PS


def pack_contents(mixture: mix.Mixture, packs: Sequence[Pack], limits: PackLimits) -> tuple[Ints, Ints]:
    """Count (text tokens, images) of each source that packs are planned to hold."""
    source, _, _ = mixture.locate(_column(packs, "positions"))
    tokens, images = _column(packs, "tokens"), _column(packs, "images")
    text, kinds = tokens - images * limits.visual_tokens - MARKS, len(mixture.manifest.datasets)
    return np.bincount(source, text, kinds).astype(np.int64), np.bincount(source, images, kinds).astype(np.int64)


def _column(packs: Sequence[Pack], name: Literal["positions", "tokens", "images"]) -> Ints:
    return np.array([number for pack in packs for number in getattr(pack, name)], np.int64)
