"""Shares of rows: exact cuts over a whole pool, within groups where a rule names them.

`top` and `bottom` are exact with ties decided by uid, found by radix selection in a few passes over the values: memory
is flat, cost linear. The cuts of all groups are found in the same passes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.recipe.steps import Condition

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
"""Shape (3, n): order key, complement of the uid's high and low 64 bits. Rows are ranked largest first."""

MOST_GROUPS = 10_000
"""Groups that a share is taken within; a column with more values is none of groups."""

EVERYTHING = "null"
"""The name of the one group of a share that is taken of all rows."""

_COLLECT = 1 << 16
_FEW_GROUPS = 64
"""Up to so many groups digits of 16 bits are counted, beyond of 8: the counts of all groups take 32 MB at most."""


@dataclass(frozen=True)
class Ranked:
    """Rows with a value, as a share ranks them: their words, and the numbers of their groups; shape (n,)."""

    words: Words
    groups: Ints

    def only(self, rows: Bools) -> Ranked:
        """Some of them."""
        return Ranked(self.words[:, rows], self.groups[rows])


@dataclass(frozen=True)
class Cut:
    """The last row that a share keeps of a group, as its three words; `None` words keep nothing."""

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


ShareCuts = Mapping[str, Cut]
"""The cuts of a share by the names of its groups (`group_names`)."""


def group_names(column: pa.ChunkedArray) -> list[str]:
    """The names of the groups of rows, by their values of a `by` column: as JSON, `null` where there is none."""
    return [json.dumps(value, ensure_ascii=False) for value in column.to_pylist()]


def rank_words(column: pa.ChunkedArray, uids: pa.ChunkedArray, kind: str) -> Words:
    """The words by which a share ranks rows, largest first; `bottom` turns the order, ties go to smaller uids."""
    key = _order_key(column.to_numpy())
    if kind == "bottom":
        key = ~key
    raw = np.frombuffer(bytes.fromhex("".join(uids.to_pylist())), dtype=">u8").reshape(-1, 2)
    return np.stack([key, ~raw[:, 0].astype(np.uint64), ~raw[:, 1].astype(np.uint64)])


def share_cuts(share: Condition, names: list[str], chunks: Callable[[], Iterable[Ranked]]) -> dict[str, Cut]:
    """The cut of each group, by its name, that keeps exactly ceil(share x n) of its n rows.

    `chunks()` is read several times, never held; its groups are numbered as `names` has them. `strict: datacomp` cuts
    at the value of rank int(n x share) + 1 and keeps all that equal it.
    """
    sizes = np.zeros(len(names), np.int64)
    for chunk in chunks():
        sizes += np.bincount(chunk.groups, minlength=len(names))
    shares = [share.number_of(json.loads(name)) for name in names]
    last_rank = _datacomp_rank if share.strict == "datacomp" else _exact_rank
    wanted = np.array([last_rank(one, n) for one, n in zip(shares, sizes.tolist(), strict=True)], np.int64)
    cuts = {}
    for name, words in zip(names, _nth_largest(chunks, wanted), strict=True):
        if words is None:
            cuts[name] = Cut(None, None)
        else:
            ties = (words[0], 0, 0) if share.strict else words
            cuts[name] = Cut(ties, value_of_key(words[0], share.kind, share.type))
    return cuts


def _exact_rank(share: float, rows: int) -> int:
    return math.ceil(Fraction(str(share)) * rows)


def _datacomp_rank(share: float, rows: int) -> int:
    """The rank, from 1, of element int(N x f) of the descending sort; where the code has no such element, the last."""
    return min(int(rows * share) + 1, rows)


def value_of_key(key: int, kind: str, column: pa.DataType) -> float:
    """The number behind an order key of a `column`, for reports."""
    word = np.uint64(key) if kind == "top" else ~np.uint64(key)
    sign = np.uint64(1 << 63)
    if pa.types.is_unsigned_integer(column):
        return float(word)
    if pa.types.is_integer(column):
        return float((word ^ sign).view(np.int64))
    return float((word ^ sign if word & sign else ~word).view(np.float64))


def _order_key(values: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Unsigned integers in the order of the numbers (IEEE 754: flip the sign bit, or all bits of a negative)."""
    sign = np.uint64(1 << 63)
    if values.dtype.kind == "u":
        return values.astype(np.uint64)
    if values.dtype.kind == "i":
        return values.astype(np.int64).view(np.uint64) ^ sign
    bits = (values.astype(np.float64) + 0.0).view(np.uint64)
    return np.where(bits & sign, ~bits, bits | sign)


def _nth_largest(chunks: Callable[[], Iterable[Ranked]], wanted: Ints) -> list[tuple[int, int, int] | None]:
    """Of each group the row of the wanted rank, from 1; None where the wanted rank is 0."""
    bits = 16 if len(wanted) <= _FEW_GROUPS else 8
    left = wanted.copy()
    prefixes = np.zeros((len(wanted), 0), np.int64)
    open_ = wanted > 0
    while True:
        counts = np.zeros((len(wanted), 1 << bits), np.int64)
        for chunk in chunks():
            here = _with_prefix(chunk, prefixes, open_, bits)
            digits = _digit(here.words, prefixes.shape[1], bits)
            counts += np.bincount((here.groups << bits) + digits, minlength=counts.size).reshape(counts.shape)
        from_top = np.cumsum(counts[:, ::-1], axis=1)
        place = (from_top < left[:, None]).sum(axis=1).clip(max=(1 << bits) - 1)
        taken = np.take_along_axis(counts[:, ::-1], place[:, None], 1)[:, 0]
        left = left - np.take_along_axis(from_top, place[:, None], 1)[:, 0] + taken
        prefixes = np.concatenate([prefixes, ((1 << bits) - 1 - place)[:, None]], axis=1)
        if taken[open_].sum() <= max(_COLLECT, len(wanted)) or prefixes.shape[1] == 192 // bits:
            return _pick(chunks, prefixes, open_, left, bits)


def _pick(
    chunks: Callable[[], Iterable[Ranked]], prefixes: Ints, open_: Bools, left: Ints, bits: int
) -> list[tuple[int, int, int] | None]:
    """The row of the rank that is left in each group, among those that begin with its prefix: these are few."""
    rest = [_with_prefix(chunk, prefixes, open_, bits) for chunk in chunks()]
    if not rest:
        return [None] * len(left)
    words = np.concatenate([one.words for one in rest], axis=1)
    groups = np.concatenate([one.groups for one in rest])
    order = np.lexsort((~words[2], ~words[1], ~words[0], groups))
    words, starts = words[:, order], np.searchsorted(groups[order], np.arange(len(left)))
    found: list[tuple[int, int, int] | None] = []
    for is_open, start, rank in zip(open_.tolist(), starts.tolist(), left.tolist(), strict=True):
        key, high, low = words[:, start + rank - 1].tolist() if is_open else (0, 0, 0)
        found.append((key, high, low) if is_open else None)
    return found


def _digit(words: Words, number: int, bits: int) -> Ints:
    word, place = divmod(number, 64 // bits)
    shift = np.uint64(64 - bits * (place + 1))
    digits: Ints = ((words[word] >> shift) & np.uint64((1 << bits) - 1)).astype(np.int64)
    return digits


def _with_prefix(chunk: Ranked, prefixes: Ints, open_: Bools, bits: int) -> Ranked:
    keep = open_[chunk.groups]
    for number in range(prefixes.shape[1]):
        keep &= _digit(chunk.words, number, bits) == prefixes[chunk.groups, number]
    return chunk.only(keep)
