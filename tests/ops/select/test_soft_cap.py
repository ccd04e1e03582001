"""What soft cap sampling promises: the published draws in distribution, to a row, on any cut of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from grouping import cuts, grouped, uid

from curate.ops.select import soft_cap as module
from curate.ops.select.soft_cap import soft_cap

Array = npt.NDArray[Any]


def published(scores: Array, total: int, draw: int, penalty: float, chance: np.random.Generator) -> Array:
    """The rule as published (formll/FLYT, examples.ipynb), in a few lines of our own: how often each row is drawn."""
    left, times = scores.astype(np.float64), np.zeros(len(scores), int)
    while times.sum() < total:
        weights = np.exp(left - left.max())
        size = min(draw, total - times.sum())
        rows = chance.choice(len(scores), size, replace=False, p=weights / weights.sum())
        times[rows] += 1
        left[rows] -= penalty
    return times


def drawn(scores: Any, folder: Path, cut: Any = None, **knobs: Any) -> list[int]:
    return grouped(soft_cap, {"column": pa.array(scores, pa.float32())}, folder, cut, column="score", **knobs)[
        "times_drawn"
    ]


def test_same_rows_are_drawn_however_they_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 300)  # so that there are several
    scores = np.random.default_rng(0).normal(scale=2, size=1000)
    ways = [drawn(scores, tmp_path / str(n), cut, total=3000, draw=70) for n, cut in enumerate(cuts(1000))]
    assert ways[0] == ways[1] == ways[2] and sum(ways[0]) == 3000
    assert drawn(scores, tmp_path / "other", total=3000, draw=70, seed=1) != ways[0]


def test_rows_are_drawn_as_often_as_by_the_published_rule(tmp_path: Path) -> None:
    """On average over seeds, within what chance allows: five standard errors of the difference."""
    scores = np.linspace(-3, 3, 40)
    knobs = {"total": 120, "draw": 12, "penalty": 0.15}
    chance = np.random.default_rng(7)
    theirs = np.array([published(scores, **knobs, chance=chance) for _ in range(300)])  # type: ignore[arg-type]
    ours = np.array([drawn(scores, tmp_path / str(seed), seed=seed, **knobs) for seed in range(100)])
    assert (ours.sum(1) == 120).all() and ours.max() <= 10
    error = np.sqrt(theirs.var(0) / len(theirs) + theirs.var(0) / len(ours) + 1e-4)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * error).all()
    assert ours.std() == pytest.approx(theirs.std(), rel=0.05)


def test_penalty_spreads_the_draws_and_temperature_sharpens_them(tmp_path: Path) -> None:
    scores = np.random.default_rng(1).normal(scale=3, size=400)
    knobs = {"total": 4000, "draw": 40}
    most = [
        max(drawn(scores, tmp_path / f"{penalty}-{temperature}", penalty=penalty, temperature=temperature, **knobs))
        for penalty, temperature in ((0.0, 1.0), (0.15, 1.0), (0.5, 1.0), (0.15, 100.0))
    ]
    assert most[0] == 100 > most[1] > most[2] > 10 and most[3] < 35


def test_unsaid_as_many_are_drawn_as_have_a_score(tmp_path: Path) -> None:
    scores = [None, float("nan"), float("inf"), *np.zeros(500).tolist()]
    found = drawn(scores, tmp_path)
    assert found[:3] == [0, 0, 0] and sum(found) == 500
    assert drawn([], tmp_path / "empty") == []


def test_more_rows_than_there_are_cannot_be_drawn_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="10 different rows cannot be drawn of 3 whose 'score'"):
        drawn([1.0, 2.0, 3.0, None], tmp_path, total=20, draw=10)


def test_chance_is_the_rows_own(tmp_path: Path) -> None:
    """Where a draw takes one of two equal rows, which it is says their uids, not their places."""
    one, two = uid("a"), uid("b")
    both = [
        grouped(
            soft_cap, {"uid": pair, "column": pa.array([0.0, 0.0])}, tmp_path / pair[0], column="s", total=1, draw=1
        )
        for pair in ([one, two], [two, one])
    ]
    assert both[0]["times_drawn"] == both[1]["times_drawn"][::-1]
