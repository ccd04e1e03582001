"""The funnel: rows in, kept, dropped by rule and failed at each step, checked for conservation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


class ConservationError(AssertionError):
    """A step whose rows in are not its rows kept, dropped and failed: a bug of ours, so the run fails."""


@dataclass
class PartCount:
    """Parts of the documents that came to a step: in = kept + dropped (by rule) + failed (by error)."""

    parts_in: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def ended(self) -> tuple[int, int]:
        """The numbers dropped and failed."""
        return self.dropped.total(), self.failed.total()

    def add(self, other: PartCount) -> None:
        """Add the parts of other documents."""
        self.parts_in += other.parts_in
        self.kept += other.kept
        self.dropped.update(other.dropped)
        self.failed.update(other.failed)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        ended = {"dropped": dict(sorted(self.dropped.items())), "failed": dict(sorted(self.failed.items()))}
        return {"in": self.parts_in, "kept": self.kept, **ended}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PartCount:
        """The inverse of to_json."""
        return cls(data["in"], data["kept"], Counter(data["dropped"]), Counter(data["failed"]))


@dataclass
class StepCount:
    """One step's rows: in = kept + dropped (by rule) + failed (by error); computed now or reused.

    `parts`: the images and paragraphs of their documents, where the step decides on them. `tallies`: of columns whose
    op asks for it, how many rows that did not fail had each value.
    """

    step: str
    rows_in: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    computed: int = 0
    reused: int = 0
    parts: dict[str, PartCount] = field(default_factory=dict)
    tallies: dict[str, Counter[str]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ConservationError unless the counts add up."""
        out = self.kept + self.dropped.total() + self.failed.total()
        if self.rows_in != out:
            raise ConservationError(f"step {self.step!r}: {self.rows_in} rows in, {out} accounted for")
        for kind, count in self.parts.items():
            out = count.kept + count.dropped.total() + count.failed.total()
            if count.parts_in != out:
                raise ConservationError(f"step {self.step!r}: {count.parts_in} {kind} in, {out} accounted for")

    def add(self, other: StepCount) -> None:
        """Add another shard's counts of the same step."""
        assert self.step == other.step, (self.step, other.step)
        self.rows_in += other.rows_in
        self.kept += other.kept
        self.dropped.update(other.dropped)
        self.failed.update(other.failed)
        self.computed += other.computed
        self.reused += other.reused
        for kind, count in other.parts.items():
            self.parts.setdefault(kind, PartCount()).add(count)
        for column, tally in other.tallies.items():
            self.tallies.setdefault(column, Counter()).update(tally)

    def to_json(self) -> dict[str, Any]:
        """The counts as plain data."""
        return {
            "step": self.step,
            "in": self.rows_in,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "failed": dict(sorted(self.failed.items())),
            "computed": self.computed,
            "reused": self.reused,
            **({"parts": {kind: count.to_json() for kind, count in self.parts.items()}} if self.parts else {}),
            **({"tallies": {c: dict(sorted(t.items())) for c, t in self.tallies.items()}} if self.tallies else {}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> StepCount:
        """The inverse of to_json."""
        counters = Counter(data["dropped"]), Counter(data["failed"])
        parts = {kind: PartCount.from_json(count) for kind, count in data.get("parts", {}).items()}
        tallies = {column: Counter(tally) for column, tally in data.get("tallies", {}).items()}
        return cls(data["step"], data["in"], data["kept"], *counters, data["computed"], data["reused"], parts, tallies)


def check_funnel(counts: Sequence[StepCount]) -> None:
    """Check the conservation of a whole run: every step adds up, and takes in what the step before it kept."""
    for count in counts:
        count.check()
    for before, after in pairwise(counts):
        if before.kept != after.rows_in:
            raise ConservationError(f"{before.step!r} kept {before.kept} rows, {after.step!r} took {after.rows_in}")


def merge_counts(parts: Iterable[Sequence[StepCount]]) -> Iterator[StepCount]:
    """Sum each step's counts over shards, in the order of the steps."""
    total: dict[str, StepCount] = {}
    for part in parts:
        for count in part:
            total.setdefault(count.step, StepCount(count.step)).add(count)
    yield from total.values()
