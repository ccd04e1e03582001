"""Soft cap sampling: times that a training set should hold each row, drawn by any score, softly capped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from curate.ops._groups import map_zeros
from curate.ops._keys import Keys, further_keys, uid_keys, uniform
from curate.ops.spec import Amount, Count, Natural, NumberColumn, group_op

BLOCK = 1 << 16
DRAWS = 1280
"""Draws of a whole, where neither is said: 128 million in draws of 100,000."""

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@group_op(writes={"times_drawn": pa.int32()}, version=1)
def soft_cap(  # noqa: PLR0913 - a knob a choice
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    column: NumberColumn,
    total: Count | None = None,
    draw: Count | None = None,
    penalty: Amount = 0.15,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
    seed: Natural = 0,
) -> None:
    """Times that each row was drawn by its score: FLYT's soft cap sampling (Shechter and Carmon 2025, section 3.3).

    Again and again `draw` different rows are drawn with the probabilities softmax(score / `temperature`), and each
    loses `penalty` of its score, until `total` were drawn. Theirs: draws of 100,000, until 128 million, of 128 million
    rows; unsaid, `total` is the rows that have a score, and `draw` a 1,280th of it. Chance is keyed by (seed, uid,
    draw), so the same rows are drawn on any number of workers. What has no score, or none that is a finite number, is
    never drawn. Cost: rows x draws. Memory: blocks and two draws; 28 bytes a row on disk.
    """
    rows = _spool(inputs, scratch, seed)
    found = int(np.count_nonzero(~np.isnan(rows.scores)))
    total = found if total is None else total
    draw = max(1, math.ceil(total / DRAWS)) if draw is None else draw
    rows.weigh(penalty, temperature)
    able = int(np.count_nonzero(rows.weights))
    if min(draw, total) > able:
        raise ValueError(
            f"soft_cap: {min(draw, total)} different rows cannot be drawn of {able} whose {column!r} gives them a"
            " probability; lower `draw`, or raise `temperature`"
        )
    limit = math.inf
    for number, done in enumerate(range(0, total, draw)):
        wanted = min(draw, total - done)
        limit = rows.draw(number, wanted, limit)
    start = 0
    for source, target in zip(inputs, outputs, strict=True):
        uids = pq.read_table(source, columns=["uid"])["uid"]
        times = pa.array(rows.times[start : start + len(uids)], pa.int32())
        pq.write_table(pa.table({"uid": uids, "times_drawn": times}), target)
        start += len(uids)


@dataclass
class _Drawn:
    """All rows, in files of the scratch folder: key, score (NaN: none), times drawn so far, and the weight left."""

    keys: Keys
    scores: Doubles
    times: npt.NDArray[np.int32]
    weights: Doubles
    penalty: float = 0.0
    temperature: float = 1.0
    highest: float = 0.0

    def weigh(self, penalty: float, temperature: float) -> None:
        """Give every row its weight: softmax but for a factor that is the same for all."""
        self.penalty, self.temperature = penalty, temperature
        some = [float(np.nanmax(self.scores[b])) for b in self._blocks() if not np.isnan(self.scores[b]).all()]
        self.highest = max(some, default=0.0)
        for block in self._blocks():
            self._weigh(np.arange(block.start, min(block.stop, len(self.keys))))

    def _weigh(self, rows: Ints) -> None:
        score = self.scores[rows] - self.penalty * self.times[rows] - self.highest
        self.weights[rows] = np.nan_to_num(np.exp(score / self.temperature), nan=0.0)

    def _blocks(self) -> Iterator[slice]:
        return (slice(at, at + BLOCK) for at in range(0, len(self.keys), BLOCK))

    def draw(self, number: int, wanted: int, limit: float) -> float:
        """Draw so many different rows, and returns by when the last of them came.

        Each row comes after an exponential time of its weight, and the first are drawn: one after the other without
        replacement, with probabilities in the ratio of weights. Those that come after `limit` are not looked at, unless
        too few come before.
        """
        rows, times = self._first(number, wanted, limit)
        if len(rows) < wanted:
            rows, times = self._first(number, wanted, math.inf)
        self.times[rows] += 1
        self._weigh(rows)
        return 1.1 * float(times.max())

    def _first(self, number: int, wanted: int, limit: float) -> tuple[Ints, Doubles]:
        held, when = np.zeros(0, np.int64), np.zeros(0)
        for block in self._blocks():
            chance, weight = uniform(further_keys(self.keys[block], number)), self.weights[block]
            # -log(x) is at least 1 - x: most rows are passed over without a logarithm.
            near = np.flatnonzero(1 - chance < limit * weight) if limit < math.inf else np.flatnonzero(weight)
            time = -np.log(chance[near]) / weight[near]
            early = time <= limit
            held, when = np.concatenate([held, near[early] + block.start]), np.concatenate([when, time[early]])
            if len(held) >= 2 * wanted:
                held, when = _earliest(held, when, wanted)
                limit = min(limit, float(when.max()))
        return _earliest(held, when, wanted)


def _earliest(rows: Ints, times: Doubles, wanted: int) -> tuple[Ints, Doubles]:
    if len(rows) <= wanted:
        return rows, times
    chosen = np.argpartition(times, wanted - 1)[:wanted]
    return rows[chosen], times[chosen]


def _spool(inputs: Sequence[Path], scratch: Path, seed: int) -> _Drawn:
    scratch.mkdir(parents=True, exist_ok=True)
    count = sum(pq.read_metadata(path).num_rows for path in inputs)
    rows = _Drawn(
        keys=map_zeros(scratch / "keys", np.uint64, (count,)),
        scores=map_zeros(scratch / "scores", np.float64, (count,)),
        times=map_zeros(scratch / "times", np.int32, (count,)),
        weights=map_zeros(scratch / "weights", np.float64, (count,)),
    )
    start = 0
    for path in inputs:
        table = pq.read_table(path, columns=["uid", "column"])
        here = slice(start, start + len(table))
        score = np.asarray(table["column"].cast(pa.float64()).to_numpy(), np.float64)
        rows.keys[here], rows.scores[here] = uid_keys(seed, table["uid"]), np.where(np.isfinite(score), score, np.nan)
        start += len(table)
    return rows
