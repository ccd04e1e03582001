"""Connectors: the published sizes to the parameter, and what a picture's vectors do and do not hang on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from curate.models.connectors.c_abstractor import CAbstractorConfig, regnet_stage
from curate.models.connectors.idefics2_pooling import Idefics2Pooling, Idefics2PoolingConfig
from curate.models.connectors.resampler import ResamplerConfig
from curate.models.connectors.table import connector_of
from curate.models.cross_attention import FeedForward
from curate.models.features import Features, TowerShape
from curate.models.files import ModelError

TINY: list[dict[str, Any]] = [
    {"type": "linear"},
    {"type": "linear", "vectors": 4},
    {"type": "mlp", "norm": True},
    {"type": "c_abstractor", "vectors": 4, "hidden": 16, "depth": 1},
    {"type": "resampler", "latents": 3, "depth": 2, "heads": 2, "head_width": 8, "frames": 2},
    {"type": "idefics2_pooling", "latents": 3, "depth": 2, "heads": 4, "head_width": 8, "keys_heads": 2},
]
TAKE_PARTS = [settings for settings in TINY if settings["type"] in ("resampler", "idefics2_pooling")]


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def features(tower: TowerShape, pictures: int, seed: int = 0) -> Features:
    torch.manual_seed(seed)
    return Features(torch.randn(pictures * tower.views, tower.vectors, tower.width), tower.grid)


def built(settings: dict[str, Any], tower: TowerShape, width: int = 24) -> nn.Module:
    torch.manual_seed(1)
    return connector_of(settings).build([tower], width)


CLIP_L = TowerShape(1024, (16, 16))
FLAMINGO = {"heads": 16, "activation": "squared_relu", "frames": 8}


@pytest.mark.parametrize(
    ("settings", "tower", "width", "expected"),
    [  # parameters that the authors' code gives, or (Flamingo's) that follow from the paper's table of shapes
        ({"type": "c_abstractor"}, TowerShape(1024, (24, 24)), 4096, 37_398_016),
        ({"type": "c_abstractor"}, TowerShape(1024, (24, 24)), 5120, 47_885_824),
        ({"type": "c_abstractor"}, TowerShape(1024, (24, 24)), 2048, 22_713_856),
        ({"type": "c_abstractor"}, CLIP_L, 4096, 37_070_336),
        ({"type": "resampler"}, CLIP_L, 1024, 63_019_008),  # OpenFlamingo
        ({"type": "resampler", "heads": 16, "head_width": 128}, CLIP_L, 1024, 100_767_744),  # flamingo-mini
        ({"type": "resampler", "head_width": 128, **FLAMINGO}, TowerShape(1536, (10, 10)), 1536, 188_912_640),
        ({"type": "resampler", "head_width": 96, **FLAMINGO}, TowerShape(1536, (10, 10)), 1536, 170_038_272),
        ({"type": "idefics2_pooling"}, TowerShape(1152, (70, 70)), 4096, 743_219_200),
        ({"type": "linear"}, CLIP_L, 4096, 1024 * 4096 + 4096),
        ({"type": "mlp"}, CLIP_L, 4096, 20_979_712),
    ],
)
def test_published_sizes_are_met_to_the_parameter(
    settings: dict[str, Any], tower: TowerShape, width: int, expected: int
) -> None:
    with torch.device("meta"):
        connector = connector_of(settings).build([tower], width)
    assert size(connector) == expected


def test_a_stage_of_the_c_abstractor_has_the_published_size() -> None:
    with torch.device("meta"):
        assert size(regnet_stage(3, 1024, 1024)) == 7_914_240


@pytest.mark.parametrize("settings", TINY)
def test_a_picture_becomes_as_many_vectors_as_promised_whatever_is_in_its_batch(settings: dict[str, Any]) -> None:
    for tower in (TowerShape(8, (3, 5)), TowerShape(8, (3, 5), class_vector=True, views=2)):
        connector = built(settings, tower).eval()
        found = features(tower, 3)
        vectors_NPE = connector([found])
        assert vectors_NPE.shape == (3, connector.places, 24)
        last = Features(found.x_MPD[-tower.views :], tower.grid)
        torch.testing.assert_close(connector([last])[0], vectors_NPE[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", TINY)
def test_every_parameter_of_a_connector_has_a_gradient(settings: dict[str, Any]) -> None:
    tower = TowerShape(8, (4, 4), views=2)
    connector = built(settings, tower)
    connector([features(tower, 2)]).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in connector.parameters())


@pytest.mark.parametrize("settings", TINY)
def test_a_connector_of_one_tower_refuses_two(settings: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="takes one tower, and there are 2"):
        connector_of(settings).build([CLIP_L, CLIP_L], 64)


@pytest.mark.parametrize("kind", ["linear", "mlp", "c_abstractor"])
def test_a_number_of_vectors_that_is_no_square_is_refused(kind: str) -> None:
    with pytest.raises(ValidationError, match="145 is no square number"):
        connector_of({"type": kind, "vectors": 145})


@pytest.mark.parametrize("kind", ["linear", "mlp", "c_abstractor"])
def test_what_stands_in_a_class_vector_changes_nothing_in_rasters(kind: str) -> None:
    tower = TowerShape(8, (4, 4), class_vector=True)
    connector = built({"type": kind, "vectors": 4}, tower).eval()
    found = features(tower, 1)
    other = Features(torch.cat((found.x_MPD[:, :1] + 7, found.x_MPD[:, 1:]), 1), tower.grid)
    assert torch.equal(connector([found]), connector([other]))


def windows(side: int, cells: int) -> list[tuple[int, int]]:
    """First and last place that each pooled place is the mean of, found by what a mean depends on."""
    x = torch.zeros(1, 1, side, side, requires_grad=True)
    pooled = F.adaptive_avg_pool2d(x, cells)
    found = []
    for cell in range(cells):
        (grad,) = torch.autograd.grad(pooled[0, 0, 0, cell], x, retain_graph=True)
        places = grad[0, 0].sum(0).nonzero().flatten().tolist()
        found.append((places[0], places[-1] + 1))
    return found


def test_the_pooling_windows_of_the_c_abstractor_are_those_of_honeybee() -> None:
    starts = [0, 2, 4, 6, 9, 11, 13, 15, 18, 20, 22, 24]
    assert windows(27, 12) == [(start, start + 3) for start in starts]
    assert windows(16, 12)[:7] == [(0, 2), (1, 3), (2, 4), (4, 6), (5, 7), (6, 8), (8, 10)]
    assert windows(24, 12) == [(2 * cell, 2 * cell + 2) for cell in range(12)]


def test_the_c_abstractor_keeps_the_places_of_a_picture_in_order() -> None:
    """With positions and convolutions that say nothing, each vector is that of the mean of its own window."""
    tower = TowerShape(4, (27, 27))
    connector = CAbstractorConfig(hidden=4, depth=1).build([tower], 4)
    connector.before, connector.after, connector.mlp = nn.Identity(), nn.Identity(), nn.Identity()
    found = features(tower, 1)
    vectors_12 = connector([found])[0].reshape(12, 12, 4)
    x_HWD = (found.x_MPD[0] + connector.positions_DHW.flatten(1).T).reshape(27, 27, 4)
    torch.testing.assert_close(vectors_12[3, 8], x_HWD[6:9, 18:21].mean((0, 1)))


def test_the_c_abstractor_takes_another_raster_with_its_positions_interpolated() -> None:
    tower = TowerShape(8, (4, 4))
    connector = built({"type": "c_abstractor", "vectors": 4, "hidden": 16}, tower).eval()
    larger = TowerShape(8, (7, 7))
    assert connector([features(larger, 2)]).shape == (2, 4, 24)
    with torch.no_grad():
        connector.positions_DHW.fill_(0.3)
    assert torch.allclose(connector._positions((7, 7)), torch.full((8, 7, 7), 0.3))


@pytest.mark.parametrize("kind", ["linear", "mlp", "c_abstractor", "sva", "channels", "mining"])
def test_connectors_of_rasters_refuse_pictures_of_their_own_aspect_ratio(kind: str) -> None:
    """Their rasters are as large as the largest of a batch needs: a picture's vectors would hang on the others."""
    towers = [TowerShape(8, (4, 4), native=True)] * (1 if kind in ("linear", "mlp", "c_abstractor") else 2)
    with pytest.raises(ModelError, match="takes rasters of one size, and the tower's pictures keep their aspect ratio"):
        connector_of({"type": kind}).build(towers, 24)
    for settings in TAKE_PARTS:
        connector_of(settings).build([TowerShape(8, (4, 4), native=True)], 24)


@pytest.mark.parametrize("settings", TAKE_PARTS)
def test_what_lies_in_padded_patches_changes_nothing(settings: dict[str, Any]) -> None:
    tower = TowerShape(8, (3, 4), views=2)
    connector = built(settings, tower)
    found = features(tower, 2)
    there_MP = torch.arange(12)[None] < torch.tensor([[12], [5], [7], [0]])
    other = found.x_MPD.masked_fill(~there_MP[..., None], 99.0)
    first, second = (connector([Features(x, tower.grid, there_MP)]) for x in (found.x_MPD, other))
    assert torch.equal(first, second)
    assert not torch.allclose(first, connector([found]))
    assert first.isfinite().all()


def test_frames_of_a_video_have_times_only_where_wanted() -> None:
    """Without time embeddings, the order of frames is lost; with them, as many as there are frames, or interpolated."""
    tower = TowerShape(8, (2, 2), views=6)
    tiny = {"type": "resampler", "latents": 3, "depth": 1, "heads": 2, "head_width": 8}
    found = features(tower, 1)
    turned = Features(found.x_MPD.flip(0), tower.grid)
    timeless, timed = built(tiny, tower), built({**tiny, "frames": 3}, tower)
    torch.testing.assert_close(timeless([found]), timeless([turned]), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(timed([found]), timed([turned]), atol=1e-3)
    assert timed.times_FD.shape == (3, 8)


def test_latents_look_at_each_other_as_well_as_at_the_picture() -> None:
    """Keys and values are joined: with one layer, each latent's output depends on every latent."""
    resampler = built(
        {"type": "resampler", "latents": 3, "depth": 1, "heads": 2, "head_width": 8}, TowerShape(8, (2, 2))
    )
    latents_NLE = resampler([features(resampler.tower, 1)])
    (grad_LD,) = torch.autograd.grad(latents_NLE[0, 0].square().sum(), resampler.latents_LD)
    assert grad_LD.abs().sum(1).gt(1e-6).all()


def test_the_feed_forward_has_the_activation_that_was_asked_for() -> None:
    x_BTD = torch.randn(1, 2, 8)
    for activation, applied in (("gelu", F.gelu), ("squared_relu", lambda x: x.clamp(min=0) ** 2)):
        forward = FeedForward(8, activation)
        torch.testing.assert_close(
            forward(x_BTD), applied(forward.norm(x_BTD) @ forward.up.weight.T) @ forward.down.weight.T
        )


def test_a_resampler_of_another_width_than_the_towers_has_a_linear_layer_behind_it() -> None:
    config = ResamplerConfig(latents=3, depth=1)
    assert isinstance(config.build([TowerShape(8, (2, 2))], 8).out, nn.Identity)
    assert config.build([TowerShape(8, (2, 2))], 24)([features(TowerShape(8, (2, 2)), 2)]).shape == (2, 3, 24)


def theirs_and_ours() -> tuple[nn.Module, Idefics2Pooling]:
    """A small connector of `transformers`, and ours with the same weights."""
    from transformers.models.idefics2.configuration_idefics2 import Idefics2Config
    from transformers.models.idefics2.modeling_idefics2 import Idefics2Connector

    perceiver = {"hidden_size": 48, "resampler_n_latents": 5, "resampler_n_heads": 4, "resampler_head_dim": 8}
    config = Idefics2Config(
        vision_config={"hidden_size": 24},
        perceiver_config={**perceiver, "num_key_value_heads": 2},
        text_config={"model_type": "mistral", "hidden_size": 48, "intermediate_size": 112},
    )
    torch.manual_seed(0)
    theirs = Idefics2Connector(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = Idefics2PoolingConfig(latents=5, heads=4, head_width=8, keys_heads=2, hidden=112).build(
        [TowerShape(24, (4, 6))], 48
    )
    ours.load_state_dict(renamed(theirs.state_dict()))
    return theirs, ours


RENAMED = {
    "modality_projection": "project",
    "perceiver_resampler.latents": "latents_LE",
    "perceiver_resampler.": "",
    "input_latents_norm": "latents_norm",
    "input_context_norm": "vectors_norm",
    "post_attention_layernorm": "mlp_norm",
    "self_attn.q_proj": "attention.q",
    "self_attn.o_proj": "attention.out",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
}


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    out = {}
    for name, value in state.items():
        for theirs, ours in RENAMED.items():
            name = name.replace(theirs, ours)
        out[name] = value
    for name in [name for name in out if "self_attn.k_proj" in name]:
        keys, values = out.pop(name), out.pop(name.replace("k_proj", "v_proj"))
        out[name.replace("self_attn.k_proj", "attention.kv")] = torch.cat((keys, values))
    return out


def test_idefics2s_pooling_gives_what_transformers_gives_with_the_same_weights() -> None:
    theirs, ours = theirs_and_ours()
    x_MPD = torch.randn(3, 24, 24)
    for there_MP in (torch.ones(3, 24, dtype=torch.bool), torch.arange(24)[None] < torch.tensor([[24], [9], [1]])):
        expected = theirs(x_MPD, there_MP)
        torch.testing.assert_close(ours([Features(x_MPD, (4, 6), there_MP)]), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours([Features(x_MPD, (4, 6))]), theirs(x_MPD, torch.ones(3, 24)), rtol=1e-5, atol=1e-5)


def test_idefics2s_latents_differ_from_each_other_at_the_beginning() -> None:
    """In `transformers` they are ones, and all of a picture's vectors are the same to the bit at step 0."""
    tower = TowerShape(8, (2, 2))
    vectors_NPE = built({"type": "idefics2_pooling", "heads": 4, "latents": 5}, tower)([features(tower, 1)])
    assert len({tuple(row) for row in vectors_NPE[0].tolist()}) == 5
    assert Idefics2PoolingConfig().build([tower], 256).latents_LE.std().item() == pytest.approx(0.02, rel=0.05)
