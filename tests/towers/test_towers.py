"""Vision towers: shapes of the published ones, their settings, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch.nn import functional as F

from curate.models.features import Pictures
from curate.models.files import ModelError
from curate.models.towers.tower import TowerConfig, VisionTower

TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 2, "layers": 1},
}
VIT = "timm:test_vit"
CONVNEXT = "timm:test_convnext"


def tower(**settings: Any) -> VisionTower:
    torch.manual_seed(0)
    return TowerConfig(**settings).build().eval()


def pictures(count: int, height: int, width: int | None = None) -> Pictures:
    torch.manual_seed(1)
    return Pictures(torch.randint(0, 256, (count, 3, height, width or height), dtype=torch.uint8))


@pytest.mark.parametrize(
    ("settings", "width", "grid", "views"),
    [
        ({"model": "ViT-L-14-336", "layer": -2}, 1024, (24, 24), 1),
        ({"model": "ViT-SO400M-14-SigLIP-384", "layer": -2}, 1152, (27, 27), 1),
        ({"model": "ViT-SO400M-14-SigLIP-384", "layer": -2, "side": 24}, 1152, (24, 24), 1),
        ({"model": "timm:vit_giant_patch14_dinov2", "size_px": 378, "side": 24}, 1536, (24, 24), 1),
        ({"model": "convnext_xxlarge", "size_px": 1024, "stages": True, "side": 96}, 5760, (96, 96), 1),
        ({"model": "convnext_large_d_320", "size_px": 768, "stages": True}, 2880, (192, 192), 1),
        (
            {
                "model": "convnext_large_d_320",
                "size_px": 1536,
                "stages": True,
                "split": {"whole": "first", "of": "features"},
            },
            2880,
            (192, 192),
            5,
        ),
        ({"model": "ViT-SO400M-14-SigLIP-384", "size_px": 980, "fit": "native", "split": {}}, 1152, (70, 70), 5),
        ({"model": "ViT-L-14", "size_px": 672, "split": {}}, 1024, (48, 48), 5),
    ],
)
@pytest.mark.slow
def test_published_towers_have_their_papers_shapes(
    settings: dict[str, Any], width: int, grid: tuple[int, int], views: int
) -> None:
    with torch.device("meta"):
        shape = TowerConfig(**settings).build().shape
    assert (shape.width, shape.grid, shape.views) == (width, grid, views)


@pytest.mark.slow
def test_blip2s_tower_is_39_of_40_blocks_with_a_class_vector_and_a_norm() -> None:
    with torch.device("meta"):
        found = TowerConfig(model="EVA01-g-14", layer=-2, class_vector=True, norm=True).build()
    assert len(found.net.blocks) == 39  # type: ignore[arg-type]
    assert (found.shape.vectors, found.shape.width) == (257, 1408)
    assert sum(p.numel() for p in found.norm.parameters()) == 2 * 1408


@pytest.mark.parametrize(
    ("model", "mean"),
    [
        ("ViT-B-32", 0.48145466),
        ("ViT-B-16-SigLIP", 0.5),
        ("timm:vit_small_patch14_dinov2", 0.485),
        ("timm:vit_base_patch16_siglip_224", 0.5),
    ],
)
def test_each_tower_normalises_as_it_was_trained(model: str, mean: float) -> None:
    from curate.models.towers.backbones import load_backbone

    with torch.device("meta"):
        assert load_backbone(model, None, "tower").mean[0] == pytest.approx(mean)


def test_a_mean_that_is_said_goes_before() -> None:
    plain, said = tower(model=VIT), tower(model=VIT, mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    assert said.mean_C11.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert not torch.allclose(plain(pictures(1, 160)).x_MPD, said(pictures(1, 160)).x_MPD)


@pytest.mark.parametrize("model", [VIT, TINY_CLIP])
def test_the_penultimate_layer_is_what_the_last_block_is_given(model: Any) -> None:
    whole, cut = tower(model=model), tower(model=model, layer=-2)
    own = {name: tensor for name, tensor in whole.state_dict().items() if name in cut.state_dict()}
    assert own.keys() == cut.state_dict().keys() and len(own) < len(whole.state_dict())
    cut.load_state_dict(own)
    blocks = whole.net.blocks if model == VIT else whole.net.transformer.resblocks  # type: ignore[union-attr]
    given = []
    blocks[-1].register_forward_pre_hook(lambda _, x: given.append(x[0]))  # type: ignore[index,operator]
    shown = pictures(2, whole.size_px)
    whole(shown)
    assert torch.equal(cut(shown).x_MPD, given[0][:, 1:])


@pytest.mark.parametrize("model", [VIT, TINY_CLIP])
def test_a_class_vector_stands_before_the_raster(model: Any) -> None:
    without, kept = tower(model=model), tower(model=model, class_vector=True)
    shown = pictures(2, without.size_px)
    assert kept.shape.vectors == without.shape.vectors + 1
    assert torch.equal(kept(shown).x_MPD[:, 1:], without(shown).x_MPD)


def test_convnexts_stages_are_resized_to_the_first_and_joined_by_channel() -> None:
    found = tower(model=CONVNEXT, stages=True)
    shown = pictures(1, found.size_px)
    x = (shown.x_MCHW.float() / 255 - found.mean_C11) / found.std_C11
    stages = found.net.forward_intermediates(x, intermediates_only=True)  # type: ignore[operator]
    size = stages[0].shape[-2:]
    wanted = torch.cat([F.interpolate(s, size, mode="bilinear") for s in stages], 1)
    assert torch.allclose(found(shown).x_MPD, wanted.flatten(2).transpose(1, 2), atol=1e-5)


def test_features_are_resized_as_cambrian_does() -> None:
    whole, small = tower(model=VIT), tower(model=VIT, side=7)
    shown = pictures(1, 160)
    x_MDHW = whole(shown).x_MPD.transpose(1, 2).reshape(1, -1, *whole.shape.grid)
    wanted = F.interpolate(x_MDHW, (7, 7), mode="bilinear", align_corners=False)
    assert torch.allclose(small(shown).x_MPD, wanted.flatten(2).transpose(1, 2), atol=1e-5)


def test_features_of_one_large_picture_are_cut_into_the_whole_and_its_tiles() -> None:
    plain = tower(model=CONVNEXT, size_px=128)
    cut = tower(model=CONVNEXT, size_px=128, split={"whole": "first", "of": "features"})
    shown = pictures(2, 128)
    x_NDhw = plain(shown).x_MPD.transpose(1, 2).reshape(2, -1, 4, 4)
    found = cut(shown)
    views = found.x_MPD.transpose(1, 2).reshape(2, 5, -1, 2, 2)
    assert cut.shape.views == 5 and found.grid == (2, 2)
    assert torch.allclose(views[:, 0], F.interpolate(x_NDhw, (2, 2), mode="bilinear"))
    assert torch.equal(views[:, 2], x_NDhw[:, :, :2, 2:])  # top right
    assert torch.equal(views[:, 4], x_NDhw[:, :, 2:, 2:])


@pytest.mark.parametrize("model", [VIT, TINY_CLIP])
def test_positions_are_interpolated_for_another_size(model: Any) -> None:
    found = tower(model=model, size_px=96)
    assert found.shape.grid == (6, 6)
    assert found(pictures(1, 96)).x_MPD.shape == (1, 36, found.shape.width)
    assert found.shape_at(128).grid == (8, 8)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": VIT, "size_px": 100}, "take 96 or 112"),
        ({"model": TINY_CLIP, "size_px": 100}, "take 96 or 112"),
        ({"model": "timm:test_vitx"}, "did you mean 'test_vit"),
        ({"model": "ViT-L-15"}, "unknown open_clip model"),
        ({"model": CONVNEXT, "class_vector": True}, "no class vector"),
        ({"model": VIT, "stages": True}, "no stages"),
        ({"model": VIT, "fit": "native"}, "no class vector"),
        ({"model": VIT, "weights": "laion2b"}, "`pretrained` or a .safetensors file"),
        ({"model": TINY_CLIP, "weights": "laion2b"}, "give a .safetensors file"),
        ({"model": VIT, "weights": "/nowhere.safetensors"}, "does not load"),
    ],
)
def test_a_tower_that_cannot_be_is_refused_at_once_with_what_to_do(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        TowerConfig(**settings).build("model.towers.eye")


def test_settings_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="fit: native"):
        TowerConfig(model=VIT, fit="native", side=24)
    with pytest.raises(ValidationError, match="split of features"):
        TowerConfig(model=VIT, split={"of": "features"}, frames=4)


def test_a_file_of_weights_is_loaded_whole_and_a_head_that_it_has_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(5)
    net = timm.create_model("test_vit")
    save_file(net.state_dict(), tmp_path / "vit.safetensors")
    found = tower(model=VIT, weights=str(tmp_path / "vit.safetensors"))
    assert torch.equal(found.net.pos_embed, net.pos_embed)  # type: ignore[arg-type]
    cut = {name: tensor for name, tensor in net.state_dict().items() if "blocks.1" not in name}
    save_file(cut, tmp_path / "cut.safetensors")
    with pytest.raises(ModelError, match=r"lacks weights.*blocks\.1"):
        tower(model=VIT, weights=str(tmp_path / "cut.safetensors"))


def test_a_frozen_tower_is_in_evaluation_mode_and_its_own_norm_trains() -> None:
    found = tower(model=VIT, norm=True)
    found.net.requires_grad_(False)
    found.train()
    assert not found.net.training and found.norm.training
    recorded: list[bool] = []
    found.net.patch_embed.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))  # type: ignore[union-attr,operator]
    found(pictures(2, 160)).x_MPD.square().sum().backward()
    assert recorded == [False]
    assert all(p.grad is None for p in found.net.parameters())
    assert all(p.grad is not None for p in found.norm.parameters())


def test_a_trained_tower_has_gradients() -> None:
    found = tower(model=VIT).train()
    assert found.net.training
    found(pictures(2, 160)).x_MPD.square().sum().backward()
    assert found.net.patch_embed.proj.weight.grad is not None  # type: ignore[union-attr]


def test_of_a_square_with_white_beside_it_the_picture_alone_is_there() -> None:
    found = tower(model=VIT, fit="pad")
    assert found.shape.grid == (10, 10)
    shown = Pictures(pictures(3, 160).x_MCHW, torch.tensor([[160, 160], [80, 160], [160, 48]]))
    there = found(shown).there_MP
    assert there is not None
    rasters = there.reshape(3, 10, 10)
    assert rasters[0].all()
    assert rasters[1].any(1).nonzero().flatten().tolist() == [2, 3, 4, 5, 6, 7]  # 5 whole rows, and one for the odd one
    assert rasters[2].any(0).nonzero().flatten().tolist() == [3, 4, 5, 6]


def test_a_film_has_a_view_a_still_and_missing_ones_are_not_there() -> None:
    found = tower(model=VIT, frames=4)
    assert found.shape.views == 4
    size = torch.tensor([[160, 160]] * 2 + [[0, 0]] * 2)
    there = found(Pictures(pictures(4, 160).x_MCHW, size)).there_MP
    assert there is not None and there.any(1).tolist() == [True, True, False, False]
