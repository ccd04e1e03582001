"""Conditions on columns: which rows fulfil them, which rules keep.

Deciding is kept apart from computing: everything here works on values that are there. What a share keeps is compared
with its cut, which `shares` finds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.engine.shares import EVERYTHING, Bools, ShareCuts, group_names, rank_words
from curate.recipe.steps import Condition, Decision

Read = Mapping[str, pa.ChunkedArray]
"""By name, the values of some rows, or parts, of every column that decides."""


def keeps(
    decision: Decision,
    read: Read,
    uids: pa.ChunkedArray | None = None,
    cuts: Mapping[str, ShareCuts] | None = None,
) -> Bools:
    """Evaluate a rule on each row, or part. A share needs `uids` and the cuts of shares by their names."""
    if isinstance(decision, Condition):
        return passes(read, decision, uids, (cuts or {}).get(decision.name))
    alternatives = [[keeps(c, read, uids, cuts) for c in one] for one in decision.alternatives]
    found: Bools = np.logical_or.reduce([np.logical_and.reduce(one) for one in alternatives])
    return found


def passes(
    read: Read, condition: Condition, uids: pa.ChunkedArray | None = None, cuts: ShareCuts | None = None
) -> Bools:
    """Evaluate `condition` on each row; a null fulfils only `is: null` (or a null named in `in`), a NaN nothing.

    A share needs `uids` and its cuts.
    """
    column = read[condition.column]
    kept = np.zeros(len(column), dtype=bool)
    if condition.is_global:
        assert cuts is not None and uids is not None, "a share needs its cut"
        with_value = has_value(column)
        words = rank_words(column.filter(with_value), uids.filter(with_value), condition.kind)
        for name, rows in _groups(condition, read, with_value).items():
            kept[np.flatnonzero(with_value)[rows]] = name in cuts and cuts[name].keeps(words[:, rows])
    elif condition.by is not None:
        groups = read[condition.by].to_pylist()
        number_of = {group: condition.number_of(group) for group in set(groups)}
        numbers = np.array([number_of[group] for group in groups], dtype=np.float64)
        for number in np.unique(numbers).tolist():
            rows = numbers == number
            kept[rows] = _fulfils(column.filter(pa.array(rows)), condition.kind, number)
    else:
        kept = _fulfils(column, condition.kind, condition.value)
    return kept | truth(pc.is_null(column)) if condition.or_null else kept


def _groups(condition: Condition, read: Read, rows: Bools) -> Mapping[str, npt.NDArray[np.int64]]:
    """The places among some rows of each group, by its name."""
    if condition.by is None:
        return {EVERYTHING: np.arange(int(rows.sum()))}
    coded = pc.dictionary_encode(pa.array(group_names(read[condition.by].filter(pa.array(rows))), pa.string()))
    codes = coded.indices.to_numpy()
    return {name: np.flatnonzero(codes == n) for n, name in enumerate(coded.dictionary.to_pylist())}


def deciding_values(decision: Decision, read: Read, rows: Bools) -> list[Any]:
    """Collect, of the rows that a rule drops, the value that decided, or the values by column."""
    if len(decision.columns) == 1:
        (name,) = decision.columns
        return list(read[name].filter(pa.array(rows)).to_pylist())
    values = {name: read[name].filter(pa.array(rows)).to_pylist() for name in decision.columns}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _fulfils(column: pa.ChunkedArray, kind: str, value: Any) -> Bools:
    if kind == "is":
        return truth(pc.is_null(column)) if value is None else _is_one_of(column, [value])
    if kind in ("in", "not_in"):
        found = _is_one_of(column, [v for v in value if v is not None])
        return found | (truth(pc.is_null(column)) & (None in value)) if kind == "in" else ~found & has_value(column)
    return _is_beyond(column, kind, value)


def has_value(column: pa.ChunkedArray) -> Bools:
    """Rows with a number: neither null nor NaN."""
    valid = truth(pc.is_valid(column))
    return valid & ~truth(pc.is_nan(column)) if pa.types.is_floating(column.type) else valid


def truth(array: pa.ChunkedArray) -> Bools:
    """The values of booleans; a null is false."""
    found: Bools = array.fill_null(False).to_numpy().astype(bool, copy=False)
    return found


def _is_one_of(column: pa.ChunkedArray, values: Sequence[Any]) -> Bools:
    """Rows equal to one of `values`: exactly, so integers are compared as integers, and -0.0 is 0."""
    kind = column.type
    if pa.types.is_integer(kind):
        low, high = _range(kind)
        values = [int(v) for v in values if v == math.floor(v) and low <= v <= high]
    elif pa.types.is_floating(kind):
        kind, column = pa.float64(), pc.add(column.cast(pa.float64()), 0.0)
        values = [float(v) + 0.0 for v in values]
    return truth(pc.is_in(column, value_set=pa.array(values, type=kind)))


def _is_beyond(column: pa.ChunkedArray, rule: str, bound: float) -> Bools:
    """Rows of at least (`min`) or at most (`max`) the bound, compared exactly."""
    compare = pc.greater_equal if rule == "min" else pc.less_equal
    if not pa.types.is_integer(column.type):
        return truth(compare(column.cast(pa.float64()), pa.scalar(float(bound))))
    low, high = _range(column.type)
    whole = math.ceil(bound) if rule == "min" else math.floor(bound)
    if (rule == "min" and whole > high) or (rule == "max" and whole < low):
        return np.zeros(len(column), dtype=bool)
    return truth(compare(column, pa.scalar(min(max(whole, low), high), type=column.type)))


def _range(kind: pa.DataType) -> tuple[int, int]:
    limits = np.iinfo(kind.to_pandas_dtype())
    return int(limits.min), int(limits.max)
