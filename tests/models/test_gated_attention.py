"""Gated cross-attention: published sizes, which picture each text looks at, and nothing changed at the beginning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from curate.models.files import ModelError
from curate.models.gated_attention import GatedBlock, GatedBlocks, GatedConfig, Media, phi
from curate.models.language import LanguageModel
from curate.models.languages.hf import HfConfig, HfLanguage

FLAMINGO = {"heads": 16, "head_width": 128, "activation": "squared_relu"}
TINY: dict[str, Any] = {"interval": 2, "heads": 2, "head_width": 4}
WIDTH, MEDIA_WIDTH = 12, 8


@pytest.mark.parametrize(
    ("settings", "width", "media_width", "expected"),
    [  # a block's parameters: OpenFlamingo's code with decoders of three widths, then Flamingo 3B
        ({}, 2048, 1024, 36_708_354),
        ({}, 4096, 1024, 139_476_994),
        ({}, 768, 1024, 78_680_088 // 12),
        (FLAMINGO, 2048, 1536, 1_157_824_560 // 24),
        (FLAMINGO, 4096, 1536, 1_573_027_860 // 10),
    ],
)
def test_a_block_has_the_published_size(settings: dict[str, Any], width: int, media_width: int, expected: int) -> None:
    with torch.device("meta"):
        block = GatedBlock(width, media_width, GatedConfig.model_validate(settings))
    assert sum(p.numel() for p in block.parameters()) == expected


def test_the_blocks_of_whole_models_have_the_published_sizes() -> None:
    for depth, interval, width, settings, media_width, expected in (
        (24, 1, 2048, {}, 1024, 881_000_496),
        (32, 4, 4096, {}, 1024, 1_115_815_952),
        (12, 1, 768, {}, 1024, 78_680_088),
        (24, 1, 2048, FLAMINGO, 1536, 1_157_824_560),
        (40, 4, 4096, FLAMINGO, 1536, 1_573_027_860),
    ):
        with torch.device("meta"):
            blocks = GatedConfig.model_validate({"interval": interval, **settings}).build(depth, width, media_width)
        assert sum(p.numel() for p in blocks.blocks.parameters()) == expected


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("tIabEIcE", [0, 1, 1, 1, 1, 2, 2, 2]),
        ("IaExIbE.", [1, 1, 1, 1, 2, 2, 2, 2]),
        ("ab", [0, 0]),
        ("IIa", [1, 2, 2]),
    ],
)
def test_phi_is_the_running_count_of_tags(tokens: str, expected: list[int]) -> None:
    """The golden table of OpenFlamingo's rule: I a picture's tag, E an end of chunk."""
    assert phi(tags(tokens)).tolist() == [expected]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_phi_of_a_pack_is_that_of_each_document_alone(places: list[tuple[bool, bool]]) -> None:
    tags_BT = torch.tensor([[tag for tag, _ in places]])
    segments_BT = torch.tensor([[begins for _, begins in places]]).cumsum(1)
    together = phi(tags_BT, segments_BT)[0]
    for segment in segments_BT.unique().tolist():
        mine = segments_BT[0] == segment
        assert torch.equal(together[mine], phi(tags_BT[:, mine])[0])


def tags(*rows: str) -> Tensor:
    return torch.tensor([[token == "I" for token in row] for row in rows])


def opened(**settings: Any) -> GatedBlocks:
    """Blocks of a decoder of four layers, their gates open."""
    torch.manual_seed(0)
    blocks = GatedConfig(**{**TINY, **settings}).build(4, WIDTH, MEDIA_WIDTH).double()
    with torch.no_grad():
        for name, parameter in blocks.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.7)
    return blocks


def vectors(pictures: int, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(pictures, 3, MEDIA_WIDTH, dtype=torch.double)


def stream(*rows: str) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(len(rows), len(rows[0]), WIDTH, dtype=torch.double)


def looked(blocks: GatedBlocks, x: Tensor, media: Media) -> Tensor:
    return blocks.between(media)(1, x)


def test_blocks_stand_before_layers_whose_number_from_one_is_a_multiple_of_the_interval() -> None:
    """Interval 4 of 32 layers: before layers 3, 7, ..., 31, counted from 0; and none behind the last layer."""
    blocks = GatedConfig(interval=4, heads=1, head_width=4).build(34, WIDTH, MEDIA_WIDTH).double()
    for block in blocks.blocks:
        torch.nn.init.ones_(block.feed_forward_gate)
    between, x_BTE = blocks.between(Media.of(vectors(1), tags("Ia"))), stream("Ia")
    changed = [layer for layer in range(36) if not torch.equal(between(layer, x_BTE), x_BTE)]
    assert changed == [3, 7, 11, 15, 19, 23, 27, 31]


def test_at_the_beginning_blocks_give_the_stream_back_to_the_bit() -> None:
    blocks = GatedConfig(**TINY).build(4, WIDTH, MEDIA_WIDTH).double()
    x_BTE = stream("tIab", "IIab")
    between = blocks.between(Media.of(vectors(3), tags("tIab", "IIab")))
    assert all(torch.equal(between(layer, x_BTE), x_BTE) for layer in range(5))


def tiny_llama() -> HfLanguage:
    """A decoder of `transformers` with four layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": WIDTH, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 4}
    net = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)).double()
    return HfLanguage(net, 32, 0, HfConfig(type="hf", model="tiny"))


def own_decoder() -> LanguageModel:
    return LanguageModel(32, WIDTH, 4, 2).double()


@pytest.mark.parametrize("decoder", [own_decoder, tiny_llama])
@torch.no_grad()
def test_at_step_0_a_decoders_scores_are_unchanged_to_the_bit(decoder: Callable[[], Any]) -> None:
    torch.manual_seed(3)
    language, rows = decoder().eval(), ("tIabIc", "abcIIa")
    blocks, x_BTE, media = GatedConfig(**TINY).build(4, WIDTH, MEDIA_WIDTH).double(), stream(*rows), vectors(4)
    alone = language.logits(language(x_BTE))
    assert torch.equal(language.logits(language(x_BTE, between=blocks.between(Media.of(media, tags(*rows))))), alone)
    later = language.logits(language(x_BTE, between=opened().between(Media.of(media, tags(*rows)))))
    other = language.logits(language(x_BTE, between=opened().between(Media.of(vectors(4, 9), tags(*rows)))))
    assert torch.equal(later[0, 0], other[0, 0]) and torch.equal(later[1, :3], other[1, :3])
    assert not torch.allclose(later[0, 1:], other[0, 1:]) and not torch.allclose(later[1, 3:], other[1, 3:])


def test_text_before_the_first_image_never_depends_on_an_image() -> None:
    rows, blocks = ("abIcd", "Iabcd"), opened()
    x_BTE, media = stream(*rows), vectors(2).requires_grad_()
    y_BTE = looked(blocks, x_BTE, Media.of(media, tags(*rows)))
    (grad_NPD,) = torch.autograd.grad(y_BTE[0, :2].sum(), media)
    assert not grad_NPD.any()
    other = looked(blocks, x_BTE, Media.of(vectors(2, seed=9), tags(*rows)))
    assert torch.equal(other[0, :2], y_BTE[0, :2])
    assert (other[0, 2:] != y_BTE[0, 2:]).all() and (other[1] != y_BTE[1]).all()


def test_text_before_the_first_image_still_passes_the_gated_feed_forward() -> None:
    blocks, x_BTE = opened(), stream("abIc")
    block = blocks.blocks[0]
    y_BTE = looked(blocks, x_BTE, Media.of(vectors(1), tags("abIc")))
    expected = x_BTE + block.feed_forward_gate.tanh() * block.feed_forward(x_BTE)
    torch.testing.assert_close(y_BTE[:, :2], expected[:, :2], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(y_BTE[:, 2:], expected[:, 2:])


def reach(rows: list[str], segments: Tensor | None = None, **settings: Any) -> list[list[list[int]]]:
    """Of each place of each row: the pictures of the batch, from 1, that it depends on."""
    count = sum(row.count("I") for row in rows)
    blocks, media = opened(**settings), vectors(count).requires_grad_()
    y_BTE = looked(blocks, stream(*rows), Media.of(media, tags(*rows), segments))

    def of(place: Tensor) -> list[int]:
        (grad_NPD,) = torch.autograd.grad(place.sum(), media, retain_graph=True)
        return [number + 1 for number in range(count) if grad_NPD[number].any()]

    return [[of(place_E) for place_E in row_TE] for row_TE in y_BTE]


def test_text_looks_at_the_last_image_before_it_and_at_no_other() -> None:
    assert reach(["tIaIb", "aIbcd"]) == [[[], [1], [1], [2], [2]], [[], [3], [3], [3], [3]]]


def test_text_looks_at_all_images_before_it_where_that_is_wanted() -> None:
    assert reach(["tIaIb", "aIbcd"], all_before=True) == [[[], [1], [1], [1, 2], [1, 2]], [[], [3], [3], [3], [3]]]


@pytest.mark.parametrize("all_before", [False, True])
def test_a_document_of_a_pack_never_sees_anothers_image(all_before: bool) -> None:
    """Also not the text before a document's first image, nor the padding behind the last document."""
    row, segments = "IaIbcIdII.", torch.tensor([[1, 1, 1, 1, 2, 2, 2, 3, 3, 0]])
    before = [1, 2] if all_before else [2]
    both = [4, 5] if all_before else [5]
    assert reach([row], segments, all_before=all_before) == [[[1], [1], before, before, [], [3], [3], [4], both, []]]


def test_generated_text_without_tags_looks_at_the_last_image_before_it() -> None:
    rows, blocks = ("aIbIcde", "abcdefg"), opened()
    x_BTE = stream(*rows)
    whole = looked(blocks, x_BTE, Media.of(vectors(2), tags(*rows)))
    parts = [looked(blocks, x_BTE[:, :4], Media.of(vectors(2), tags("aIbI", "abcd")))]
    for place in range(4, 7):
        media = Media.of(vectors(2), tags(*(row[: place + 1] for row in rows))).of_last(1)
        parts.append(looked(blocks, x_BTE[:, place : place + 1], media))
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-12, atol=1e-12)


def test_a_batch_without_images_gives_every_parameter_a_gradient() -> None:
    """So that each rank takes part in the exchange of gradients."""
    blocks, none = opened(), torch.empty(0, 3, MEDIA_WIDTH, dtype=torch.double)
    between, x_BTE = blocks.between(Media.of(none, tags("abcd"))), stream("abcd")
    for layer in range(4):
        x_BTE = between(layer, x_BTE)
    x_BTE.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in blocks.blocks.parameters())
    attention = [p.grad for name, p in blocks.named_parameters() if ".attention." in name]
    assert attention and not any(grad.any() for grad in attention if grad is not None)


def test_blocks_that_would_stand_nowhere_are_refused() -> None:
    with pytest.raises(ModelError, match="a block every 5 layers, and the language model has 4"):
        GatedConfig(interval=5).build(4, WIDTH, MEDIA_WIDTH)
    with pytest.raises(ValidationError):
        GatedConfig(interval=0)
