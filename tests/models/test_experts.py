"""Mixtures of experts: the two losses by hand, what a dense model becomes, tokens that are never dropped."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from curate.models.experts import Experts, ExpertsConfig, swiglu, upcycled
from curate.models.language import LanguageModel
from curate.models.languages.decoder import DecoderConfig

CONFIG = ExpertsConfig(count=4, every=2)


def mixture(config: ExpertsConfig = CONFIG) -> Experts:
    torch.manual_seed(0)
    return Experts(16, 2, config)


def test_token_is_the_sum_of_its_two_best_experts_by_gates_that_sum_to_one() -> None:
    experts, x = mixture(), torch.randn(2, 9, 16)
    found = experts(x)
    for token, out in zip(x.flatten(0, 1), found.flatten(0, 1), strict=True):
        shares = F.softmax(experts.router.weight @ token, 0)
        best = sorted(range(4), key=lambda n: -shares[n])[:2]
        whole = sum(shares[n] for n in best)
        wanted = sum(shares[n] / whole * swiglu(token, experts.gate_up[n], experts.down[n]) for n in best)
        torch.testing.assert_close(out, wanted)


def test_no_token_is_dropped_where_all_want_the_same_expert() -> None:
    experts = mixture()
    token = torch.randn(16)
    many = experts(token.expand(1, 500, 16))[0]
    torch.testing.assert_close(many, experts(token[None, None])[0].expand(500, 16))


def test_even_use_costs_the_balance_weight_and_one_expert_alone_as_many_times_that_as_there_are_experts() -> None:
    experts = mixture(ExpertsConfig(count=4, balance=0.01, z=0.0))
    experts.scores_BTE = 50.0 * torch.eye(4)[None]
    assert experts.losses(None).item() == pytest.approx(0.01)
    experts.scores_BTE = 50.0 * torch.eye(4)[:1].expand(1, 8, 4)
    assert experts.losses(None).item() == pytest.approx(0.04)


def test_z_loss_is_the_squared_logarithm_of_the_sum_of_exponentials() -> None:
    experts = mixture(ExpertsConfig(count=4, balance=0.0, z=0.001))
    experts.scores_BTE = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]])
    by_hand = (math.log(sum(math.exp(n) for n in (1, 2, 3, 4))) ** 2 + math.log(4) ** 2) / 2
    assert experts.losses(None).item() == pytest.approx(0.001 * by_hand)


def test_padding_has_no_part_in_the_routers_losses() -> None:
    torch.manual_seed(0)
    language = LanguageModel(20, 16, 2, 2, CONFIG)
    x, segments = torch.randn(1, 6, 16), torch.tensor([[1, 1, 2, 2, 0, 0]])
    positions = torch.tensor([[0, 1, 0, 1, 0, 0]])
    language(x, positions, segments)
    before = language.extra_losses()
    other = torch.cat((x[:, :4], 9 * torch.randn(1, 2, 16)), 1)
    language(other, positions, segments)
    torch.testing.assert_close(language.extra_losses(), before)
    language(other)
    after = language.extra_losses()
    assert before is not None and after is not None and not torch.allclose(after, before)


def test_losses_move_the_router_and_a_dense_model_has_none() -> None:
    torch.manual_seed(0)
    language = LanguageModel(20, 16, 4, 2, CONFIG)
    language(torch.randn(1, 6, 16))
    loss = language.extra_losses()
    assert loss is not None
    loss.backward()
    moved = {name for name, p in language.named_parameters() if p.grad is not None and "router" in name}
    assert moved == {f"blocks.{layer}.mlp.router.weight" for layer in (1, 3)}
    dense = LanguageModel(20, 16, 2, 2)
    dense(torch.randn(1, 6, 16))
    assert dense.extra_losses() is None


def test_dense_model_becomes_one_with_experts_that_says_the_same_at_first() -> None:
    torch.manual_seed(0)
    dense, sparse = LanguageModel(20, 16, 4, 2), LanguageModel(20, 16, 4, 2, CONFIG)
    x = torch.randn(2, 7, 16)
    assert not torch.allclose(sparse(x), dense(x))
    unsaid = sparse.load_state_dict(upcycled(dense.state_dict(), sparse), strict=False)
    assert unsaid == ([f"blocks.{layer}.mlp.router.weight" for layer in (1, 3)], [])
    torch.testing.assert_close(sparse.logits(sparse(x)), dense.logits(dense(x)), rtol=1e-5, atol=1e-5)
    assert sparse.size() == dense.size()


def test_settings_that_give_no_mixture_are_refused() -> None:
    with pytest.raises(ValueError, match="is none; make it smaller"):
        DecoderConfig(layers=2, experts=ExpertsConfig(count=4, every=3))
    with pytest.raises(ValueError, match="there are not so many"):
        ExpertsConfig(count=2, top=3)
