"""The demo judges its rules by labels: what it calls precision, recall and AUC is what those words mean."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.demo.truth import caption_auc, score_rules
from pipelines.materials.drawings import roc_auc

STEPS = ("ingest", "image_size", "language", "duplicate_images", "clip_score")


def row(plant: str, step: str | None = None, rule: str | None = None, picture: str = "", **more: Any) -> dict[str, Any]:
    label = {"plant": plant, "picture": picture, "known": True} | more
    return {"step": step, "rule": rule, "meta": json.dumps({"label": json.dumps(label)})}


def test_precision_and_recall_are_counted_from_labels() -> None:
    rows = [row("clean", picture=f"c{n}") for n in range(6)]
    rows += [row("clean", "clip_score", "clip_score.top", picture="x")]
    rows += [row("swapped", "clip_score", "clip_score.top", picture=f"s{n}") for n in range(3)]
    rows += [row("swapped", picture="s3")]
    score = next(s for s in score_rules(pa.Table.from_pylist(rows), STEPS) if s.plant == "swapped")
    assert (score.planted, score.reached, score.ended, score.right) == (4, 4, 4, 3)
    assert (score.precision, score.recall) == (0.75, 0.75)


def test_row_that_an_earlier_step_ended_is_not_held_against_a_later_rule() -> None:
    rows = [
        row("swapped", "image_size", "min_side.min", picture="a"),
        row("swapped", "clip_score", "clip_score.min", picture="b"),
        row("other_language", "clip_score", "clip_score.min", picture="c"),
        row("other_language", "language", "language.in", picture="d"),
    ]
    scores = {s.plant: s for s in score_rules(pa.Table.from_pylist(rows), STEPS)}
    assert (scores["swapped"].planted, scores["swapped"].reached, scores["swapped"].recall) == (2, 1, 1.0)
    # Ended later than the rule that should have: the language rule saw it and missed it.
    assert (scores["other_language"].reached, scores["other_language"].recall) == (2, 0.5)


def test_pictures_that_are_the_same_under_several_names_count_as_copies() -> None:
    dropped = ("duplicate_images", "duplicate_of.is")
    rows = [
        row("clean", picture="family"),
        row("clean", *dropped, picture="family"),
        row("copy", *dropped, picture="family"),
        row("clean", picture="apple"),
        row("copy", picture="apple"),
        row("clean", *dropped, picture="lonely"),
        row("dead", "ingest", "http_404", picture="apple"),
    ]
    score = next(s for s in score_rules(pa.Table.from_pylist(rows), STEPS) if s.plant == "copy")
    assert (score.planted, score.ended, score.right) == (3, 3, 2)
    assert score.precision == pytest.approx(2 / 3)
    assert score.recall == pytest.approx(2 / 3)


def test_auc_is_the_chance_that_a_match_scores_higher_with_ties_as_half() -> None:
    assert roc_auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert roc_auc(np.array([1.0]), np.array([1.0])) == 0.5
    rng = np.random.default_rng(0)
    matched, swapped = rng.normal(1, 1, 200), rng.normal(0, 1, 300)
    pairs = (matched[:, None] > swapped[None, :]).mean()
    assert roc_auc(matched, swapped) == pytest.approx(pairs)


def test_auc_is_told_apart_for_things_the_model_knew_and_did_not_know() -> None:
    rows = [
        row("clean", clip_score=1) | {"clip_score": 0.9},
        row("swapped", caption_known=True) | {"clip_score": 0.1},
        row("swapped", caption_known=False) | {"clip_score": 0.99},
        row("other_language") | {"clip_score": 0.0},
        row("clean", known=False) | {"clip_score": 0.2},
        row("swapped", known=False, caption_known=True) | {"clip_score": 0.5},
        row("clean") | {"clip_score": None},
    ]
    assert caption_auc(pa.Table.from_pylist(rows)) == {"known": 1.0, "unknown": 0.0}
