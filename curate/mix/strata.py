"""Stratified order by length: every stretch of a source has its fair part of long and short samples.

The rows of a range of shards are put by length into strata, and these, neighbours joined again and again, into a binary
tree. Each node gives its draws to its shorter and its longer half in the ratio of their rows, rounded; so the units of
the first k draws are k times the mean to within about the longest sample, and which row of a stratum comes is as random
as before. Shards that are above and below the mean are put into one range, so that it holds about what its rows hold
on average.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.mix.network import GOLDEN, MIX, Words, mix_bits, permute
from curate.mix.schedule import Ints, MixtureError

STRATA = 128
"""Strata of a source, a power of two. What rows of one stratum differ by is what an order is still off at random."""
LINE = np.dtype([("units", "<i8"), ("check", "<u4"), ("counts", "<u4", (STRATA,))])
"""What is kept of a shard: the sum of its lengths, their CRC-32, and its rows in each stratum."""
MAX_RANGE = 1 << 31
"""Rows of a range: the product of two such numbers still fits 64 bits."""
CACHED_RANGES = 4
PARTS = 1 << 16
"""Deviations are counted in parts of a unit: whole numbers, whose sums are the same on every machine."""

Table = npt.NDArray[Any]
"""Lines, one a shard."""


def cut_strata(lengths: Ints, counts: Ints) -> tuple[int, ...]:
    """Cut lengths into strata: the upper bounds of all but the last, for rising `lengths` of which `counts` samples
    there are each.

    By about the cube root of density (Panter and Dite 1951), which makes what is left of the spread within strata
    least; its power of 3/8 takes square roots alone, which are the same on every machine.
    """
    gaps = np.diff(lengths, prepend=lengths[0] - 1).astype(np.float64)
    root = np.sqrt(counts / gaps)
    mass = np.cumsum(np.sqrt(root * np.sqrt(root)) * gaps)
    at = np.searchsorted(mass, mass[-1] * np.arange(1, STRATA) / STRATA)
    return tuple(n for n in np.unique(lengths[at]).tolist() if n < lengths[-1])


def shard_line(lengths: Ints, bounds: tuple[int, ...]) -> tuple[int, int, Ints]:
    """A shard's line: the sum of its rows' lengths, their CRC-32, and how many lie in each stratum."""
    stratum = np.searchsorted(np.array(bounds, np.int64), lengths)
    check = zlib.crc32(np.ascontiguousarray(lengths, "<i8").tobytes())
    return int(lengths.sum()), check, np.bincount(stratum, minlength=STRATA)


@dataclass(frozen=True)
class _StrataCuts:
    """An epoch laid out: the shards in their `turn`, ranges of them between `firsts`, their rows between `bounds`."""

    turn: Ints
    firsts: Ints
    bounds: Ints


@dataclass(frozen=True)
class _Range:
    """Some shards: rows below each node of the tree, from the root down, and the phases of the nodes' rounding.

    `keys` are those of the strata. Stratum by stratum and shard by shard, `until` and `before` are the stratum's rows
    in the shards up to this one, with and without it, moved by `stride` a stratum; `shorter` the shard's rows below.
    """

    shards: Ints
    levels: tuple[Ints, ...]
    phases: tuple[Ints, ...]
    keys: Words
    stride: int
    until: Ints
    before: Ints
    shorter: Ints


def _sum_levels(leaves: Ints) -> tuple[Ints, ...]:
    """Items below each node of a binary tree, from the root down to 2**n leaves."""
    levels = [leaves.astype(np.int64)]
    while len(levels[0]) > 1:
        levels.insert(0, levels[0].reshape(-1, 2).sum(axis=1))
    return tuple(levels)


def _keys(word: Words, width: int) -> Words:
    """Keys of the nodes of a level: nodes are numbered as in a heap."""
    return mix_bits(word + np.arange(width, 2 * width, dtype=np.uint64) * np.uint64(GOLDEN))


def _phases(levels: tuple[Ints, ...], word: Words) -> tuple[Ints, ...]:
    """Where in its rounding each node begins."""
    return tuple(
        (_keys(word, len(level)) % np.maximum(level, 1).astype(np.uint64)).astype(np.int64) for level in levels[:-1]
    )


def _down(m: Ints, levels: tuple[Ints, ...], phases: tuple[Ints, ...]) -> tuple[Ints, Ints]:
    """(leaf, how many draws it had before) of the draws `m`: a node that has had m gives the left round(m * share)."""
    node = np.zeros(m.shape, np.int64)
    for level, phase, below in zip(levels, phases, levels[1:], strict=False):
        left, total = below[2 * node], level[node]
        before, remainder = np.divmod(m * left + phase[node], total)
        goes_left = remainder + left >= total
        m = np.where(goes_left, before, m - before)
        node = 2 * node + 1 - goes_left
    return node, m


def _alternate_signs(above: Ints) -> Ints:
    """An order in which the numbers, which add up to about 0, never add up to more than one of them on the way."""
    high, low = np.flatnonzero(above >= 0), np.flatnonzero(above < 0)
    had = np.concatenate([np.cumsum(part) - part for part in (above[high], -above[low])])
    return np.concatenate([high, low])[np.argsort(had, kind="stable")]


class Strata:
    """The order of one source by its `table`: `lengths` gives those of a shard's rows, shard by shard as needed."""

    def __init__(self, table: Table, rows: Ints, key: int, open_shards: int, lengths: Callable[[int], Ints]) -> None:
        if int(rows.max(initial=0)) * open_shards > MAX_RANGE:
            raise MixtureError(
                f"{open_shards} shards of up to {rows.max()} rows are too many to be read together in the order that"
                " shares of tokens need; lower `open_shards`, or weigh in samples"
            )
        self.table, self.rows, self.key, self.open_shards, self.lengths = table, rows, key, open_shards, lengths
        self._sorted = lru_cache(2 * open_shards)(self._sort)
        self._range = lru_cache(CACHED_RANGES)(self._gather)
        self._cuts = lru_cache(CACHED_RANGES)(self._lay_out)

    def at(self, epoch: int, place: Ints) -> Ints:
        """The rows at places of an epoch."""
        cuts, out = self._cuts(epoch), np.empty(place.shape, np.int64)
        piece = np.searchsorted(cuts.bounds, place, side="right") - 1
        for number in set(piece.tolist()):
            mine = np.flatnonzero(piece == number)
            out[mine] = self._rows(self._range(epoch, number), place[mine] - cuts.bounds[number])
        return out

    def off(self, epoch: int = 0) -> int:
        """The most units that an epoch is off where a range of shards ends and another begins."""
        cuts = self._cuts(epoch)
        return int(np.abs(np.cumsum(self._above[cuts.turn])[cuts.firsts[1:] - 1]).max()) // PARTS

    @cached_property
    def _above(self) -> Ints:
        """What each shard holds above what its rows hold on average, in parts of a unit."""
        units = np.asarray(self.table["units"], np.int64)
        mean = int(units.sum()) / max(int(self.rows.sum()), 1) * PARTS
        return np.asarray(units * PARTS - np.rint(self.rows * mean).astype(np.int64), np.int64)

    def _lay_out(self, epoch: int) -> _StrataCuts:
        """Ranges of shards that each hold about what their rows hold on average.

        Sorted by what is above the mean, shards are dealt in rounds, one to each range: every other round at random,
        the others the largest to the range that has least, and the rounds that differ most come first. What ranges are
        then still off cancels as they follow each other.
        """
        shards = len(self.rows)
        ranges = -(-shards // self.open_shards)
        rounds = -(-shards // ranges)
        above = np.append(self._above, np.zeros(rounds * ranges - shards, np.int64))
        dealt = np.argsort(above, kind="stable").reshape(rounds, ranges)
        word = mix_bits(np.array([((self.key ^ MIX[0]) + epoch * GOLDEN) & (1 << 64) - 1], np.uint64))
        keys = mix_bits(word + np.arange(rounds * ranges, dtype=np.uint64) * np.uint64(GOLDEN))
        has = np.zeros(ranges, np.int64)
        for turn, number in enumerate(np.argsort(-np.abs(above[dealt].sum(axis=1)), kind="stable").tolist()):
            key = keys[number * ranges : (number + 1) * ranges]
            to = np.lexsort((key, has) if turn % 2 else (key,))
            dealt[number, to] = dealt[number, ::-1].copy()
            has += above[dealt[number]]
        dealt = dealt[:, _alternate_signs(has)]
        in_turn = dealt.T.reshape(-1)
        in_turn = in_turn[in_turn < shards]
        firsts = np.concatenate([[0], np.cumsum((dealt < shards).sum(axis=0))])
        ends = np.concatenate([[0], np.cumsum(self.rows[in_turn])])
        return _StrataCuts(in_turn, firsts, ends[firsts])

    def _gather(self, epoch: int, number: int) -> _Range:
        cuts = self._cuts(epoch)
        shards = cuts.turn[cuts.firsts[number] : cuts.firsts[number + 1]]
        counts = np.stack([self.table["counts"][shard] for shard in shards.tolist()]).astype(np.int64)
        if not np.array_equal(counts.sum(axis=1), self.rows[shards]):
            raise MixtureError("the lines of lengths beside the manifest are of other shards; run `curate mix` again")
        levels = _sum_levels(counts.sum(axis=0))
        word = mix_bits(np.array([(self.key + epoch * GOLDEN) & (1 << 64) - 1], np.uint64))
        word = mix_bits(word ^ np.uint64((number + 1) * MIX[1] & (1 << 64) - 1))
        stride = int(levels[0][0]) + 1
        until = counts.cumsum(axis=0)
        moved = np.arange(STRATA)[:, None] * stride
        return _Range(
            shards=shards,
            levels=levels,
            phases=_phases(levels, word),
            keys=_keys(word, STRATA),
            stride=stride,
            until=(until.T + moved).reshape(-1),
            before=((until - counts).T + moved).reshape(-1),
            shorter=(counts.cumsum(axis=1) - counts).T.reshape(-1),
        )

    def _rows(self, here: _Range, m: Ints) -> Ints:
        """The rows of the draws `m` of a range: down the tree, at random within the stratum, then shard by shard."""
        node, m = _down(m, here.levels, here.phases)
        of_stratum = permute(m, here.levels[-1][node], here.keys[node]) + node * here.stride
        at = np.searchsorted(here.until, of_stratum, side="right")
        inner = here.shorter[at] + of_stratum - here.before[at]
        which, out = at - node * len(here.shards), np.empty(m.shape, np.int64)
        for number in set(which.tolist()):
            mine = np.flatnonzero(which == number)
            shard = int(here.shards[number])
            out[mine] = self._starts[shard] + self._sorted(shard)[inner[mine]]
        return out

    @cached_property
    def _starts(self) -> Ints:
        return np.asarray(np.cumsum(self.rows) - self.rows, np.int64)

    def _sort(self, shard: int) -> npt.NDArray[np.int32]:
        """The rows of a shard, shortest first. Raises MixtureError if its lengths are not those of the table."""
        lengths = self.lengths(shard)
        if zlib.crc32(np.ascontiguousarray(lengths, "<i8").tobytes()) != int(self.table["check"][shard]):
            raise MixtureError(
                f"the lengths of the samples in shard {shard} (counted from 0) have changed since they were mixed, and"
                " they decide the order; put the index back, or run `curate mix` again"
            )
        return np.argsort(lengths, kind="stable").astype(np.int32)
