"""Packs: nothing lost, no limit passed; documents do not see each other; ranks evenly loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stream.packing import (
    Pack,
    PackingError,
    PackLimits,
    balance,
    lay_out,
    max_stray,
    padding_share,
    plan_packs,
    spread_packs,
)
from curate.tokens.segments import attention_mask

LIMITS = PackLimits(tokens=64, images=3, visual_tokens=9, window=32)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 37), st.integers(0, 3)), min_size=1, max_size=80))
def test_every_position_is_in_one_pack_and_no_pack_passes_its_limits(documents: list[tuple[int, int]]) -> None:
    text, images = (np.array(column, np.int64) for column in zip(*documents, strict=True))
    tokens = text + images * LIMITS.visual_tokens
    positions = list(range(1000, 1000 + len(documents)))
    packs = plan_packs(positions, tokens, images, LIMITS)
    assert sorted(position for pack in packs for position in pack.positions) == positions
    assert all(sum(pack.tokens) <= LIMITS.tokens and sum(pack.images) <= LIMITS.images for pack in packs)
    assert packs == plan_packs(positions, tokens, images, LIMITS)


def test_padding_is_a_few_per_cent_where_documents_are_short() -> None:
    rng = np.random.default_rng(0)
    limits = PackLimits()
    text, images = rng.geometric(1 / 300, 4096), rng.integers(0, 4, 4096)
    packs = plan_packs(range(4096), np.minimum(text + images * limits.visual_tokens, limits.tokens), images, limits)
    assert padding_share(packs, limits.tokens) < 0.02


def documents_of(packs: list[Pack], source: np.ndarray) -> np.ndarray:
    """How many documents of each source each pack holds."""
    return np.array([np.bincount(source[list(p.positions)], minlength=source.max() + 1) for p in packs])


@pytest.mark.parametrize("seed", range(3))
def test_shares_hold_at_every_pack_to_a_quarter_of_the_largest(seed: int) -> None:
    """At every pack each source has its share to within a quarter of the largest pack."""
    rng = np.random.default_rng(seed)
    source = rng.choice(3, 1024, p=[0.6, 0.3, 0.1])  # many short ones, longer ones, few that fill a pack
    tokens = np.minimum(rng.geometric(1 / np.array([30, 300, 900])[source]), 1000)
    packs = plan_packs(range(1024), tokens, np.zeros(1024, np.int64), PackLimits(tokens=1024, images=4, window=1024))
    ordered = spread_packs(packs, documents_of(packs, source))
    assert sorted(ordered, key=lambda p: p.positions) == packs
    fullest = max(len(p.positions) for p in packs)
    assert max_stray(documents_of(ordered, source)) <= fullest / 4 < max_stray(documents_of(packs, source))


@pytest.mark.parametrize(("seed", "sources"), [(0, 2), (1, 5), (2, 8), (3, 40)])
def test_token_shares_hold_at_every_pack_to_within_a_pack(seed: int, sources: int) -> None:
    """Where shares are of tokens each source has its share at every pack to within a pack."""
    rng = np.random.default_rng(seed)
    source = rng.choice(sources, 2048, p=rng.dirichlet(np.ones(sources)))
    tokens = np.clip(rng.lognormal(rng.uniform(1, 7, sources)[source], 1), 3, 512).astype(np.int64)
    packs = plan_packs(range(2048), tokens, np.zeros(2048, np.int64), PackLimits(tokens=512, images=4, window=2048))
    rows = [list(pack.positions) for pack in packs]
    held = np.array([np.bincount(source[mine], tokens[mine], minlength=sources) for mine in rows]).astype(np.int64)
    ordered = spread_packs(packs, held)
    assert sorted(ordered, key=lambda p: p.positions) == packs
    place = {pack.positions: number for number, pack in enumerate(packs)}
    assert max_stray(held[[place[pack.positions] for pack in ordered]]) < 512 < max_stray(held)


def test_large_lengths_do_not_overflow_where_packs_are_put_in_order() -> None:
    """Lengths that are large do not overflow where packs are put in order."""
    rng = np.random.default_rng(5)
    held = rng.integers(0, 1 << 22, (600, 4))
    packs = [Pack((n,), (1,), (0,)) for n in range(600)]
    ordered = held[[pack.positions[0] for pack in spread_packs(packs, held)]]
    assert np.array_equal(np.sort(ordered, axis=0), np.sort(held, axis=0))
    assert max_stray(ordered) < 1 << 22
    assert max_stray(np.zeros((3, 2), np.int64)) == 0


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_take_equally_many_packs_at_about_equal_cost(world: int) -> None:
    costs = np.random.default_rng(world).integers(2000, 6000, 48).astype(float).tolist()
    taken = balance(costs, world)
    assert sorted(pack for packs in taken for pack in packs) == list(range(48))
    assert {len(packs) for packs in taken} == {48 // world}
    loads = [sum(costs[pack] for pack in packs) for packs in taken]
    assert max(loads) < 1.03 * sum(loads) / world


def test_batch_of_packs_that_the_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(PackingError, match="choose a multiple"):
        balance([1.0] * 4, 3)


def test_token_sees_its_own_document_only() -> None:
    [pack] = plan_packs([5, 6], np.array([3, 2]), np.array([0, 0]), LIMITS)
    laid = lay_out(pack, 7)
    assert laid["segments"].tolist() == [1, 1, 1, 2, 2, 0, 0]
    assert laid["positions"].tolist() == [0, 1, 2, 0, 1, 0, 0]
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[:3, :3], expected[3:5, 3:5] = torch.ones(3, 3).tril().bool(), torch.ones(2, 2).tril().bool()
    expected[5, 5] = expected[6, 6] = True
    assert torch.equal(attention_mask(laid["segments"][None])[0], expected)
