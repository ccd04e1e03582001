"""Which sample stands at a position of a mixture: pure functions of the position, without state, torch or files.

`shares` turns weights into whole slots of a period, `schedule` maps positions to (source, draw) with an error
below one sample at every prefix, `order` maps a source's draws to (epoch, row) by a seekable permutation.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from curate.mix.manifest import Manifest

MAX_SLOTS = 1 << 16
MAX_ROWS = 1 << 40
DENOMINATOR = 10**6
NOISE = Fraction(1, 1 << 50)
ROUNDS = 24  # from 20 on, all orders of 2 to 6 rows come equally often in 400,000 epochs (chi-square)
BLOCK = 1 << 14
GOLDEN = 0x9E3779B97F4A7C15
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


class MixtureError(ValueError):
    """Weights, a manifest or a position that cannot be used; the message says where, what and what to do."""


def shares(weights: Sequence[float]) -> tuple[int, ...]:
    """Whole slots of one period, one count a source: the weights' exact ratios where at most 65,536 slots hold them.

    Otherwise the largest remainders of 65,536 slots (Hamilton), at least one for any positive weight. Weights are
    taken as the decimals they print as; what a few floating-point operations add to a short decimal is dropped,
    so 0.45 * 0.93 is 0.4185. Raises MixtureError for negative, infinite, NaN or all-zero weights.
    """
    _check_weights(weights)
    exact = [Fraction(repr(float(weight))) for weight in weights]
    for candidate in (exact, [_without_noise(weight) for weight in exact]):
        unit = math.lcm(*(weight.denominator for weight in candidate))
        slots = [int(weight * unit) for weight in candidate]
        divisor = math.gcd(*slots)
        if sum(slots) // divisor <= MAX_SLOTS:
            return tuple(slot // divisor for slot in slots)
    return _largest_remainders(exact)


def quantisation_error(weights: Sequence[float], slots: Sequence[int]) -> float:
    """The largest difference between a wanted share, weight / sum, and the share its slots give (0 to 1)."""
    _check_weights(weights)
    wanted = [Fraction(repr(float(weight))) for weight in weights]
    whole, period = sum(wanted), sum(slots)
    return float(max(abs(w / whole - Fraction(s, period)) for w, s in zip(wanted, slots, strict=True)))


def schedule(slots: Sequence[int], positions: npt.ArrayLike) -> tuple[npt.NDArray[np.int32], Ints]:
    """(source, draw) of each position: the source's index and how many draws it had before, shapes as `positions`.

    After any number n of positions, each source has had n * slots / sum(slots) draws to within 1 - 1/(2K - 2),
    exactly so at the end of every period. Tijdeman 1980, "The chairman assignment problem".
    """
    at = np.asarray(positions, dtype=np.int64)
    _check_counted(at, "positions")
    source, rank, counts = _period(tuple(int(slot) for slot in slots))
    period, slot = np.divmod(at, len(source))
    chosen = source[slot]
    return chosen, period * counts[chosen] + rank[slot]


def order(draws: npt.ArrayLike, rows: int, seed: int, name: str) -> tuple[Ints, Ints]:
    """(epoch, row) of a source's draws: each epoch is a permutation of its rows, keyed by seed, name and epoch.

    Seekable: a draw's row needs no other draw. A Feistel network on a grid of at least `rows` cells, walked along
    its cycles until it meets a row (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    at = np.asarray(draws, dtype=np.int64)
    _check_counted(at, "draws")
    return _shuffled(at, np.zeros(at.shape, np.int32), [rows], [_base_key(seed, name)])


def locate(manifest: Manifest, positions: npt.ArrayLike) -> tuple[npt.NDArray[np.int32], Ints, Ints]:
    """(source, epoch, row) of each position of a mixture, shapes as `positions`."""
    source, draw = schedule([d.slots for d in manifest.datasets], positions)
    keys = [_base_key(manifest.seed, d.name) for d in manifest.datasets]
    return source, *_shuffled(draw, source, [d.samples for d in manifest.datasets], keys)


def _check_counted(at: Ints, what: str) -> None:
    if at.size and int(at.min()) < 0:
        raise MixtureError(f"{what} are counted from 0, found {int(at.min())}")


def _check_weights(weights: Sequence[float]) -> None:
    for number, weight in enumerate(weights):
        if not math.isfinite(weight) or weight < 0:
            raise MixtureError(f"weight {number} is {weight}; a weight is a number of 0 or more")
    if not any(weights):
        raise MixtureError("every weight is 0: nothing can be drawn; give at least one source a positive weight")
    if len(weights) > MAX_SLOTS // 4:
        raise MixtureError(
            f"{len(weights)} sources, at most {MAX_SLOTS // 4} can be mixed; join small ones into one dataset"
        )


def _without_noise(weight: Fraction) -> Fraction:
    """The short fraction within a few units in the last place of a float, where there is one."""
    short = weight.limit_denominator(DENOMINATOR)
    return short if abs(short - weight) <= weight * NOISE else weight


def _largest_remainders(weights: list[Fraction]) -> tuple[int, ...]:
    whole = sum(weights)
    wanted = [weight * MAX_SLOTS / whole for weight in weights]
    slots = [max(math.floor(quota), int(quota > 0)) for quota in wanted]
    by_need = sorted(range(len(slots)), key=lambda i: (slots[i] - wanted[i], i))
    spare = MAX_SLOTS - sum(slots)
    for i in by_need[: max(spare, 0)]:
        slots[i] += 1
    # Slots lent to tiny weights come back from where most of the wanted share is left after the loss of one.
    rich = [(-(slots[i] - 1) / wanted[i], i) for i in by_need if slots[i] > 1]
    heapq.heapify(rich)
    for _ in range(max(-spare, 0)):
        i = rich[0][1]
        slots[i] -= 1
        heapq.heapreplace(rich, (-(slots[i] - 1) / wanted[i], i))
    divisor = math.gcd(*slots)
    return tuple(slot // divisor for slot in slots)


@lru_cache(maxsize=64)
def _period(slots: tuple[int, ...]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Ints]:
    """One period laid out: the source of each slot, its rank among that source's slots, and slots a source.

    Tijdeman's rule as a schedule of unit jobs: with K sources and e = 1 / (2K - 2), the j-th draw of a source may
    happen from prefix (j + e) S / W on, and must have happened before prefix (j + 1 - e) S / W is passed; the
    earliest deadline goes first. That all deadlines can be met is his theorem.
    """
    counts = np.array(slots, np.int64)
    if not len(slots) or counts.min() < 0 or not 0 < int(counts.sum()) <= MAX_SLOTS:
        raise MixtureError(f"slots are counts that add up to 1 to {MAX_SLOTS}, found {slots[:8]}")
    total, twice = int(counts.sum()), max(2 * int((counts > 0).sum()) - 2, 1)
    source = np.repeat(np.arange(len(slots), dtype=np.int64), counts)
    rank = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    unit = twice * counts[source]
    release = -(-((rank * twice + 1) * total) // unit)
    deadline = ((rank + 1) * twice - 1) * total // unit
    job = _earliest_deadline_first(release, deadline) if twice > 1 else np.arange(total)
    out = source[job].astype(np.int32), rank[job].astype(np.int32), counts
    for array in out:
        array.flags.writeable = False
    return out


def _earliest_deadline_first(release: Ints, deadline: Ints) -> Ints:
    """The job done in each slot 1, 2, ...: of those released, the one due first (ties: the lower number)."""
    total = len(release)
    by_release = np.argsort(release, kind="stable")
    coming = iter((deadline[by_release] * total + by_release).tolist())
    arriving = np.bincount(np.minimum(release, total), minlength=total + 1).tolist()
    waiting: list[int] = []
    done = []
    for slot in range(1, total + 1):
        for _ in range(arriving[slot]):
            heapq.heappush(waiting, next(coming))
        done.append(heapq.heappop(waiting))
    late, job = np.divmod(np.array(done, np.int64), total)
    assert bool((late >= np.arange(total)).all()), "a deadline was missed"
    return job


def _base_key(seed: int, name: str) -> int:
    data = f"{seed}\0{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=b"curate.order.1").digest(), "little")


def _shuffled(draws: Ints, source: npt.NDArray[np.int32], rows: list[int], keys: list[int]) -> tuple[Ints, Ints]:
    """(epoch, row) of draws of several sources at once, in blocks that stay in a core's cache."""
    if bad := [n for n in rows if not 1 <= n <= MAX_ROWS]:
        raise MixtureError(f"a source has {bad[0]} rows; between 1 and {MAX_ROWS} can be put in order")
    high = [math.isqrt(n - 1) + 1 for n in rows]
    low = [-(-n // a) for n, a in zip(rows, high, strict=True)]
    table = np.array([rows, high, low, keys], np.uint64)
    flat, which = draws.reshape(-1), source.reshape(-1)
    epoch, row = np.empty(flat.shape, np.int64), np.empty(flat.shape, np.int64)
    for start in range(0, flat.size, BLOCK):
        part = slice(start, start + BLOCK)
        n, a, b, key = table[:, which[part]] if len(rows) > 1 else table
        turn, place = np.divmod(flat[part].astype(np.uint64), n)
        epoch[part] = turn
        row[part] = _walk(place, n, a, b, _mixed(key + turn * np.uint64(GOLDEN)))
    return epoch.reshape(draws.shape), row.reshape(draws.shape)


def _walk(place: Words, n: Words, a: Words, b: Words, key: Words) -> Words:
    """The permutation of 0..n-1 that a network on a * b >= n cells gives: cells without a row are stepped over."""
    row = _network(place, a, b, key)
    outside = np.flatnonzero(row >= n)
    while outside.size:
        at = [x if len(x) == 1 else x[outside] for x in (n, a, b, key)]
        row[outside] = _network(row[outside], *at[1:])
        outside = outside[row[outside] >= at[0]]
    return row


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
