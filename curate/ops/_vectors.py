"""Embeddings of all rows in one file of the scratch folder, and exact arithmetic on them.

Sums and comparisons that decide are made in whole numbers of a fixed unit, so that they are the same in any order, with
any cut into blocks and on any processor; multiplication in floats only says where to look (`nearest`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.ops._groups import BLOCK_ROWS

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Units = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]

BITS = 30
"""No vector is longer than 2**BITS units: of two of them the product, and twice it, fits 64 bits."""

TILE = 4096
"""Centroids that a block of rows is multiplied with at once."""

EXACT_ROWS = 256


@dataclass(frozen=True)
class Vectors:
    """`count` rows of `width` numbers in the file `path`, and which of them are vectors: not null, NaN or all zeros.

    A number is a whole multiple of 2**-`shift`.
    """

    path: Path
    count: int
    width: int
    dtype: np.dtype[Any]
    shift: int
    valid: Bools

    def floats(self, rows: Ints) -> Floats:
        """(len(rows), width) these rows as they were written."""
        if not len(rows):
            return np.zeros((0, self.width), np.float32)
        held = np.memmap(self.path, self.dtype, "r", shape=(self.count, self.width))
        return np.asarray(held[rows], np.float32)

    def units(self, values: npt.ArrayLike) -> Units:
        """Round numbers to whole multiples of the unit."""
        return np.rint(np.asarray(values, np.float64) * 2.0**self.shift).astype(np.int64)

    def reals(self, units: npt.NDArray[Any]) -> Floats:
        """Units as numbers again."""
        return (units * 2.0**-self.shift).astype(np.float32)

    def blocks(self, among: Bools | None = None) -> Iterator[Ints]:
        """The numbers of the rows that are vectors, of those `among`, a block of the file at a time."""
        chosen = self.valid if among is None else self.valid & among
        for start in range(0, self.count, BLOCK_ROWS):
            rows = np.flatnonzero(chosen[start : start + BLOCK_ROWS]) + start
            if len(rows):
                yield rows


def spool_vectors(
    inputs: Sequence[Path], knob: str, column: str, scratch: Path, others: Sequence[Floats] = ()
) -> Vectors:
    """Copy the embeddings that stand in the inputs' column `knob`, called `column` by the user, into one file.

    `others` are to be expressed in the same unit. Raises ValueError where lengths differ.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    path, largest = scratch / "vectors", 0.0
    width, dtype = _shape(inputs, knob)
    if odd := [other.shape[1] for other in others if width and other.shape[1] != width]:
        raise ValueError(f"column {column!r} holds embeddings of {width} numbers, the file's have {odd[0]}")
    valid: list[Bools] = []
    with open(path, "wb") as file:
        for batch in (batch for one in inputs for batch in _batches(one, knob)):
            table, real = dense_rows(batch, width, dtype, f"column {column!r}")
            largest = max(largest, float(np.abs(table).max(initial=0)))
            valid.append(real)
            file.write(table.tobytes())
    largest = max([largest, *(float(np.abs(other).max(initial=0)) for other in others)])
    # The root of the width bounds the length by the largest number, which is the same whatever the order of rows.
    shift = BITS - int(np.frexp(largest * np.sqrt(max(width, 1)))[1]) if largest else 0
    there = np.concatenate(valid) if valid else np.zeros(0, bool)
    return Vectors(path, len(there), width, dtype, shift, there)


def _batches(path: Path, knob: str) -> Iterator[pa.ListArray]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BLOCK_ROWS, columns=[knob], use_threads=False):
            yield batch.column(0)


def _shape(inputs: Sequence[Path], knob: str) -> tuple[int, np.dtype[Any]]:
    """The length of the first embedding, 0 where there is none, and how its numbers are kept."""
    batches = (batch.drop_null() for path in inputs for batch in _batches(path, knob))
    first = next((batch for batch in batches if len(batch)), None)
    if first is None:
        return 0, np.dtype(np.float16)
    half = pa.types.is_float16(first.type.value_type)
    return len(first[0]), np.dtype(np.float16 if half else np.float32)


def dense_rows(values: pa.ListArray, width: int, dtype: Any, where: str) -> tuple[npt.NDArray[Any], Bools]:
    """(n, width) lists as a table, and which of them are vectors; the others are zeros. Raises ValueError."""
    table = np.zeros((len(values), width), dtype)
    there = values.is_valid().to_numpy(zero_copy_only=False)
    listed = values.drop_null()
    if odd := sorted({*listed.value_lengths().to_pylist()} - {width}):
        raise ValueError(f"{where} holds embeddings of {width} and of {odd[0]} numbers; one length is needed")
    # A null number is NaN here.
    numbers = listed.flatten().to_numpy(zero_copy_only=False)
    table[there] = np.asarray(numbers, dtype).reshape(len(listed), width)
    real: Bools = np.asarray(np.isfinite(table).all(axis=1) & table.any(axis=1))
    table[~real] = 0
    return table, real


def lengths(units: Units) -> Doubles:
    """(n,) the lengths of vectors, in units."""
    found: Doubles = np.sqrt(np.einsum("nd,nd->n", units, units).astype(np.float64))
    return found


def cosines(a: Units, b: Units) -> Doubles:
    """(n,) the cosine of each pair of rows, the same on every machine; 0 where one has no length."""
    product = np.einsum("nd,nd->n", a, b).astype(np.float64)
    size = lengths(a) * lengths(b)
    found: Doubles = np.divide(product, size, out=np.zeros(len(a)), where=size > 0)
    return found


@dataclass(frozen=True)
class Centroids:
    """Points (k, width) in units, to which rows are assigned: the nearest, or, `by_product`, of the largest product."""

    units: npt.NDArray[np.int32]
    by_product: bool

    def __len__(self) -> int:
        return len(self.units)

    def nearest(self, vectors: Vectors, x: Floats, wanted: int = 1) -> Ints:
        """(n, wanted) the numbers of the best centroids of each x (n, width), best first; ties go to the smaller.

        Floats propose; where what they say is within their error, whole numbers decide. `vectors` gives the unit.
        """
        top = _Top(len(x), wanted + 1)
        for start in range(0, len(self), TILE):
            c = vectors.reals(self.units[start : start + TILE])
            bias = 0 if self.by_product else (np.square(c, dtype=np.float64).sum(1) / 2).astype(np.float32)
            top.merge(x @ c.T - bias, start)
        sure = top.gaps() > self._error(x, vectors)
        best = top.places[:, :wanted].copy()
        doubtful = np.flatnonzero(~sure)
        for start in range(0, len(doubtful), EXACT_ROWS):
            some = doubtful[start : start + EXACT_ROWS]
            best[some] = self._decide(vectors.units(x[some]), wanted)
        return best

    def _error(self, x: Floats, vectors: Vectors) -> Doubles:
        """(n,) twice what a product may be off in single precision, rounding of the factors included."""
        longest = np.sqrt(np.einsum("kd,kd->k", self.units, self.units, dtype=np.int64).max(initial=0))
        reach = float(longest) * 2.0**-vectors.shift
        size: Doubles = np.sqrt(np.square(x, dtype=np.float64).sum(axis=1))
        return 2.0**-23 * ((vectors.width + 8) * size + 4 * reach) * reach

    def _decide(self, x: Units, wanted: int) -> Ints:
        """The same of a few rows, exactly: doubles leave few candidates, whose scores are whole numbers."""
        scores = x.astype(np.float64) @ self.units.T.astype(np.float64)
        if not self.by_product:
            scores -= np.einsum("kd,kd->k", self.units, self.units, dtype=np.int64) / 2
        least = np.partition(scores, -wanted, axis=1)[:, -wanted]
        error = (x.shape[1] + 8) * 2.0 ** (2 * BITS - 50)
        row, place = np.nonzero(scores >= least[:, None] - error)
        c = self.units[place].astype(np.int64)
        exact = 2 * np.einsum("nd,nd->n", x[row], c)
        if not self.by_product:
            exact -= np.einsum("nd,nd->n", c, c)
        order = np.lexsort((place, -exact, row))
        firsts = np.searchsorted(row[order], np.arange(len(x)))
        best: Ints = place[order][firsts[:, None] + np.arange(wanted)]
        return best


class _Top:
    """The largest scores of each row so far, and whose they are, as tiles of scores come."""

    def __init__(self, rows: int, wanted: int) -> None:
        self.scores = np.full((rows, wanted), -np.inf, np.float32)
        self.places = np.zeros((rows, wanted), np.int64)

    def merge(self, scores: Floats, start: int) -> None:
        """Take in scores (rows, tile) of the places from `start` on; the scores are spent."""
        wanted, each = self.scores.shape[1], np.arange(len(scores))
        found, at = [self.scores], [self.places]
        for _ in range(min(wanted, scores.shape[1])):
            place = scores.argmax(axis=1)
            found.append(scores[each, place][:, None].copy())
            at.append(place[:, None] + start)
            scores[each, place] = -np.inf
        values, places = np.concatenate(found, axis=1), np.concatenate(at, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")[:, :wanted]
        self.scores = np.take_along_axis(values, order, axis=1)
        self.places = np.take_along_axis(places, order, axis=1)

    def gaps(self) -> Doubles:
        """(rows,) the smallest step from one of the scores to the next."""
        scores = self.scores.astype(np.float64)
        with np.errstate(invalid="ignore"):
            steps = scores[:, :-1] - scores[:, 1:]
        smallest: Doubles = np.where(np.isnan(steps), np.inf, steps).min(axis=1)
        return smallest
