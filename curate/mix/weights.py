"""Resolve nested weights to one share a source: given, or by size to a power, with caps and totals.

Shares are fractions, so that 0.07 of 0.45 is 0.0315 and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from curate.mix.schedule import MixtureError, Weight, apportion, exact_weights
from curate.mix.spec import Entry, MixtureSpec, walk_entries
from curate.mix.spread import LengthSurvey
from curate.shards import DatasetInfo


@dataclass(frozen=True)
class Leaf:
    """A dataset of a mixture: its entry, the groups it lies in, what it holds (`held`: of the unit), what a pass takes.

    `taken` samples a pass (by size and in mode concat); `binds`: whether a cap makes that less.
    """

    entry: Entry
    group: str
    folder: Path
    info: DatasetInfo
    digest: str
    name: str
    held: LengthSurvey
    taken: int
    cap: int | None
    binds: bool
    max_epochs: float | None


@dataclass(frozen=True)
class Shares:
    """One stage's shares, in the order of the leaves: of the own group, of the whole, and the whole in samples.

    `samples` add up to 1, or are whole counts of a pass where the mixture has a pass of known length; in mode
    accumulate they are the losses' weights.
    """

    of_group: tuple[float, ...]
    of_whole: tuple[float, ...]
    samples: tuple[Fraction, ...]
    epoch: int | None


def samples_taken(entry: Entry, cap: int | None, scale: float, rows: int) -> tuple[int, int | None, bool]:
    """(samples one pass takes, the cap as scaled, whether it binds): a part of an epoch, at most the cap."""
    part = Fraction(repr(entry.epochs)) if entry.epochs is not None else Fraction(1, entry.rotate)
    most = None if cap is None else max(round(Fraction(repr(scale)) * cap), 1)
    wanted = max(math.floor(part * rows), 1)
    return (wanted, most, False) if most is None or wanted <= most else (most, most, True)


def resolve_shares(spec: MixtureSpec, leaves: Sequence[Leaf], override: Mapping[str, float]) -> Shares:
    """Resolve the shares of a stage, its weights by the names of sources or groups replacing the entries' own.

    Raises MixtureError for weights that mean nothing, names that are not there, and units that a source lacks.
    """
    _check_names(spec, leaves, override)
    if spec.mode == "accumulate":
        parts = exact_weights(_losses(spec.sources, iter(leaves), override, Fraction(1)))
        whole = sum(parts)
        shares = tuple(float(w / whole) for w in parts)
        return Shares(shares, shares, tuple(parts), None)
    by = "size" if spec.mode == "concat" else spec.by
    walk = _Walk(leaves, override, concat=spec.mode == "concat")
    divided = walk.divide(spec.sources, by, spec.power, "the mixture")
    wanted = [Fraction(0)] * len(leaves)
    for at, share in divided:
        wanted[at] = share
    samples = _in_samples(wanted, leaves)
    epoch = _pass_positions(spec, leaves, wanted)
    if epoch is not None:
        samples = [Fraction(n) for n in apportion(samples, epoch)]
    of_group = tuple(walk.of_group[at] for at in range(len(leaves)))
    return Shares(of_group, tuple(map(float, wanted)), tuple(samples), epoch)


def _losses(
    entries: Sequence[Entry], leaves: Iterator[Leaf], override: Mapping[str, float], factor: Fraction
) -> list[Fraction]:
    """The weight of each source's loss; a group's weight multiplies those of its sources."""
    out: list[Fraction] = []
    for entry in entries:
        name = next(leaves).name if entry.path is not None else entry.group or ""
        own = factor * Fraction(repr(float(override.get(name, entry.weight))))
        out += [own] if entry.path is not None else _losses(entry.sources, leaves, override, own)
    return out


class _Walk:
    """One descent through nested entries; leaves are met in the order in which they stand in the file."""

    def __init__(self, leaves: Sequence[Leaf], override: Mapping[str, float], concat: bool) -> None:
        self.leaves, self.override, self.concat = leaves, override, concat
        self.next = 0
        self.of_group: dict[int, float] = {}

    def divide(self, entries: Sequence[Entry], by: str, power: float, where: str) -> list[tuple[int, Fraction]]:
        """(leaf, share) of what is divided among `entries`; the shares add up to 1."""
        weights: list[Weight] = []
        inner: list[list[tuple[int, Fraction]]] = []
        for entry in entries:
            first = self.next
            if entry.path is not None:
                self.next += 1
                inner.append([(first, Fraction(1))])
            else:
                below = "size" if self.concat else entry.by or "weight"
                inner.append(self.divide(entry.sources, below, entry.power, f"group {entry.group!r}"))
            name = self.leaves[first].name if entry.path is not None else entry.group or ""
            given = self.override.get(name, entry.weight)
            if by == "weight" and entry.path is not None:
                _no_amounts(self.leaves[first])
            weights.append(self._amount(range(first, self.next), given, by, power, name))
        parts = _check_weights(weights, where)
        for part, found in zip(parts, inner, strict=True):
            if len(found) == 1 and found[0][0] not in self.of_group:
                self.of_group[found[0][0]] = float(part)
        return [(at, share * part) for part, found in zip(parts, inner, strict=True) for at, share in found]

    def _amount(self, mine: range, given: float, by: str, power: float, name: str) -> Weight:
        if by == "weight":
            return given
        if self.concat and given not in (0, 1):
            raise MixtureError(f"{name!r}: mode concat takes samples, not weights: say `epochs` or `cap` instead")
        size = sum(
            (Fraction(x.taken * x.held.units, x.info.samples) for x in map(self.leaves.__getitem__, mine)), Fraction()
        )
        exact = Fraction(repr(given)) if math.isfinite(given) else given
        if power == 1:
            return size * exact
        return float(float(size) ** power * given)


def _no_amounts(leaf: Leaf) -> None:
    if leaf.cap is not None or leaf.entry.epochs is not None:
        raise MixtureError(
            f"{leaf.name!r}: `cap` and `epochs` say how much of a source a pass takes, which given weights overrule;"
            " weigh it and its neighbours by size (`by: size`), or say max_epochs to limit the run"
        )


def _check_weights(weights: Sequence[Weight], where: str) -> list[Fraction]:
    try:
        exact = exact_weights(weights)
    except MixtureError as err:
        raise MixtureError(f"{where}: {err}") from None
    whole = sum(exact)
    return [weight / whole for weight in exact]


def _in_samples(wanted: Sequence[Fraction], leaves: Sequence[Leaf]) -> list[Fraction]:
    """Shares of the unit as shares of samples: a source of long samples is drawn the less often.

    By the mean length of the whole source, which needs no replay at a seek. The unit's shares are exact whenever the
    sources end an epoch, and in between for all but about the longest sample, by the order (`curate.mix.strata`).
    """
    for share, leaf in zip(wanted, leaves, strict=True):
        if share and not leaf.held.units:
            raise MixtureError(
                f"source {leaf.name!r} holds none of the mixture's unit; leave it out or weigh in samples"
            )
    drawn = [s * x.info.samples / x.held.units if s else Fraction(0) for s, x in zip(wanted, leaves, strict=True)]
    whole = sum(drawn)
    return [d / whole for d in drawn]


def _pass_positions(spec: MixtureSpec, leaves: Sequence[Leaf], wanted: Sequence[Fraction]) -> int | None:
    """Positions of one pass over the mixture: a fixed total, or where sizes alone decide, all that is taken."""
    if spec.total is not None:
        return max(round(Fraction(repr(spec.scale)) * spec.total), 1)
    entries = list(walk_entries(spec.sources))
    sized = spec.mode == "concat" or (spec.by == "size" and all(e.by == "size" or e.path is not None for e in entries))
    even = spec.mode == "concat" or (spec.power == 1 and all(e.power == 1 and e.weight == 1 for e in entries))
    return sum(x.taken for x, share in zip(leaves, wanted, strict=True) if share) if sized and even else None


def _check_names(spec: MixtureSpec, leaves: Sequence[Leaf], names: Mapping[str, float]) -> None:
    groups = {entry.group for entry in walk_entries(spec.sources) if entry.group}
    known_names = groups | {leaf.name for leaf in leaves}
    if wrong := sorted(set(names) - known_names):
        raise MixtureError(
            f"a stage weighs {wrong[0]!r}, which is no source or group (there are {', '.join(sorted(known_names))})"
        )
