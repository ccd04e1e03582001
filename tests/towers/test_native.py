"""Pictures of native aspect ratio: positions, masks, and equality with `transformers`' Idefics2."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from curate.models.features import Pictures
from curate.models.towers.backbones import Backbone, of_any_size
from curate.models.towers.native import patches_of, patches_there, position_ids
from curate.models.towers.tower import TowerConfig, VisionTower

SIDE_PX, PATCH = 84, 14


def ids(height: int, width: int) -> list[int]:
    found: list[int] = position_ids(torch.tensor([[height, width]]), (height, width), 70)[0].tolist()
    return found


def test_positions_are_floors_of_fractions_with_idefics2s_sums() -> None:
    assert sum(ids(70, 70)) == 12_002_550
    assert sum(ids(35, 70)) == 5_915_525
    assert (ids(27, 40)[:6], ids(27, 40)[-1], sum(ids(27, 40))) == ([0, 1, 3, 5, 7, 8], 4758, 2_548_050)
    assert ids(2, 3) == [0, 23, 46, 2450, 2473, 2496]


def test_padding_has_position_0_and_is_not_there() -> None:
    patches = torch.tensor([[2, 3], [4, 4]])
    there = patches_there(patches, (4, 4)).reshape(2, 4, 4)
    assert there[0].nonzero().tolist() == [[r, c] for r in range(2) for c in range(3)] and there[1].all()
    assert position_ids(patches, (4, 4), 70)[0].reshape(4, 4)[:2, :3].flatten().tolist() == ids(2, 3)
    assert position_ids(patches, (4, 4), 70)[0].reshape(4, 4)[2:].sum() == 0


def test_a_patch_that_a_picture_fills_in_part_is_there() -> None:
    assert patches_of(torch.tensor([[28, 29], [0, 1]]), 14).tolist() == [[2, 3], [0, 1]]


def trunk() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": SIDE_PX, "embed_dim": 64, "depth": 3, "num_heads": 4, "mlp_ratio": 2}
    net: nn.Module = timm.create_model("vit_so400m_patch14_siglip_224", **sizes, num_classes=0, act_layer="gelu_tanh")
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def native_tower(net: nn.Module) -> VisionTower:
    config = TowerConfig(model="timm:vit_so400m_patch14_siglip_224", fit="native", final_norm=True)
    return VisionTower(Backbone(of_any_size(net), SIDE_PX, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), config, -1).eval()


def idefics2(net: nn.Module) -> nn.Module:
    """`transformers`' tower with the same weights."""
    from transformers.models.idefics2.configuration_idefics2 import Idefics2VisionConfig
    from transformers.models.idefics2.modeling_idefics2 import Idefics2VisionTransformer

    config = Idefics2VisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, image_size=SIDE_PX,
        patch_size=PATCH, hidden_act="gelu_pytorch_tanh",
    )  # fmt: skip
    config._attn_implementation = "eager"
    found = Idefics2VisionTransformer(config).eval()
    own, theirs = net.state_dict(), {}
    theirs["embeddings.patch_embedding.weight"] = own["patch_embed.proj.weight"]
    theirs["embeddings.patch_embedding.bias"] = own["patch_embed.proj.bias"]
    theirs["embeddings.position_embedding.weight"] = own["pos_embed"][0]
    names = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"}
    names |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for part in ("weight", "bias"):
        theirs[f"post_layernorm.{part}"] = own[f"norm.{part}"]
        for n in range(3):
            for mine, other in names.items():
                theirs[f"encoder.layers.{n}.{other}.{part}"] = own[f"blocks.{n}.{mine}.{part}"]
            for which, rows in zip("qkv", own[f"blocks.{n}.attn.qkv.{part}"].chunk(3), strict=True):
                theirs[f"encoder.layers.{n}.self_attn.{which}_proj.{part}"] = rows
    found.load_state_dict(theirs)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[(84, 84)], [(28, 42)], [(28, 84), (70, 40), (84, 84)], [(30, 55), (14, 14)]])
def test_a_siglip_tower_equals_idefics2s_in_transformers(sizes: list[tuple[int, int]]) -> None:
    net = trunk()
    height, width = (-(-max(size[axis] for size in sizes) // PATCH) * PATCH for axis in (0, 1))
    x_MCHW = torch.zeros(len(sizes), 3, height, width, dtype=torch.uint8)
    mask_MHW = torch.zeros(len(sizes), height, width, dtype=torch.bool)
    torch.manual_seed(2)
    for number, (tall, wide) in enumerate(sizes):
        x_MCHW[number, :, :tall, :wide] = torch.randint(0, 256, (3, tall, wide))
        mask_MHW[number, :tall, :wide] = True
    found = native_tower(net)(Pictures(x_MCHW, torch.tensor(sizes)))
    patches = mask_MHW.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).sum((-1, -2)) > 0
    pixels = (x_MCHW.float() / 255 - 0.5) / 0.5 * mask_MHW[:, None]
    with torch.no_grad():
        wanted = idefics2(net)(pixel_values=pixels, patch_attention_mask=patches).last_hidden_state
    assert found.there_MP is not None and torch.equal(found.there_MP, patches.flatten(1))
    assert (found.x_MPD - wanted)[found.there_MP].abs().max() < 1e-5


def test_a_padded_picture_is_seen_as_if_it_came_alone() -> None:
    tower = native_tower(trunk())
    torch.manual_seed(3)
    x_MCHW = torch.randint(0, 256, (2, 3, 84, 84), dtype=torch.uint8)  # what stands in the padding does not matter
    together = tower(Pictures(x_MCHW, torch.tensor([[42, 28], [84, 70]])))
    alone = tower(Pictures(x_MCHW[:1, :, :42, :28]))
    assert together.there_MP is not None and together.grid == (6, 5)
    assert (together.x_MPD[0][together.there_MP[0]] - alone.x_MPD[0]).abs().max() < 1e-5


def test_a_missing_still_of_native_aspect_is_finite_and_not_there() -> None:
    found = native_tower(trunk())(
        Pictures(torch.zeros(2, 3, 84, 84, dtype=torch.uint8), torch.tensor([[28, 28], [0, 0]]))
    )
    assert found.there_MP is not None and not found.there_MP[1].any() and found.x_MPD.isfinite().all()
