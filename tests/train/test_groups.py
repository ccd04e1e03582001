"""Parameter groups: what trains, at which rate, with which decay, in which rows, in which stage."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from train import groups, optim
from train.groups import GroupError, Treatment
from train.optim import Optim


class Captioner(nn.Module):
    """An image tower, learnt queries, a gated block and embeddings, as parts of an objective."""

    trained = frozenset({"resampler", "gated", "language"})

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Linear(4, 4)
        self.resampler = nn.ParameterDict({"queries": torch.ones(2, 4), "norm": torch.ones(4)})
        self.gated = nn.ParameterDict({"gate": torch.ones(1), "weight": torch.ones(4, 4)})
        self.language = nn.Embedding(5, 4)
        self.temperature = nn.Parameter(torch.ones(()))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {name: list(getattr(self, name).parameters()) for name in ("tower", "resampler", "gated", "language")}

    def forward(self) -> torch.Tensor:
        return sum((p.sum() for p in self.parameters() if p.requires_grad), torch.zeros(()))


def planned(*during: tuple[str, set[str]], **said: Any) -> groups.Plan:
    settings = Optim.model_validate({"lr": 0.5, "weight_decay": 0.2, **said})
    stages = [(name, frozenset(parts)) for name, parts in during] or [("all", Captioner.trained)]
    return groups.plan(Captioner(), settings, stages)  # type: ignore[arg-type]


def stepped(plan: groups.Plan, stage: int = 0, height: float = 1.0, **said: Any) -> dict[str, torch.Tensor]:
    """How far a step moves each parameter."""
    net = Captioner()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = groups.adamw(net, plan, Optim.model_validate({"lr": 0.5, **said}))
    groups.train_stage(net, plan, [stage])
    groups.set_rates(optimizer, stage, height)
    net().backward()  # type: ignore[no-untyped-call]
    groups.clear_other_rows(optimizer, stage)
    optimizer.step()
    return {name: value - before[name] for name, value in net.state_dict().items()}


def test_by_default_lavis_rule_holds_and_queries_decay_but_no_norm_gate_or_scalar() -> None:
    decays = {name: treatments[0].decay for name, treatments in planned().items() if treatments[0].rate}
    assert decays == {
        "resampler.queries": 0.2,
        "resampler.norm": 0.0,
        "gated.gate": 0.0,
        "gated.weight": 0.2,
        "language.weight": 0.2,
        "temperature": 0.0,
    }
    assert {name for name, treatments in planned().items() if not treatments[0].rate} == {"tower.weight", "tower.bias"}


def test_flamingos_rule_decays_gated_blocks_whole_and_neither_resampler_nor_embeddings() -> None:
    said = [
        {"match": ["gated"], "decay": 0.1, "decay_axes": "all"},
        {"match": ["resampler"], "decay": 0.0},
        {"match": ["language"], "rows": [-2, 4]},
    ]
    found = planned(groups=said)
    assert found["gated.gate"] == found["gated.weight"] == (Treatment(0.5, 0.1),)
    assert found["resampler.queries"] == found["resampler.norm"] == (Treatment(0.5, 0.0),)
    moved = stepped(found)
    assert (moved["language.weight"] != 0).all(1).tolist() == [False, False, False, True, True]
    assert not moved["language.weight"][:3].any()


def test_first_group_that_matches_has_the_parameter_and_patterns_go_before_parts() -> None:
    found = planned(groups=[{"match": ["*.queries"], "lr": 0.125}, {"match": ["resampler"], "lr": 0.25}])
    assert found["resampler.queries"][0].rate == 0.125
    assert found["resampler.norm"][0].rate == 0.25
    assert found["gated.gate"][0].rate == 0.5
    with pytest.raises(GroupError, match=r"groups\[1\].match: groups before it have all that \*.queries names"):
        planned(groups=[{"match": ["resampler"]}, {"match": ["*.queries"]}])


def test_group_of_rate_zero_is_frozen_and_two_rates_follow_one_schedule() -> None:
    found = planned(groups=[{"match": ["gated.gate"], "lr": 0}, {"match": ["language"], "lr": 0.25, "decay": 0}])
    moved = stepped(found, height=0.5, betas=(0.9, 0.999), eps=1e-12)
    assert not moved["gated.gate"].any() and not moved["tower.weight"].any()
    torch.testing.assert_close(moved["language.weight"], torch.full((5, 4), -0.125) + 0 * moved["language.weight"])
    torch.testing.assert_close(moved["temperature"], torch.tensor(-0.25))


@pytest.mark.parametrize(("convention", "left"), [("coupled", 1 - 0.01 * 0.25), ("independent", 1 - 0.01 * 0.5)])
def test_weight_without_gradient_decays_by_rate_or_by_schedule(convention: str, left: float) -> None:
    net = Captioner()
    said = {"weight_decay": 0.01, "decay_convention": convention}
    found = planned(**said)
    optimizer = groups.adamw(net, found, Optim.model_validate({"lr": 0.5, **said}))
    groups.set_rates(optimizer, 0, 0.5)
    (net.gated["weight"] * 0).sum().backward()
    optimizer.step()
    torch.testing.assert_close(net.gated["weight"].detach(), torch.full((4, 4), left))


def test_stage_trains_its_parts_at_its_own_rates_and_in_its_own_groups() -> None:
    stages = [("connect", {"resampler"}), ("speak", {"resampler", "language", "tower"})]
    said = {"speak": {"lr": 0.125, "groups": [{"match": ["tower.bias"], "lr": 0}]}}
    found = planned(*stages, stages=said, groups=[{"match": ["*.norm"], "lr": 0.25}])
    assert found["resampler.norm"] == (Treatment(0.25), Treatment(0.125))
    assert [treatment.rate for treatment in found["language.weight"]] == [0, 0.125]
    assert found["tower.bias"] == (Treatment(), Treatment())
    for stage, moves in ((0, {"resampler", "temperature"}), (1, {"resampler", "temperature", "language", "tower"})):
        moved = stepped(found, stage)
        assert {name.split(".")[0] for name, value in moved.items() if value.any()} == moves
        assert not moved["tower.bias"].any()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"groups": [{"match": ["resampelr"]}]},
            r"groups\[0\].match: unknown part or parameter 'resampelr'.*'resampler'",
        ),
        ({"groups": [{"match": ["tower.*", "gated.wieght"]}]}, "did you mean 'gated.weight'"),
        ({"groups": [{"match": ["language"], "rows": [5]}]}, "language.weight has 5 rows, and there is no row 5"),
        ({"groups": [{"match": ["temperature"], "rows": [0]}]}, "temperature has 0 rows"),
        ({"stages": {"al": {"lr": 1.0}}}, "optim.stages: unknown stage 'al'.*did you mean 'all'"),
        ({"groups": [{"match": ["*"], "lr": 0}]}, "stage 'all' trains nothing"),
        ({"groups": [{"match": ["tower"], "lr": 0.1}]}, "tower names things that no stage trains"),
    ],
)
def test_group_that_names_what_is_not_there_is_refused_with_what_is(said: dict[str, Any], message: str) -> None:
    with pytest.raises(GroupError, match=message):
        planned(**said)


def test_rows_that_alone_train_cannot_decay() -> None:
    with pytest.raises(ValueError, match="rows: the others would decay too"):
        Optim.model_validate({"groups": [{"match": ["language"], "rows": [1], "decay": 0.1}]})


def heights(**said: Any) -> list[float]:
    settings = Optim.model_validate(said)
    return [optim.height(step, settings) for step in range(settings.steps)]


def test_lavis_staircase_has_one_rate_an_epoch() -> None:
    """LAVIS, 10 epochs from 1e-4 to 1e-5: epoch 1 9.780e-5, epoch 5 5.5e-5, epoch 9 1.220e-5."""
    said = {"steps": 1000, "schedule": "staircase", "epoch_steps": 100, "lr": 1e-4, "floor": 0.1}
    rates = [1e-4 * height for height in heights(**said, warmup=50, warmup_from=0.01)]
    assert rates[0] == pytest.approx(1e-6 + 99e-6 / 50)
    assert rates[49] == rates[99] == pytest.approx(1e-4)
    for epoch, rate in ((1, 9.780e-5), (5, 5.5e-5), (9, 1.220e-5)):
        assert {f"{rate:.3e}" for rate in rates[100 * epoch : 100 * epoch + 100]} == {f"{rate:.3e}"}


def test_schedules_go_by_name_from_the_peak_to_the_floor() -> None:
    said = {"steps": 100, "warmup": 0, "floor": 0.2}
    assert heights(**said, schedule="constant") == [1.0] * 100
    linear, cosine = heights(**said, schedule="linear"), heights(**said, schedule="cosine")
    assert linear[50] == cosine[50] == pytest.approx(0.6)
    assert linear[25] == pytest.approx(0.8) and cosine[25] == pytest.approx(0.2 + 0.8 * (1 + 0.5**0.5) / 2)
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        heights(schedule="cosin")
    for wrong in ({"schedule": "staircase"}, {"epoch_steps": 5}):
        with pytest.raises(ValueError, match="go together"):
            heights(**wrong)
    with pytest.raises(ValueError, match="within its first epoch, of 50 steps, not 100"):
        heights(schedule="staircase", epoch_steps=50, warmup=100)
