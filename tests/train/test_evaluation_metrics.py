"""Metrics of evaluation: golden values of the published rules, and laws that hold of any figure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluation.answers import (
    answer_words,
    chosen_option,
    fuzzy_match,
    right_choice,
    right_option,
    shown_options,
    vqa_accuracy,
)
from train.evaluation.cider import caption_tokens, cider_d
from train.evaluation.cv_bench import cv_bench
from train.evaluation.intervals import Estimate, Resampled

# Of pycocoevalcap 1.2's CiderScorer on the same tokens; `bench/cider.py` compares thousands.
CANDIDATES = ["a red square on blue", "a dog sleeps in the park", "one dog", "a cat cat cat on the mat"]
REFERENCES = [
    ["a red square on blue", "the square is red"],
    ["a dog runs in the park", "dog in a park"],
    ["two cats", "two cats asleep on a sofa"],
    ["a cat on a mat"],
]
GOLDEN_CIDER = [5.783990707297835, 3.011838506397069, 0.0, 1.981202741888938]

words = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), min_size=1, max_size=8)


def test_cider_d_equals_the_reference_implementation() -> None:
    found = cider_d([c.split() for c in CANDIDATES], [[r.split() for r in listed] for listed in REFERENCES])
    assert found == pytest.approx(GOLDEN_CIDER, abs=1e-9)


@settings(max_examples=30)
@given(st.lists(words, min_size=2, max_size=5))
def test_caption_that_is_its_only_reference_scores_as_high_as_any_caption_can(captions: list[list[str]]) -> None:
    own = cider_d(captions, [[caption] for caption in captions])
    swapped = cider_d(captions[1:] + captions[:1], [[caption] for caption in captions])
    assert all(0 <= other <= 10 + 1e-9 for other in [*own, *swapped])
    assert all(other <= mine + 1e-9 for mine, other in zip(own, swapped, strict=True))


def test_words_repeated_to_win_points_are_not_counted_beyond_the_reference() -> None:
    references = [[["a", "cat", "on", "a", "mat"]], [["two", "dogs", "run"]]]
    honest, padded = ["a", "cat", "on", "a", "mat"], ["a", "cat", "on", "a", "mat", "cat", "cat", "cat", "cat"]
    assert cider_d([honest, []], references)[0] > cider_d([padded, []], references)[0] + 1


def test_caption_is_cut_into_words_as_ptb_cuts_it() -> None:
    said = "A man's black-and-white dog doesn\N{RIGHT SINGLE QUOTATION MARK}t run, at 3.5 km/h!"
    assert caption_tokens(said) == [
        "a",
        "man",
        "'s",
        "black-and-white",
        "dog",
        "does",
        "n't",
        "run",
        "at",
        "3.5",
        "km",
        "h",
    ]


@pytest.mark.parametrize(("agree", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_accuracy_leaves_one_of_ten_people_out(agree: int, accuracy: float) -> None:
    people = ["red"] * agree + [f"colour {n}" for n in range(10 - agree)]
    assert vqa_accuracy("Red.", people) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("(a) Apple", "Apple"),
        ("Apple.", "apple"),
        ("The answer is: an apple", "Apple"),
        ("b. two dogs", "2 dogs"),
        ("It's a cat", "its cat"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("none", "0"),
        ("A", "a"),
    ],
)
def test_answer_is_right_whatever_its_dress(answer: str, reference: str) -> None:
    assert fuzzy_match(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference"), [("pineapple", "apple"), ("3.5", "35"), ("", "apple"), ("apple pie", "apple"), ("x", "")]
)
def test_answer_that_says_something_else_is_wrong(answer: str, reference: str) -> None:
    assert not fuzzy_match(answer, reference)


OPTIONS = ("left", "right, of the tree", "right behind it")


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("A", 0),
        ("(b) right, of the tree", 1),
        ("The answer is C.", 2),
        ("left", 0),
        ("right behind", 2),
        ("right", None),  # two options begin so
        ("D", None),
        ("", None),
        ("a tree", None),
    ],
)
def test_option_is_named_by_its_letter_or_its_text(answer: str, number: int | None) -> None:
    assert chosen_option(answer, OPTIONS) == number
    assert right_choice(answer, OPTIONS, 0) == (number == 0)


def test_options_are_read_off_the_question_that_shows_them() -> None:
    asked = "Where is the cat? Choose from: (A) left (B) right Answer with the option's letter."
    assert shown_options(asked)[0] == "left" and chosen_option("right", shown_options(asked)) == 1
    assert shown_options("What?\nA. one\nB. two") == ("one", "two")
    assert shown_options("Is it (A) or not?") == () and shown_options("no letters at all") == ()
    assert [right_option(said, ("x", "y")) for said in ("B", "(b)", "y", "C", "z")] == [1, 1, 1, None, None]


def test_words_of_an_answer_never_become_none() -> None:
    assert answer_words("the") == ("the",) and answer_words("The a an cat") == ("cat",)


def test_cv_bench_weighs_sources_as_published() -> None:
    right = [1, 1, 0, 1, 1, 0, 0, 0]
    kinds = ["count", "relation", "count", "relation", "depth", "distance", "depth", "distance"]
    sources = ["ade20k", "ade20k", "coco", "coco", "omni3d", "omni3d", "omni3d", "omni3d"]
    found = {n: d[0] for n, d in cv_bench(Resampled(list("abcdefgh"), 0, 5), right, kinds, sources).items()}
    assert (found["ade20k"], found["coco"], found["omni3d"]) == (1, 0.5, 0.25)
    assert (found["2D"], found["3D"], found["CV-Bench"]) == (0.75, 0.25, 0.5)
    assert (found["count"], found["relation"], found["depth"], found["distance"]) == (0.5, 1, 0.5, 0)


def test_cv_bench_of_other_pictures_weighs_its_four_kinds_alike() -> None:
    kinds = ["count"] * 6 + ["relation", "depth", "distance", "distance"]
    right = [1] * 6 + [0, 1, 0, 0]
    found = {n: d[0] for n, d in cv_bench(Resampled(list("abcdefghij"), 0, 5), right, kinds, [""] * 10).items()}
    assert (found["2D"], found["3D"], found["CV-Bench"]) == (0.5, 0.5, 0.5)
    assert "CV-Bench" not in cv_bench(Resampled(["a", "b"], 0, 5), [1, 0], ["count", "depth"], ["", ""])


def test_interval_of_a_share_is_as_wide_as_theory_says() -> None:
    scores = np.random.default_rng(0).random(400) < 0.3
    figure = Estimate.of(Resampled([str(n) for n in range(400)], 1).mean(scores.tolist()))
    expected = 1.96 * (figure.value * (1 - figure.value) / 400) ** 0.5
    assert figure.value == scores.mean()
    assert (figure.high - figure.low) / 2 == pytest.approx(expected, rel=0.12)


def test_ten_questions_about_a_picture_make_nobody_ten_times_as_sure() -> None:
    scores = (np.random.default_rng(0).random(100) < 0.5).tolist()
    once = Estimate.of(Resampled([str(n) for n in range(100)], 1).mean(scores))
    ten = Estimate.of(
        Resampled([str(n) for n in range(100) for _ in range(10)], 1).mean(np.repeat(scores, 10).tolist())
    )
    assert (ten.value, ten.low, ten.high) == (once.value, once.low, once.high)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 5))
def test_interval_holds_what_scores_can_be_and_is_the_same_for_a_seed(scores: list[float], seed: int) -> None:
    names = [str(n) for n in range(len(scores))]
    figure = Estimate.of(Resampled(names, seed, 50).mean(scores))
    assert min(scores) - 1e-9 <= figure.low <= figure.high <= max(scores) + 1e-9
    assert figure == Estimate.of(Resampled(names, seed, 50).mean(scores))
