"""The order of a source's rows: each epoch a permutation of its own, seekable, a few shards at a time.

Shards are put in a random order, the row of them cut into ranges of `open_shards` shards, and the rows of a range
shuffled by a network that needs no table (or by length, `curate.mix.strata`). Whoever reads on thus touches few shards
at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from curate.mix.network import GOLDEN, MIX, Words, mix_bits, permute
from curate.mix.schedule import Ints, MixtureError, Sources, check_not_negative
from curate.mix.strata import Strata

MAX_ROWS = 1 << 40
OPEN_SHARDS = 16
BLOCK = 1 << 14

Runs = tuple[tuple[int, int], ...]
"""Sizes of shards in order, as (how many shards, rows of each)."""


@dataclass(frozen=True)
class SourceOrder:
    """Parameters of one source's order: its shards' rows, its key, and how it is cut.

    `rotate` parts: every part holds the same rows in every epoch, and is done before the next begins. With `strata`
    long and short rows come evenly.
    """

    shards: Runs
    key: int
    open_shards: int = OPEN_SHARDS
    rotate: int = 1
    strata: Strata | None = field(default=None, compare=False)

    def __hash__(self) -> int:
        return self.key  # the shards may be many, and each look into the cache would count them

    @property
    def rows(self) -> int:
        """Rows of an epoch."""
        return sum(count * rows for count, rows in self.shards)

    @property
    def whole(self) -> bool:
        """Whether an epoch is one range: all shards are open together."""
        return self.rotate == 1 and sum(count for count, _ in self.shards) <= self.open_shards


def run_lengths(sizes: Sequence[int]) -> Runs:
    """Shard sizes, told in runs of equal ones."""
    out: list[tuple[int, int]] = []
    for size in sizes:
        if out and out[-1][1] == size:
            out[-1] = (out[-1][0] + 1, size)
        else:
            out.append((1, size))
    return tuple(out)


def shard_rows(shards: Runs) -> Ints:
    """Rows of each shard."""
    return np.repeat([rows for _, rows in shards], [count for count, _ in shards]).astype(np.int64)


def order_key(seed: int, name: str) -> int:
    """The 64-bit key of a source's order."""
    data = f"{seed}\0{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=b"curate.order.1").digest(), "little")


def order(
    draws: npt.ArrayLike, shards: int | Sequence[int], seed: int, name: str, *, open_shards: int = OPEN_SHARDS
) -> tuple[Ints, Ints]:
    """(epoch, row) of a source's draws: each epoch is a permutation of its rows, keyed by seed, name and epoch.

    `shards` are the rows of each shard (one number: of the only shard); rows are counted through them. Seekable: a
    draw's row needs no other draw. A Feistel network on a grid of at least as many cells as rows, walked along its
    cycles until it meets a row (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    at = np.asarray(draws, dtype=np.int64)
    check_not_negative(at, "draws")
    sizes = [shards] if isinstance(shards, int) else shards
    which = np.zeros(at.shape, np.int32)
    return shuffle(at, which, Orders.of([SourceOrder(run_lengths(sizes), order_key(seed, name), open_shards)]))


@dataclass(frozen=True, eq=False)
class Orders:
    """The orders of several sources, and of each its rows, its key, and whether it is cut into ranges, or by length."""

    each: tuple[SourceOrder, ...]
    rows: Ints
    keys: Words
    cut: npt.NDArray[np.bool_]
    spread: npt.NDArray[np.bool_]

    @staticmethod
    def of(orders: Sequence[SourceOrder]) -> Orders:
        """Collect orders. Raises MixtureError for a source without rows, or with too many."""
        rows = [o.rows for o in orders]
        if bad := [n for n in rows if not 1 <= n <= MAX_ROWS]:
            raise MixtureError(f"a source has {bad[0]} rows; between 1 and {MAX_ROWS} can be put in order")
        keys, cut = np.array([o.key for o in orders], np.uint64), np.array([not o.whole for o in orders])
        spread = np.array([o.strata is not None for o in orders])
        return Orders(tuple(orders), np.array(rows, np.int64), keys, cut, spread)


def shuffle(draws: Ints, source: Sources, orders: Orders) -> tuple[Ints, Ints]:
    """Shuffle draws of several sources at once: (epoch, row) of each, in blocks that stay in a core's cache."""
    flat, which = draws.reshape(-1), source.reshape(-1)
    epoch, row = np.empty(flat.shape, np.int64), np.empty(flat.shape, np.int64)
    for start in range(0, flat.size, BLOCK):
        part = slice(start, start + BLOCK)
        epoch[part], place = np.divmod(flat[part], orders.rows[which[part]])
        row[part] = _row_at_place(place, epoch[part], which[part], orders)
    return epoch.reshape(draws.shape), row.reshape(draws.shape)


def _row_at_place(place: Ints, epoch: Ints, source: Sources, orders: Orders) -> Ints:
    """The row at each place of a source's epoch."""
    if not orders.spread.any():
        return _row_in_ranges(place, epoch, source, orders)
    row = np.empty_like(place)
    plain = np.flatnonzero(~orders.spread[source])
    row[plain] = _row_in_ranges(place[plain], epoch[plain], source[plain], orders)
    for number, turn, mine in _groups(source, epoch, orders.spread):
        strata = orders.each[number].strata
        assert strata is not None
        row[mine] = strata.at(turn, place[mine])
    return row


def _row_in_ranges(place: Ints, epoch: Ints, source: Sources, orders: Orders) -> Ints:
    """The row at each place, by the network over all of an epoch, or over the range of shards it lies in."""
    n = orders.rows[source]
    key = mix_bits(orders.keys[source] + epoch.astype(np.uint64) * np.uint64(GOLDEN))
    if not orders.cut[source].any():
        return permute(place, n, key)
    low = np.zeros_like(place)
    groups = [(at, _cuts(orders.each[number], turn)) for number, turn, at in _groups(source, epoch, orders.cut)]
    for at, cuts in groups:
        piece = np.searchsorted(cuts.bounds, place[at], side="right") - 1
        low[at] = cuts.bounds[piece]
        n[at] = cuts.bounds[piece + 1] - low[at]
        key[at] = mix_bits(key[at] ^ (piece.astype(np.uint64) + np.uint64(1)) * np.uint64(MIX[1]))
    row = permute(place - low, n, key) + low
    for at, cuts in groups:
        row[at] += cuts.shift[np.searchsorted(cuts.ends, row[at], side="right")]
    return row


@dataclass(frozen=True)
class _ShardCuts:
    """An epoch laid out: ranges between `bounds`; where each shard `ends` in the row of shards; and the `shift` from a
    place in that row to the row number in the dataset.
    """

    bounds: Ints
    ends: Ints
    shift: Ints


def _groups(source: Sources, epoch: Ints, those: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, Ints]]:
    """(source, epoch, places) of each that is among `those` sources."""
    for number in set(source.tolist()):  # np.unique takes 15 ms when it is first called
        if those[number]:
            mine = np.flatnonzero(source == number)
            turns = epoch[mine]
            for turn in set(turns.tolist()):
                yield number, turn, mine[turns == turn]


def _cuts(order_: SourceOrder, epoch: int) -> _ShardCuts:
    # Parts that rotate must hold the same rows in every epoch, so their shards keep one order.
    return _lay_out(order_, 0 if order_.rotate > 1 else epoch)


@lru_cache(maxsize=256)
def _lay_out(order_: SourceOrder, epoch: int) -> _ShardCuts:
    sizes = shard_rows(order_.shards)
    number = np.arange(len(sizes), dtype=np.uint64)
    key = mix_bits(np.array([((order_.key ^ MIX[0]) + epoch * GOLDEN) & (1 << 64) - 1], np.uint64))
    turn = np.argsort(mix_bits(key + number * np.uint64(GOLDEN)), kind="stable")
    ends = np.cumsum(sizes[turn])
    starts = np.cumsum(sizes) - sizes
    groups = -(-len(sizes) // order_.open_shards)
    last = np.arange(1, groups + 1) * len(sizes) // groups
    parts = np.arange(1, order_.rotate) * int(ends[-1]) // order_.rotate
    bounds = np.array(sorted({0, *ends[last - 1].tolist(), *parts.tolist()}), np.int64)
    return _ShardCuts(bounds, ends, starts[turn] - (ends - sizes[turn]))
