"""From weights to sources: every share kept at every position, and no position needs its history."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixtures import FAR, SHAPES

from bench import peers
from curate.mix import MixtureError, order, quantisation_error, shares
from curate.mix.schedule import MAX_SLOTS, counts, schedule

WEIGHTS = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("weights", "slots"),
    [
        ([0.45 * 0.93, 0.45 * 0.07, 0.45, 0.10], (837, 63, 900, 200)),
        ([1 / 3, 1 / 3, 1 / 3], (1, 1, 1)),
        ([0.1] * 10, (1,) * 10),
        ([5, 1], (5, 1)),
        ([0.30, 0.70], (3, 7)),
        ([3e9, 1e9], (3, 1)),
        ([0.0, 2.0], (0, 1)),
        ([7.5], (1,)),
    ],
)
def test_weights_with_a_short_ratio_are_kept_exactly(weights: list[float], slots: tuple[int, ...]) -> None:
    assert shares(weights) == slots
    assert quantisation_error(weights, slots) < 1e-16


@pytest.mark.parametrize("shape", list(SHAPES))
def test_other_weights_are_rounded_and_the_difference_is_reported(shape: str) -> None:
    slots = shares(SHAPES[shape])
    assert min(slots) >= 1
    assert sum(slots) <= MAX_SLOTS
    assert quantisation_error(SHAPES[shape], slots) <= 1 / MAX_SLOTS


def test_tiny_weight_still_gets_a_slot_and_the_large_ones_give_it() -> None:
    slots = shares([1e-9] * 3000 + [0.3, math.pi])
    assert slots[:3000] == (1,) * 3000
    assert sum(slots) == MAX_SLOTS
    assert slots[-1] / slots[-2] == pytest.approx(math.pi / 0.3, rel=1e-3)


@settings(deadline=None)
@given(WEIGHTS)
def test_every_positive_weight_has_a_slot_and_a_period_is_bounded(weights: list[float]) -> None:
    slots = shares(weights)
    assert min(slots) >= 1
    assert sum(slots) <= MAX_SLOTS
    assert math.gcd(*slots) == 1
    assert quantisation_error(weights, slots) <= len(weights) / MAX_SLOTS


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, -0.1], "weight 1 is -0.1"),
        ([math.nan], "weight 0 is nan"),
        ([1, math.inf], "weight 1 is inf"),
        ([0, 0], "every weight is 0"),
        ([], "every weight is 0"),
        ([1] * 20_000, "at most"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(MixtureError, match=message):
        shares(weights)


@pytest.mark.parametrize("shape", list(SHAPES))
def test_source_is_never_more_than_a_sample_and_a_bit_off(shape: str) -> None:
    """No source is ever more than a sample and a bit off what was wanted."""
    weights = SHAPES[shape]
    source, _ = schedule(shares(weights), np.arange(200_000))
    assert peers.worst_error(weights, source) < 1.15


@pytest.mark.slow
@pytest.mark.parametrize("shape", list(SHAPES))
def test_million_draws_keep_shares_to_less_than_one_and_a_half_samples(shape: str) -> None:
    """A million draws keep every share to less than one and a half samples."""
    source, _ = schedule(shares(SHAPES[shape]), np.arange(1_000_000))
    assert peers.worst_error(SHAPES[shape], source) < 1.5


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=40).filter(any))
def test_source_is_never_two_samples_off_for_any_slots(slots: list[int]) -> None:
    """No source is ever two samples off for any slots."""
    source, draw = schedule(slots, np.arange(2 * sum(slots)))
    assert peers.worst_error(slots, source) < 2
    for index, slot in enumerate(slots):
        assert draw[source == index].tolist() == list(range(2 * slot))


@settings(deadline=None, max_examples=60)
@given(WEIGHTS, st.integers(0, 3000))
def test_draws_before_a_position_are_known_without_drawing_them(weights: list[float], position: int) -> None:
    """What was drawn before a position is known without drawing it."""
    slots = shares(weights)
    source, _ = schedule(slots, np.arange(position))
    assert counts(slots, position).tolist() == np.bincount(source, minlength=len(slots)).tolist()
    far = counts(slots, FAR + position) - counts(slots, FAR)
    assert far.sum() == position
    assert (
        far.tolist() == np.bincount(schedule(slots, np.arange(FAR, FAR + position))[0], minlength=len(slots)).tolist()
    )


@settings(deadline=None, max_examples=60)
@given(WEIGHTS, st.integers(0, FAR), st.integers(1, 300))
def test_seek_gives_what_a_replay_gives(weights: list[float], start: int, count: int) -> None:
    slots = shares(weights)
    together = schedule(slots, np.arange(start, start + count))
    for offset in {0, count // 2, count - 1}:
        alone = schedule(slots, [start + offset])
        assert (alone[0][0], alone[1][0]) == (together[0][offset], together[1][offset])


def test_draws_far_out_go_on_counting_without_a_gap() -> None:
    slots = shares(SHAPES["a hundred uneven"])
    source, draw = schedule(slots, np.arange(FAR, FAR + 200_000))
    for index, slot in enumerate(slots):
        mine = draw[source == index]
        assert (np.diff(mine) == 1).all()
        assert not mine.size or abs(mine[0] - FAR * slot / sum(slots)) < 1.5 + slot / sum(slots) * np.argmax(
            source == index
        )


def test_positions_keep_their_shape_and_order() -> None:
    at = np.array([[9, 3], [FAR, 0]])
    source, draw = schedule((2, 1), at)
    flat = schedule((2, 1), at.ravel())
    assert source.shape == draw.shape == (2, 2)
    assert (source.itemsize, draw.itemsize) == (4, 8)
    assert np.array_equal(source.ravel(), flat[0])
    assert [x.size for x in schedule((2, 1), [])] == [0, 0]


def test_positions_and_draws_before_the_start_are_refused() -> None:
    with pytest.raises(MixtureError, match="positions are counted from 0"):
        schedule((1, 1), [-1])
    with pytest.raises(MixtureError, match="draws are counted from 0"):
        order([-1], 5, 0, "x")
    with pytest.raises(MixtureError, match="slots"):
        schedule((0, 0), [1])


def test_position_among_a_hundred_sources_is_found_directly() -> None:
    """A position among a hundred sources is found without laying out what is before it."""
    slots = shares(list(np.random.default_rng(7).dirichlet([0.3] * 100)))
    start = time.process_time()
    schedule(slots, [10**12])
    assert time.process_time() - start < 10  # laid out, it would be days
