"""In which order a source gives its rows: every epoch a permutation of its own, seekable, a few shards at a time.

Shards are put in a random order, the row of them cut into ranges of `open_shards` shards, and the rows of a range
shuffled by a network that needs no table. Whoever reads on thus touches few shards at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from curate.mix.schedule import Ints, MixtureError, Sources, counted

MAX_ROWS = 1 << 40
OPEN_SHARDS = 16
ROUNDS = 24  # from 20 on, all orders of 2 to 6 rows come equally often in 400,000 epochs (chi-square)
BLOCK = 1 << 14
GOLDEN = 0x9E3779B97F4A7C15
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

Words = npt.NDArray[np.uint64]
Runs = tuple[tuple[int, int], ...]
"""Sizes of shards in order, as (how many shards, rows of each)."""


@dataclass(frozen=True)
class Order:
    """What the order of one source depends on: its shards' rows, its key, and how it is cut.

    `rotate` parts: every part holds the same rows in every epoch, and is done before the next begins.
    """

    shards: Runs
    key: int
    open_shards: int = OPEN_SHARDS
    rotate: int = 1

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


def runs(sizes: Sequence[int]) -> Runs:
    """Shard sizes, told in runs of equal ones."""
    out: list[tuple[int, int]] = []
    for size in sizes:
        if out and out[-1][1] == size:
            out[-1] = (out[-1][0] + 1, size)
        else:
            out.append((1, size))
    return tuple(out)


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
    counted(at, "draws")
    sizes = [shards] if isinstance(shards, int) else shards
    which = np.zeros(at.shape, np.int32)
    return shuffled(at, which, Orders.of([Order(runs(sizes), order_key(seed, name), open_shards)]))


@dataclass(frozen=True, eq=False)
class Orders:
    """The orders of several sources, and of each its rows, its key, and whether it is cut into ranges."""

    each: tuple[Order, ...]
    rows: Ints
    keys: Words
    cut: npt.NDArray[np.bool_]

    @staticmethod
    def of(orders: Sequence[Order]) -> Orders:
        """Raises MixtureError for a source without rows, or with too many."""
        rows = [o.rows for o in orders]
        if bad := [n for n in rows if not 1 <= n <= MAX_ROWS]:
            raise MixtureError(f"a source has {bad[0]} rows; between 1 and {MAX_ROWS} can be put in order")
        keys, cut = np.array([o.key for o in orders], np.uint64), np.array([not o.whole for o in orders])
        return Orders(tuple(orders), np.array(rows, np.int64), keys, cut)


def shuffled(draws: Ints, source: Sources, orders: Orders) -> tuple[Ints, Ints]:
    """(epoch, row) of draws of several sources at once, in blocks that stay in a core's cache."""
    rows, keys, cut = orders.rows, orders.keys, orders.cut
    flat, which = draws.reshape(-1), source.reshape(-1)
    epoch, row = np.empty(flat.shape, np.int64), np.empty(flat.shape, np.int64)
    for start in range(0, flat.size, BLOCK):
        part = slice(start, start + BLOCK)
        n, key, mine = rows[which[part]], keys[which[part]], which[part]
        epoch[part], place = np.divmod(flat[part], n)
        key = _mixed(key + epoch[part].astype(np.uint64) * np.uint64(GOLDEN))
        if not cut[mine].any():
            row[part] = _walk(place, n, key)
            continue
        low = np.zeros_like(place)
        groups = _groups(mine, epoch[part], orders)
        for at, cuts in groups:
            piece = np.searchsorted(cuts.bounds, place[at], side="right") - 1
            low[at] = cuts.bounds[piece]
            n[at] = cuts.bounds[piece + 1] - low[at]
            key[at] = _mixed(key[at] ^ (piece.astype(np.uint64) + np.uint64(1)) * np.uint64(MIX[1]))
        place = _walk(place - low, n, key) + low
        for at, cuts in groups:
            place[at] += cuts.shift[np.searchsorted(cuts.ends, place[at], side="right")]
        row[part] = place
    return epoch.reshape(draws.shape), row.reshape(draws.shape)


@dataclass(frozen=True)
class _Cuts:
    """An epoch laid out: ranges between `bounds`; where each shard `ends` in the row of shards; and the `shift` from a
    place in that row to the row number in the dataset.
    """

    bounds: Ints
    ends: Ints
    shift: Ints


def _groups(source: Sources, epoch: Ints, orders: Orders) -> list[tuple[Ints, _Cuts]]:
    """The places of each (source, epoch) whose order is cut into ranges, and the cuts."""
    out = []
    for number in set(source.tolist()):  # np.unique takes 15 ms when it is first called
        if orders.cut[number]:
            mine = np.flatnonzero(source == number)
            turns = epoch[mine]
            out += [(mine[turns == turn], _cuts(orders.each[number], turn)) for turn in set(turns.tolist())]
    return out


def _cuts(order_: Order, epoch: int) -> _Cuts:
    # Parts that rotate must hold the same rows in every epoch, so their shards keep one order.
    return _laid_out(order_, 0 if order_.rotate > 1 else epoch)


@lru_cache(maxsize=256)
def _laid_out(order_: Order, epoch: int) -> _Cuts:
    sizes = np.repeat([rows for _, rows in order_.shards], [count for count, _ in order_.shards]).astype(np.int64)
    number = np.arange(len(sizes), dtype=np.uint64)
    key = _mixed(np.array([((order_.key ^ MIX[0]) + epoch * GOLDEN) & (1 << 64) - 1], np.uint64))
    turn = np.argsort(_mixed(key + number * np.uint64(GOLDEN)), kind="stable")
    ends = np.cumsum(sizes[turn])
    starts = np.cumsum(sizes) - sizes
    groups = -(-len(sizes) // order_.open_shards)
    last = np.arange(1, groups + 1) * len(sizes) // groups
    parts = np.arange(1, order_.rotate) * int(ends[-1]) // order_.rotate
    bounds = np.array(sorted({0, *ends[last - 1].tolist(), *parts.tolist()}), np.int64)
    return _Cuts(bounds, ends, starts[turn] - (ends - sizes[turn]))


def _walk(place: Ints, rows: Ints, key: Words) -> Ints:
    """The permutation of 0..rows-1 that a network on at least as many cells gives: empty cells are stepped over."""
    high = np.sqrt((rows - 1).astype(np.float64)).astype(np.int64) + 1
    low = -(-rows // high)
    n, a, b = rows.astype(np.uint64), high.astype(np.uint64), low.astype(np.uint64)
    row = _network(place.astype(np.uint64), a, b, key)
    outside = np.flatnonzero(row >= n)
    while outside.size:
        row[outside] = _network(row[outside], a[outside], b[outside], key[outside])
        outside = outside[row[outside] >= n[outside]]
    return row.astype(np.int64)


def _network(cell: Words, a: Words, b: Words, key: Words) -> Words:
    """An alternating Feistel network on the grid of `a` by `b` cells: a permutation for every key."""
    left, right = np.divmod(cell, b)
    for turn in range(ROUNDS):
        salt = key + np.uint64(turn * GOLDEN & (1 << 64) - 1)
        if turn % 2:
            right = _added(right, left, salt, b)
        else:
            left = _added(left, right, salt, a)
    return left * b + right


def _added(half: Words, other: Words, salt: Words, size: Words) -> Words:
    """(half + f(other)) mod size, f being a hash cut to the range: sizes are below 2**32, so nothing overflows."""
    word = other + salt
    word *= np.uint64(MIX[0])
    word ^= word >> np.uint64(32)
    word *= np.uint64(MIX[1])
    word >>= np.uint64(32)
    word *= size
    word >>= np.uint64(32)
    word += half
    # Unsigned numbers wrap: where nothing was carried, word - size is the larger of the two.
    out: Words = np.minimum(word, word - size)
    return out


def _mixed(word: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of a key depends on every bit."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(MIX[0])
    word = (word ^ (word >> np.uint64(27))) * np.uint64(MIX[1])
    return word ^ (word >> np.uint64(31))
