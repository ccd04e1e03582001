"""Schedule sources over positions: weights as slots of a period, laid out by a tree of rounded splits.

Pure functions, numpy only. `shares` turns weights into slots, `schedule` maps positions to (source, draw), `counts`
says how many draws each source has had before a position. Nothing is tabulated, so a period may have 2**31 slots
and a place a billion positions away costs what the first one costs.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

MAX_SLOTS = 1 << 31
"""Slots of a period: the product of two such numbers still fits 64 bits."""
MAX_SOURCES = 1 << 14
DENOMINATOR = 10**6
NOISE = Fraction(1, 1 << 50)

Ints = npt.NDArray[np.int64]
Sources = npt.NDArray[np.int32]
Weight = float | Fraction


class MixtureError(ValueError):
    """Weights, a manifest or a position that cannot be used; the message says where, what and what to do."""


def shares(weights: Sequence[Weight]) -> tuple[int, ...]:
    """Whole slots of one period, one count a source: the weights' exact ratios where 2**31 slots hold them.

    Otherwise the largest remainders of 2**31 slots (Hamilton), at least one for any positive weight. Floats are
    taken as the decimals they print as; what a few floating-point operations add to a short decimal is dropped,
    so 0.45 * 0.93 is 0.4185. Raises MixtureError for negative, infinite, NaN or all-zero weights.
    """
    exact = exact_weights(weights)
    for candidate in (exact, [_without_noise(weight) for weight in exact]):
        unit = math.lcm(*(weight.denominator for weight in candidate))
        slots = [int(weight * unit) for weight in candidate]
        divisor = math.gcd(*slots)
        if sum(slots) // divisor <= MAX_SLOTS:
            return tuple(slot // divisor for slot in slots)
    slots = list(apportion(exact, MAX_SLOTS, least=1))
    divisor = math.gcd(*slots)
    return tuple(slot // divisor for slot in slots)


def exact_weights(weights: Sequence[Weight]) -> list[Fraction]:
    """The weights as fractions, floats as the decimals they print as. Raises MixtureError as `shares` does."""
    for number, weight in enumerate(weights):
        if not math.isfinite(weight) or weight < 0:
            raise MixtureError(f"weight {number} is {weight}; a weight is a number of 0 or more")
    if not any(weights):
        raise MixtureError("every weight is 0: nothing can be drawn; give at least one source a positive weight")
    if len(weights) > MAX_SOURCES:
        raise MixtureError(
            f"{len(weights)} sources, at most {MAX_SOURCES} can be mixed; join small ones into one dataset"
        )
    return [weight if isinstance(weight, Fraction) else Fraction(repr(float(weight))) for weight in weights]


def apportion(weights: Sequence[Fraction], total: int, least: int = 0) -> tuple[int, ...]:
    """`total` whole items in the weights' ratios by largest remainder; `least` items for every positive weight."""
    whole = sum(weights)
    wanted = [weight * total / whole for weight in weights]
    slots = [max(math.floor(quota), least * (quota > 0)) for quota in wanted]
    by_need = sorted(range(len(slots)), key=lambda i: (slots[i] - wanted[i], i))
    spare = total - sum(slots)
    for i in by_need[: max(spare, 0)]:
        slots[i] += 1
    # Slots lent to tiny weights come back from where most of the wanted share is left after the loss of one.
    rich = [(-(slots[i] - 1) / wanted[i], i) for i in by_need if slots[i] > 1]
    heapq.heapify(rich)
    for _ in range(max(-spare, 0)):
        i = rich[0][1]
        slots[i] -= 1
        heapq.heapreplace(rich, (-(slots[i] - 1) / wanted[i], i))
    return tuple(slots)


def quantisation_error(weights: Sequence[Weight], slots: Sequence[int]) -> float:
    """The largest difference between a wanted share, weight / sum, and the share its slots give (0 to 1)."""
    wanted = exact_weights(weights)
    whole, period = sum(wanted), sum(slots)
    return float(max(abs(w / whole - Fraction(s, period)) for w, s in zip(wanted, slots, strict=True)))


def schedule(slots: Sequence[int], positions: npt.ArrayLike) -> tuple[Sources, Ints]:
    """(source, draw) of each position: the source's index and how many draws it had before, shapes as `positions`.

    After any number n of positions, each source has had n * slots / sum(slots) draws to within 2.5 (a split errs by
    half a draw, and a part that is split again takes over at most 3/4 of its parent's error), in practice 1.15; exactly
    so at the end of every period.
    """
    at = np.asarray(positions, dtype=np.int64)
    check_not_negative(at, "positions")
    tree = _tree(tuple(int(slot) for slot in slots))
    turn, rest = np.divmod(at.reshape(-1), tree.total[0])
    node = np.zeros(rest.shape, np.int32)
    active = np.arange(rest.size) if tree.left[0] else np.arange(0)
    while active.size:
        here, m = node[active], rest[active]
        left, total = tree.left[here], tree.total[here]
        before, remainder = np.divmod(m * left + total // 2, total)
        goes_left = remainder + left >= total
        rest[active] = np.where(goes_left, before, m - before)
        node[active] = here = tree.child[here, 1 - goes_left.astype(np.int8)]
        active = active[tree.left[here] > 0]
    source = tree.leaf[node]
    return source.reshape(at.shape), (turn * tree.counts[source] + rest).reshape(at.shape)


def counts(slots: Sequence[int], position: int) -> Ints:
    """Draws that each source has had in the `position` positions before this one."""
    tree = _tree(tuple(int(slot) for slot in slots))
    turn, rest = divmod(position, int(tree.total[0]))
    out = turn * tree.counts
    reached = deque([rest])  # nodes stand in the order in which their parents put them here
    for left, total, leaf in zip(tree.left.tolist(), tree.total.tolist(), tree.leaf.tolist(), strict=True):
        m = reached.popleft()
        if leaf >= 0:
            out[leaf] += m
            continue
        before = (m * left + total // 2) // total
        reached.extend((before, m - before))
    return out


def check_not_negative(at: Ints, what: str) -> None:
    """Refuse negative positions or draws."""
    if at.size and int(at.min()) < 0:
        raise MixtureError(f"{what} are counted from 0, found {int(at.min())}")


def _without_noise(weight: Fraction) -> Fraction:
    """The short fraction within a few units in the last place of a float, where there is one."""
    short = weight.limit_denominator(DENOMINATOR)
    return short if abs(short - weight) <= weight * NOISE else weight


@dataclass(frozen=True)
class _Tree:
    """Nodes, parents before children: slots left of each and in all, its two children; a leaf has left 0 and a source.

    `counts` are the slots of each source.
    """

    left: Ints
    total: Ints
    child: Sources
    leaf: Sources
    counts: Ints


@lru_cache(maxsize=512)
def _tree(slots: tuple[int, ...]) -> _Tree:
    """Sources in descending order, cut near half the slots, again and again.

    A part that is cut further holds at most 3/4 of its parent: were the first source larger than half, it would
    stand alone. This is what bounds the error of `schedule`.
    """
    if not slots or min(slots) < 0 or not 0 < sum(slots) <= MAX_SLOTS:
        raise MixtureError(f"slots are counts that add up to 1 to {MAX_SLOTS}, found {slots[:8]}")
    ranked = sorted((i for i, slot in enumerate(slots) if slot), key=lambda i: (-slots[i], i))
    ends = [0]
    for i in ranked:
        ends.append(ends[-1] + slots[i])
    left, total, child, leaf = [], [], [], []
    waiting = [(0, len(ranked))]
    for low, high in waiting:  # grows while it is walked
        whole = ends[high] - ends[low]
        total.append(whole)
        if high - low == 1:
            left.append(0)
            child.append((0, 0))
            leaf.append(ranked[low])
            continue
        middle = bisect_left(ends, ends[low] + whole / 2, low + 1, high - 1)
        if middle - 1 > low and ends[middle] + ends[middle - 1] - 2 * ends[low] > whole:
            middle -= 1
        left.append(ends[middle] - ends[low])
        child.append((len(waiting), len(waiting) + 1))
        leaf.append(-1)
        waiting += [(low, middle), (middle, high)]
    arrays = (np.array(left, np.int64), np.array(total, np.int64), np.array(child, np.int32), np.array(leaf, np.int32))
    tree = _Tree(*arrays, np.array(slots, np.int64))
    for array in (*arrays, tree.counts):
        array.flags.writeable = False
    return tree


AGAIN = "run `curate mix` again"
