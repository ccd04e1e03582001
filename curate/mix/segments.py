"""Lay out segments, whole slots from a position on, by weights of stages, ramps and limits on epochs.

A segment that ends gets whole draws for its whole length, in the running balance of what was wanted and given, so that
errors do not add up over stages. Limits cut a segment where a source has had its epochs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from curate.mix.manifest import Stage
from curate.mix.schedule import MAX_SLOTS, MixtureError, apportion, counts, shares

RAMP_PIECES = 64
"""A ramp is a staircase of at most as many treads."""
PARTS = 1 << 32
"""Balances are kept in parts of a draw: exact fractions would grow with every segment."""
Policy = Literal["stop", "redistribute", "refuse"]


@dataclass(frozen=True)
class EpochLimits:
    """Limits on each source's draws (None: without limit), what it had before, and what happens then.

    `until`: the position at which the run is known to end, if it is.
    """

    draws: Sequence[int | None]
    had: Sequence[int]
    policy: Policy = "refuse"
    until: int | None = None


@dataclass(frozen=True)
class _SegmentPiece:
    """Constant shares from `start` to before `stop` (None: for ever), in units of draws."""

    start: int
    stop: int | None
    shares: tuple[Fraction, ...]


Laid = tuple[int, tuple[int, ...]]


def lay_out(
    stages: Sequence[Stage], weights: Sequence[Sequence[Fraction]], unit: int, limits: EpochLimits, names: Sequence[str]
) -> tuple[list[Laid], int | None]:
    """([(start, slots)], end) for stages with exact `weights`; positions are multiples of `unit`, a draw's samples.

    Raises MixtureError where a limit is met that must not be, or a stage is too short for its ramp.
    """
    waiting = list(_pieces(stages, weights, unit))
    had = [h // unit for h in limits.had]
    room = [None if n is None else max(n // unit - h, 0) for n, h in zip(limits.draws, had, strict=True)]
    given, wanted = [0] * len(names), [Fraction(0)] * len(names)
    laid: list[Laid] = []
    while waiting:
        piece = waiting.pop(0)
        open_ = tuple(
            s if room[i] is None or given[i] < (room[i] or 0) else Fraction(0) for i, s in enumerate(piece.shares)
        )
        if (open_ != piece.shares and limits.policy != "redistribute") or not any(open_):
            return _ended(laid, piece.start * unit, limits, names, _first_full(piece, open_))
        whole = sum(open_)
        piece = replace(piece, shares=tuple(s / whole for s in open_))
        piece, rest = _bounded(piece)
        slots = _slots(piece, given, wanted)
        length = _before_limit(slots, [None if r is None else r - g for r, g in zip(room, given, strict=True)], piece)
        laid.append((piece.start * unit, slots))
        if length is None:
            return laid, None
        stop = piece.start + length
        for i, count in enumerate(counts(slots, length).tolist()):
            given[i] += count
            wanted[i] += Fraction(round(piece.shares[i] * length * PARTS), PARTS)
        if stop != piece.stop:
            rest = [replace(piece, start=stop), *rest]
        waiting = [p for p in (*rest, *waiting) if p.stop is None or p.start < p.stop]
    return laid, None


def _pieces(stages: Sequence[Stage], weights: Sequence[Sequence[Fraction]], unit: int) -> Iterator[_SegmentPiece]:
    """Stages as pieces of constant shares; a ramp as a staircase whose treads have the shares of their middles."""
    before: list[Fraction] | None = None
    for number, (stage, given) in enumerate(zip(stages, weights, strict=True)):
        whole = sum(given)
        now = [w / whole for w in given]
        start, stop = stage.start // unit, stages[number + 1].start // unit if number + 1 < len(stages) else None
        ramp = stage.ramp // unit if before is not None else 0
        if stop is not None and start + ramp > stop:
            raise MixtureError(f"stage {stage.name!r} is shorter than its ramp; give it more steps, or a shorter ramp")
        ramp = ramp if before != now else 0
        treads = min(RAMP_PIECES, ramp)
        for tread in range(treads):
            along = Fraction(2 * tread + 1, 2 * treads)
            assert before is not None
            at = tuple(a + (b - a) * along for a, b in zip(before, now, strict=True))
            yield _SegmentPiece(start + ramp * tread // treads, start + ramp * (tread + 1) // treads, at)
        if stop is None or start + ramp < stop:
            yield _SegmentPiece(start + ramp, stop, tuple(now))
        before = now


def _bounded(piece: _SegmentPiece) -> tuple[_SegmentPiece, list[_SegmentPiece]]:
    """A piece of at most as many draws as slots can count, and the rest of it."""
    if piece.stop is None or piece.stop - piece.start <= MAX_SLOTS:
        return piece, []
    middle = piece.start + MAX_SLOTS
    return replace(piece, stop=middle), [replace(piece, start=middle)]


def _slots(piece: _SegmentPiece, given: Sequence[int], wanted: Sequence[Fraction]) -> tuple[int, ...]:
    """For ever: the shares. To an end: whole draws that bring what was given next to what was wanted by then."""
    if piece.stop is None:
        return shares(piece.shares)
    length = piece.stop - piece.start
    needed = [
        max(w + s * length - g, Fraction(0)) if s else Fraction(0)
        for g, w, s in zip(given, wanted, piece.shares, strict=True)
    ]
    return apportion(needed if any(needed) else list(piece.shares), length)


def _before_limit(slots: Sequence[int], room: Sequence[int | None], piece: _SegmentPiece) -> int | None:
    """How many draws the slots can give before a source has no room left, or all of the piece (None: for ever)."""
    length = None if piece.stop is None else piece.stop - piece.start
    limited = [(i, r) for i, r in enumerate(room) if r is not None and slots[i]]
    if not limited:
        return length
    period = sum(slots)
    low, high = 0, min((r + 3) * period // slots[i] + 1 for i, r in limited)
    if length is not None and length < high:
        high = length + 1
    while high - low > 1:  # invariant: `low` draws fit
        middle = (low + high) // 2
        found = counts(slots, middle)
        if all(found[i] <= r for i, r in limited):
            low = middle
        else:
            high = middle
    return low


def _first_full(piece: _SegmentPiece, open_: Sequence[Fraction]) -> int:
    return next(i for i, (a, b) in enumerate(zip(piece.shares, open_, strict=True)) if a != b)


def _ended(
    laid: list[Laid], end: int, limits: EpochLimits, names: Sequence[str], full: int
) -> tuple[list[Laid], int | None]:
    """The mixture ends here, unless that was to be refused."""
    if not laid:
        raise MixtureError(f"source {names[full]!r} has had all its epochs before the first draw; raise max_epochs")
    if limits.policy != "refuse":
        return laid, end
    if limits.until is None:
        raise MixtureError(
            f"source {names[full]!r} reaches its max_epochs at position {end}; say in `steps` (and `batch`) where the"
            " run ends, or in `at_limit` what happens: stop or redistribute"
        )
    if end < limits.until:
        raise MixtureError(
            f"source {names[full]!r} is too small: it reaches its max_epochs at position {end} of {limits.until};"
            " lower its weight, raise max_epochs, or say `at_limit: stop` or `redistribute`"
        )
    return laid, end
