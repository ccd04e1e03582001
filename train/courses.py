"""The course of a stream: which positions of the mixture make the batch at a position, and what comes after it.

Two kinds. `Rows`: a batch of B is the positions [p, p + B). `Packs`: a batch is B packs of documents (`train.packing`).
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
from train.lengths import Ints
from train.packing import EMPTY, Limits, Pack, PackingError, balanced, cost, plan, spread
from train.reading import Place, Share
from train.sequences import MARKS, Sizes
from train.stages import Stages

PLANNED = 1 << 13
"""Positions whose places are worked out at once, where batches are rows."""
WINDOWS_KEPT = 4


@dataclass(frozen=True)
class Packed:
    """The packs of a batch: those of this rank, and of the whole batch tokens used, tokens in all, images.

    `text_tokens` and `images` are those of each source.
    """

    mine: tuple[Pack, ...]
    limits: Limits
    used: int
    room: int
    text_tokens: tuple[int, ...]
    images: tuple[int, ...]


@dataclass(frozen=True)
class Planned:
    """A global batch before it is read: all its positions, this rank's places, samples of each source.

    `stages` are the positions by which the stages of this rank's samples are told: the batch's, or the window's.
    """

    start: int
    following: int
    positions: Ints
    places: list[Place]
    stages: list[int]
    drawn: tuple[int, ...]
    packed: Packed | None = None


class Rows:
    """Batches of consecutive positions; each rank takes its run of them."""

    def __init__(self, manifest: mix.Manifest, batch_size: int, share: Share) -> None:
        self.manifest, self.batch_size, self.share = manifest, batch_size, share
        self._plan: tuple[Any, Any, Any] | None = None
        self._planned = 0

    def batch(self, start: int) -> Planned | None:
        """The batch at `start`; None where the mixture ends before its last sample."""
        end = self.manifest.end
        if end is not None and start + self.batch_size > end:
            return None
        plan, offset = self._plan, start - self._planned
        if plan is None or not 0 <= offset <= len(plan[0]) - self.batch_size:
            whole = max(PLANNED // self.batch_size, 1) * self.batch_size
            whole = whole if end is None else min(whole, end - start)
            plan = self._plan = mix.locate(self.manifest, np.arange(start, start + whole, dtype=np.int64))
            self._planned, offset = start, 0
        each = self.batch_size // self.share.world
        first = offset + self.share.rank * each
        places = list(zip(*(column[first : first + each].tolist() for column in plan), strict=True))
        counts = np.bincount(plan[0][offset : offset + self.batch_size], minlength=len(self.manifest.datasets))
        positions = np.arange(start, start + self.batch_size, dtype=np.int64)
        return Planned(start, start + self.batch_size, positions, places, [start] * each, tuple(counts.tolist()))

    def after(self, start: int, batches: int) -> int:
        """Where the stream stands that many batches later."""
        return start + batches * self.batch_size


@dataclass(frozen=True)
class Packing:
    """What packs are planned from: how long samples become, the stages, and what a pack may hold."""

    sizes: Sizes
    stages: Stages
    limits: Limits

    @property
    def name(self) -> str:
        """Names the limits: a state of packs is of these."""
        return fingerprint(vars(self.limits))


@dataclass(frozen=True)
class _Window:
    """Packed positions of one stage; `ends`: where the stream stands before each pack, and after the last."""

    stage: int
    limits: Limits
    packs: Sequence[Pack]
    ends: list[int]


class Packs:
    """Batches of packs, dealt to the ranks by their cost; a window ends where a stage does.

    Within a window packs come so that each source has about its share at any moment. The last packs of a window may be
    fewer than a batch: it is filled from the next window, at the end of a stage with empty packs. Raises PackingError
    for a position at which no pack starts.
    """

    def __init__(self, packing: Packing, batch_size: int, share: Share) -> None:
        self.sizes, self.stages, self.limits = packing.sizes, packing.stages, packing.limits
        self.manifest, self.batch_size, self.share = packing.stages.manifest, batch_size, share
        self._windows: OrderedDict[int, _Window] = OrderedDict()

    def batch(self, start: int) -> Planned | None:
        """The batch at `start`; None where the mixture ends before it is full."""
        packs, following, limits = self._taken(start)
        if not packs:
            return None
        costs = [cost(pack, limits) for pack in packs]
        mine = [packs[n] for n in balanced(costs, self.share.world)[self.share.rank]]
        positions = np.array([p for pack in packs for p in pack.positions], np.int64)
        source, _, _ = mix.locate(self.manifest, positions)
        tokens, images = _column(packs, "tokens"), _column(packs, "images")
        kinds = len(self.manifest.datasets)
        text = np.bincount(source, tokens - images * limits.visual_tokens - MARKS, kinds).astype(np.int64)
        own = np.array([p for pack in mine for p in pack.positions], np.int64)
        return Planned(
            start,
            following,
            positions,
            list(zip(*(column.tolist() for column in mix.locate(self.manifest, own)), strict=True)),
            [self._bounds(position)[0] for position in own.tolist()],
            tuple(np.bincount(source, minlength=kinds).tolist()),
            Packed(
                tuple(mine),
                limits,
                int(tokens.sum()),
                limits.tokens * len(packs),
                tuple(text.tolist()),
                tuple(np.bincount(source, images, kinds).astype(np.int64).tolist()),
            ),
        )

    def after(self, start: int, batches: int) -> int:
        """Where the stream stands that many batches later."""
        for _ in range(batches):
            start = self._taken(start)[1]
        return start

    def _taken(self, start: int) -> tuple[list[Pack], int, Limits]:
        """(the packs of the batch at `start`, what follows, their limits); none and `start` itself at the end."""
        packs: list[Pack] = []
        at, begun = start, self._window(start)
        while len(packs) < self.batch_size:
            window = self._window(at)
            if window is None or begun is None:
                return [], start, self.limits
            if window.stage != begun.stage:
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
            at = window.ends[first + len(found)]
        assert begun is not None
        return packs, at, begun.limits

    def _window(self, position: int) -> _Window | None:
        """The window that holds `position`, packed; None where the mixture ends."""
        first, last = self._bounds(position)
        if position >= last:
            return None
        if first not in self._windows:
            self._windows[first] = self._packed(first, last, self.stages.number(position))
            while len(self._windows) > WINDOWS_KEPT:
                self._windows.popitem(last=False)
        return self._windows[first]

    def _bounds(self, position: int) -> tuple[int, int]:
        """The window of a position: its first position, and the one after its last."""
        stage, size = self.stages.number(position), self.limits.window
        first = max(position // size * size, self.stages.starts[stage])
        bounds = [first // size * size + size, *self.stages.starts[stage + 1 : stage + 2]]
        return first, min(bounds if self.manifest.end is None else [*bounds, self.manifest.end])

    def _packed(self, first: int, last: int, stage: int) -> _Window:
        limits = replace(self.limits, tokens=self.stages.pack(first, self.limits.tokens))
        positions = np.arange(first, last, dtype=np.int64)
        packs = plan(positions.tolist(), *self.sizes.of(positions, first), limits)
        source, _, _ = mix.locate(self.manifest, positions)
        kinds = len(self.manifest.datasets)
        counts_PS = np.array([np.bincount(source[np.array(p.positions) - first], minlength=kinds) for p in packs])
        packs = spread(packs, counts_PS)
        return _Window(stage, limits, packs, list(accumulate((len(p.positions) for p in packs), initial=first)))


def _column(packs: Sequence[Pack], name: Literal["tokens", "images"]) -> Ints:
    return np.array([number for pack in packs for number in getattr(pack, name)], np.int64)
