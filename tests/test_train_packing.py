"""Packs: nothing lost, no limit passed; documents do not see each other; ranks evenly loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.packing import Limits, Pack, PackingError, attends, balanced, laid_out, plan, spread, waste

LIMITS = Limits(tokens=64, images=3, visual_tokens=9, window=32)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 37), st.integers(0, 3)), min_size=1, max_size=80))
def test_every_position_is_in_one_pack_and_no_pack_passes_its_limits(documents: list[tuple[int, int]]) -> None:
    text, images = (np.array(column, np.int64) for column in zip(*documents, strict=True))
    tokens = text + images * LIMITS.visual_tokens
    positions = list(range(1000, 1000 + len(documents)))
    packs = plan(positions, tokens, images, LIMITS)
    assert sorted(position for pack in packs for position in pack.positions) == positions
    assert all(sum(pack.tokens) <= LIMITS.tokens and sum(pack.images) <= LIMITS.images for pack in packs)
    assert packs == plan(positions, tokens, images, LIMITS)


def test_padding_is_a_few_per_cent_where_documents_are_short() -> None:
    rng = np.random.default_rng(0)
    limits = Limits()
    text, images = rng.geometric(1 / 300, 4096), rng.integers(0, 4, 4096)
    packs = plan(range(4096), np.minimum(text + images * limits.visual_tokens, limits.tokens), images, limits)
    assert waste(packs, limits.tokens) < 0.02


def strays(packs: list[Pack], source: np.ndarray) -> float:
    """The most documents by which any source is off its share of the window, after any pack."""
    counts = np.array([np.bincount(source[list(p.positions)], minlength=source.max() + 1) for p in packs])
    share = counts.sum(0) / counts.sum()
    return float(np.abs(counts.cumsum(0) - counts.sum(1).cumsum()[:, None] * share).max())


@pytest.mark.parametrize("seed", range(3))
def test_at_every_pack_each_source_has_its_share_to_within_a_quarter_of_the_largest_pack(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.choice(3, 1024, p=[0.6, 0.3, 0.1])  # many short ones, longer ones, few that fill a pack
    tokens = np.minimum(rng.geometric(1 / np.array([30, 300, 900])[source]), 1000)
    packs = plan(range(1024), tokens, np.zeros(1024, np.int64), Limits(tokens=1024, images=4, window=1024))
    counts = np.array([np.bincount(source[list(p.positions)], minlength=3) for p in packs])
    ordered = spread(packs, counts)
    assert sorted(ordered, key=lambda p: p.positions) == packs
    assert strays(ordered, source) <= max(len(p.positions) for p in packs) / 4 < strays(packs, source)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_take_equally_many_packs_at_about_equal_cost(world: int) -> None:
    costs = np.random.default_rng(world).integers(2000, 6000, 48).astype(float).tolist()
    taken = balanced(costs, world)
    assert sorted(pack for packs in taken for pack in packs) == list(range(48))
    assert {len(packs) for packs in taken} == {48 // world}
    loads = [sum(costs[pack] for pack in packs) for packs in taken]
    assert max(loads) < 1.03 * sum(loads) / world


def test_a_batch_of_packs_that_the_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(PackingError, match="choose a multiple"):
        balanced([1.0] * 4, 3)


def test_a_token_sees_its_own_document_only() -> None:
    [pack] = plan([5, 6], np.array([3, 2]), np.array([0, 0]), LIMITS)
    laid = laid_out(pack, 7)
    assert laid["segments"].tolist() == [1, 1, 1, 2, 2, 0, 0]
    assert laid["positions"].tolist() == [0, 1, 2, 0, 1, 0, 0]
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[:3, :3], expected[3:5, 3:5] = torch.ones(3, 3).tril().bool(), torch.ones(2, 2).tril().bool()
    expected[5, 5] = expected[6, 6] = True
    assert torch.equal(attends(laid["segments"][None])[0], expected)
