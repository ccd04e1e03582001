"""Rules applied: a step's values end rows, and parts of documents, that failed or break a condition.

The one place for it: while values are computed, when a group is gathered, and when all is decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engine.parts import BLOCK, lengths_of
from curate.engine.rules import Read, deciding_values, keeps, truth
from curate.engine.shares import Bools, ShareCuts
from curate.engine.state import OWN_COLUMNS, OWN_OF_PARTS, ShardState, as_json
from curate.ops.spec import PART_KINDS, PartKind
from curate.pool.columns import ColumnValues, Ints
from curate.pool.funnel import PartCount, StepCount
from curate.readers.tables import excerpt
from curate.recipe.steps import Decision, Resolved

PartEnds = Callable[[pa.Table], None]
"""Takes the parts that a step ended, as rows of PART_ENDS."""

PART_ENDS = pa.schema(
    [("row", pa.int32()), ("of", pa.string()), ("part", pa.int32()), ("step", pa.string()), ("outcome", pa.string()),
     ("rule", pa.string()), ("value", pa.string()), ("what", pa.string())]
)  # fmt: skip
"""A part that left its document: of which row, its kind and its number in the document as an op wrote it; where it
ended, by which rule or error, with which value (as JSON); `what`: the image's URL, or how the paragraph begins."""

WHAT_CHARACTERS = 200


def apply_rules(
    state: ShardState,
    step: Resolved,
    values: Mapping[str, ColumnValues],
    rows: range,
    cuts: Mapping[str, ShareCuts],
    part_ends: PartEnds | None = None,
) -> StepCount:
    """Take a step's values for these rows, and end what failed or breaks a rule: parts of documents first, then rows.

    The one place where rules are applied, while values are computed as well as when all is decided from committed
    columns. A share whose cut is not known yet is left out.
    """
    live = state.live(rows)
    count = StepCount(step.label, len(live))
    state.add_columns(step, values, rows)
    errors, details = (values[name].take(live).to_pylist() for name in OWN_COLUMNS)
    count.failed = state.fail(step.label, live, errors, details)
    for name in step.spec.tally if step.over is None else ():
        found = values[name].take(state.live(rows)).value_counts().to_pylist()
        count.tallies[step.columns[name]] = Counter({str(one["values"]): one["counts"] for one in found})
    if step.decides_parts:
        live = state.live(rows)
        for start in range(0, len(live), BLOCK):
            _apply_part_rules(state, step, values, live[start : start + BLOCK], count, part_ends)
    for decision in step.conditions:
        if any(share.name not in cuts for share in decision.shares):
            continue
        live = state.live(rows)
        read = {name: state.columns[name].take(live) for name in decision.columns}
        broken = ~keeps(decision, read, state.rows["uid"].take(pa.array(live)), cuts)
        if dropped := state.drop(step.label, live[broken], decision.name, deciding_values(decision, read, broken)):
            count.dropped[decision.name] = dropped
    count.kept = len(state.live(rows))
    return count


def _apply_part_rules(
    state: ShardState,
    step: Resolved,
    values: Mapping[str, ColumnValues],
    rows: Ints,
    count: StepCount,
    part_ends: PartEnds | None,
) -> None:
    """End the parts of these rows that failed or break a rule, each by the first in the order of the recipe."""
    for kind in PART_KINDS:
        conditions = step.part_conditions.get(kind, ())
        if step.over != kind and not conditions:
            continue
        decide = dict.fromkeys(name for c in conditions for name in c.columns)
        lists = {name: state.columns[name].take(rows).combine_chunks() for name in decide}
        if step.over == kind:
            lists |= {name: values[name].take(rows).combine_chunks() for name in OWN_OF_PARTS}
        lengths = lengths_of(next(iter(lists.values())))
        ended = _PartsEnded(sum(lengths))
        if step.over == kind:
            ended.fail(*(lists[name].flatten().to_pylist() for name in OWN_OF_PARTS))
        spared = _spared(state, step, kind, rows)
        for condition in conditions:
            read = {name: pa.chunked_array([lists[name].flatten()]) for name in condition.columns}
            odd = [name for name, flat in read.items() if len(flat) != sum(lengths)]
            assert not odd, f"{step.label}: {odd[0]} is out of step with its document"
            untouched = spared
            if kind == "images":
                untouched = spared & np.logical_and.reduce([truth(pc.is_null(flat)) for flat in read.values()])
            ended.drop(~keeps(condition, read) & ~untouched, condition, read)
        counted = PartCount(sum(lengths), ended.left(), ended.dropped, ended.failed)
        count.parts.setdefault(kind, PartCount()).add(counted)
        if counted.kept < counted.parts_in:
            if part_ends is not None:
                part_ends(_ended_table(state, step, kind, rows, lengths, ended))
            _narrow(state, kind, rows, lengths, ended.gone)


def _narrow(state: ShardState, kind: PartKind, rows: Ints, lengths: Sequence[int], gone: Bools) -> None:
    start = 0
    for row, length in zip(rows.tolist(), lengths, strict=True):
        if gone[start : start + length].any():
            state.left.narrow(kind, row, ~gone[start : start + length])
        start += length


def _spared(state: ShardState, step: Resolved, kind: PartKind, rows: Ints) -> Bools:
    """The parts out of the rules' reach: absent images (where they have no value), blocks that the step spares."""
    if kind == "images":
        if "images" not in state.columns:
            return np.zeros(1, dtype=bool)  # before any was fetched
        images = state.columns["images"].take(rows).combine_chunks().flatten()
        return truth(pc.is_valid(pa.chunked_array([images.field("error")])))
    if not step.spare:
        return np.zeros(1, dtype=bool)
    segments = state.columns["document"].take(rows).combine_chunks().flatten()
    blocks = segments.field("block").filter(pc.equal(segments.field("type"), "text"))
    return truth(pa.chunked_array([pc.is_in(blocks, value_set=pa.array(step.spare))]))


class _PartsEnded:
    """Which of some parts have ended, by what, and with which value."""

    def __init__(self, parts: int) -> None:
        self.gone: Bools = np.zeros(parts, dtype=bool)
        self.ends: dict[int, tuple[str, str, str]] = {}
        self.failed: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def fail(self, errors: Sequence[str | None], details: Sequence[str | None]) -> None:
        """End those that have an error."""
        for at, error in enumerate(errors):
            if error is not None:
                self.ends[at] = "failed", error, as_json(details[at])
                self.gone[at] = True
                self.failed[error] += 1

    def drop(self, broken: Bools, rule: Decision, read: Read) -> None:
        """End those that break a rule and are still there."""
        ending = broken & ~self.gone
        numbers = np.flatnonzero(ending).tolist()
        for at, value in zip(numbers, deciding_values(rule, read, ending), strict=True):
            self.ends[at] = "dropped", rule.name, as_json(value)
        self.gone |= ending
        if numbers:
            self.dropped[rule.name] += len(numbers)

    def left(self) -> int:
        """The number of parts that are left."""
        return int((~self.gone).sum())


def _ended_table(
    state: ShardState, step: Resolved, kind: PartKind, rows: Ints, lengths: Sequence[int], ended: _PartsEnded
) -> pa.Table:
    """The parts that ended, with their numbers and what they were; before they leave their documents."""
    wanted, says = ("image", "url") if kind == "images" else ("text", "text")
    spans = [range(end - length, end) for end, length in zip(np.cumsum(lengths).tolist(), lengths, strict=True)]
    hit = [at for at, span in enumerate(spans) if ended.gone[span.start : span.stop].any()]
    documents = state.columns["document"].take([int(rows[at]) for at in hit]).to_pylist()
    told: list[tuple[int | str, ...]] = []
    for at, document in zip(hit, documents, strict=True):
        row, span = int(rows[at]), spans[at]
        numbers = state.left.numbers(kind, row, len(span)).tolist()
        parts = [segment for segment in document if segment["type"] == wanted]
        for place in np.flatnonzero(ended.gone[span.start : span.stop]).tolist():
            what = excerpt(str(parts[place][says]), WHAT_CHARACTERS)
            told.append((row, kind, numbers[place], step.label, *ended.ends[span.start + place], what))
    columns = zip(*told, strict=True)
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, PART_ENDS, strict=True)], PART_ENDS)
