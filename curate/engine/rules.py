"""Conditions on columns, and exact global shares.

Deciding is kept apart from computing: everything here works on values that are there. `top` and `bottom` are exact over
the whole pool with ties decided by uid, found by radix selection in a few passes over the values: memory is flat, cost
linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.recipe.steps import Condition

Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]
"""Shape (3, n): order key, complement of the uid's high and low 64 bits. Rows are ranked largest first."""

_DIGIT = 16
_COLLECT = 1 << 16


@dataclass(frozen=True)
class Cut:
    """The last row that a share keeps, as its three words; `None` words keep nothing."""

    words: tuple[int, int, int] | None
    value: float | None

    def keeps(self, words: Words) -> Bools:
        """Compare rows with the cut: whether each ranks at or above it; shape (n,)."""
        if self.words is None:
            return np.zeros(words.shape[1], dtype=bool)
        a, b, c = (np.uint64(w) for w in self.words)
        key, high, low = words
        kept: Bools = (key > a) | ((key == a) & ((high > b) | ((high == b) & (low >= c))))
        return kept


def passes(
    column: pa.ChunkedArray, condition: Condition, uids: pa.ChunkedArray | None = None, cut: Cut | None = None
) -> Bools:
    """Evaluate `condition` on each row of `column`; a null fulfils only `is: null` (or a null named in `in`).

    A share needs `uids` and its `cut`.
    """
    if condition.is_global:
        assert cut is not None and uids is not None, "a share needs its cut"
        with_value = has_value(column)
        kept = np.zeros(len(column), dtype=bool)
        kept[with_value] = cut.keeps(rank_words(column.filter(with_value), uids.filter(with_value), condition.kind))
    else:
        kept = _fulfils(column, condition.kind, condition.value)
    return kept | truth(pc.is_null(column)) if condition.or_null else kept


def _fulfils(column: pa.ChunkedArray, kind: str, value: Any) -> Bools:
    if kind == "is":
        return truth(pc.is_null(column)) if value is None else _is_one_of(column, [value])
    if kind in ("in", "not_in"):
        found = _is_one_of(column, [v for v in value if v is not None])
        nulls = truth(pc.is_null(column))
        return found | (nulls & (None in value)) if kind == "in" else ~found & ~nulls
    return _is_beyond(column, kind, value)


def rank_words(column: pa.ChunkedArray, uids: pa.ChunkedArray, kind: str) -> Words:
    """The words by which a share ranks rows, largest first; `bottom` turns the order, ties go to smaller uids."""
    key = _order_key(column.to_numpy())
    if kind == "bottom":
        key = ~key
    raw = np.frombuffer(bytes.fromhex("".join(uids.to_pylist())), dtype=">u8").reshape(-1, 2)
    return np.stack([key, ~raw[:, 0].astype(np.uint64), ~raw[:, 1].astype(np.uint64)])


def share_cut(chunks: Callable[[], Iterable[Words]], share: float, values: Callable[[int], float]) -> tuple[Cut, int]:
    """The cut that keeps exactly ceil(share x n) of n rows, and n. `chunks()` is read several times, never held."""
    rows = sum(words.shape[1] for words in chunks())
    wanted = math.ceil(Fraction(str(share)) * rows)
    if wanted == 0:
        return Cut(None, None), rows
    words = _nth_largest(chunks, wanted)
    return Cut(words, values(words[0])), rows


def value_of_key(key: int, kind: str, column: pa.DataType) -> float:
    """The number behind an order key of a `column`, for reports."""
    word = np.uint64(key) if kind == "top" else ~np.uint64(key)
    sign = np.uint64(1 << 63)
    if pa.types.is_unsigned_integer(column):
        return float(word)
    if pa.types.is_integer(column):
        return float((word ^ sign).view(np.int64))
    return float((word ^ sign if word & sign else ~word).view(np.float64))


def has_value(column: pa.ChunkedArray) -> Bools:
    """Rows with a number: neither null nor NaN."""
    valid = truth(pc.is_valid(column))
    return valid & ~truth(pc.is_nan(column)) if pa.types.is_floating(column.type) else valid


def _order_key(values: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Unsigned integers in the order of the numbers (IEEE 754: flip the sign bit, or all bits of a negative)."""
    sign = np.uint64(1 << 63)
    if values.dtype.kind == "u":
        return values.astype(np.uint64)
    if values.dtype.kind == "i":
        return values.astype(np.int64).view(np.uint64) ^ sign
    bits = (values.astype(np.float64) + 0.0).view(np.uint64)
    return np.where(bits & sign, ~bits, bits | sign)


def _nth_largest(chunks: Callable[[], Iterable[Words]], n: int) -> tuple[int, int, int]:
    prefix: list[int] = []
    while True:
        histogram = np.zeros(1 << _DIGIT, dtype=np.int64)
        for words in chunks():
            matching = _with_prefix(words, prefix)
            histogram += np.bincount(_digit(matching, len(prefix)), minlength=1 << _DIGIT)
        from_top = np.cumsum(histogram[::-1])
        place = int(np.searchsorted(from_top, n))
        n -= int(from_top[place] - histogram[::-1][place])
        prefix.append((1 << _DIGIT) - 1 - place)
        if histogram[prefix[-1]] <= _COLLECT or len(prefix) == 12:
            rest = np.concatenate([_with_prefix(words, prefix) for words in chunks()], axis=1)
            found = rest[:, np.lexsort((rest[2], rest[1], rest[0]))[::-1][n - 1]]
            return int(found[0]), int(found[1]), int(found[2])


def _digit(words: Words, number: int) -> npt.NDArray[np.int64]:
    word, place = divmod(number, 64 // _DIGIT)
    shift = np.uint64(64 - _DIGIT * (place + 1))
    digits: npt.NDArray[np.int64] = ((words[word] >> shift) & np.uint64((1 << _DIGIT) - 1)).astype(np.int64)
    return digits


def _with_prefix(words: Words, prefix: Sequence[int]) -> Words:
    keep = np.ones(words.shape[1], dtype=bool)
    for number, digit in enumerate(prefix):
        keep &= _digit(words, number) == digit
    return words[:, keep]


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
