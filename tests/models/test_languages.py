"""Language models behind one face: documents of a pack are as alone, and layers between layers change what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from languages import CONFIGS, hf_language
from torch import Tensor

from curate.models.attention import attend_within, block_mask
from curate.models.experts import ExpertsConfig
from curate.models.language import LanguageModel
from curate.models.languages.decoder import DecoderConfig
from curate.models.languages.hf import HfConfig
from curate.models.languages.table import language_of
from curate.tokens.segments import attention_mask

IDS = 64
LENGTHS = (5, 7, 1, 9)
PADDING = 2


def ours(experts: ExpertsConfig | None = None) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(IDS, 32, 3, 2, experts).eval()


MIXED = ExpertsConfig(count=4, every=1)
MAKERS: dict[str, Callable[[], Any]] = {
    "ours": ours,
    "ours with experts": lambda: ours(MIXED),
    **{name: (lambda name=name: hf_language(name)) for name in CONFIGS},
}
EVERY = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def a_pack() -> tuple[Tensor, Tensor, Tensor]:
    """(ids, positions, segments) of a row of documents and padding."""
    ids = torch.randint(0, IDS, (1, sum(LENGTHS) + PADDING), generator=torch.Generator().manual_seed(1))
    segments = [n for n, length in enumerate(LENGTHS, 1) for _ in range(length)] + [0] * PADDING
    positions = [t for length in LENGTHS for t in range(length)] + [0] * PADDING
    return ids, torch.tensor([positions]), torch.tensor([segments])


def scores(language: Any, ids: Tensor, *layout: Tensor) -> Tensor:
    found: Tensor = language.logits(language(language.embed(ids), *layout))
    return found


def gradient(language: Any, loss: Tensor) -> dict[str, Tensor]:
    language.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in language.named_parameters() if p.grad is not None}


@EVERY
def test_document_in_a_pack_has_the_scores_and_the_gradient_that_it_has_alone(make: Callable[[], Any]) -> None:
    language = make()
    ids, positions, segments = a_pack()
    packed = scores(language, ids, positions, segments)[0]
    alone = [scores(language, row) for row in ids.split([*LENGTHS, PADDING], dim=1)[: len(LENGTHS)]]
    torch.testing.assert_close(packed[:-PADDING], torch.cat(alone, 1)[0], rtol=1e-5, atol=1e-5)
    weights = torch.randn(IDS, generator=torch.Generator().manual_seed(2))
    together = gradient(language, (packed[:-PADDING].sin() @ weights).sum())
    one_by_one = gradient(language, sum(((row[0].sin() @ weights).sum() for row in alone), torch.zeros(())))
    assert together.keys() == one_by_one.keys()
    for name, value in together.items():
        torch.testing.assert_close(value, one_by_one[name], rtol=1e-5, atol=1e-4, msg=name)


@EVERY
def test_nothing_between_the_layers_changes_nothing_to_the_bit_and_something_does(make: Callable[[], Any]) -> None:
    language = make()
    ids, positions, segments = a_pack()
    x, called = language.embed(ids), list[int]()

    def watch(layer: int, stream: Tensor) -> Tensor:
        called.append(layer)
        assert stream.shape == x.shape
        return stream

    plain = language(x, positions, segments)
    assert torch.equal(language(x, positions, segments, watch), plain)
    assert called == list(range(language.depth + 1))
    for layer in range(language.depth + 1):
        pushed = language(x, positions, segments, lambda n, stream, at=layer: stream + 0.1 * (n == at) * x.flip(2))
        assert not torch.allclose(pushed, plain, atol=1e-4), layer
    assert torch.equal(language(x, positions, segments), plain)


@EVERY
def test_text_said_token_by_token_has_the_scores_that_it_has_at_once(make: Callable[[], Any]) -> None:
    language = make()
    ids = a_pack()[0]

    def turned(_: int, stream: Tensor) -> Tensor:
        return stream + 0.1 * stream.roll(1, 2)

    for between in (None, turned):
        x, seen = language.embed(ids), list[Any]()
        steps = [(0, 6), *((t, t + 1) for t in range(6, x.shape[1]))]
        parts = [language.go_on(x[:, begin:end], seen, between) for begin, end in steps]
        torch.testing.assert_close(torch.cat(parts, 1), language(x, None, None, between), rtol=1e-5, atol=1e-5)


@EVERY
def test_size_is_of_all_parameters_but_the_vocabularys_and_of_experts_one(make: Callable[[], Any]) -> None:
    language = make()
    sized = ours() if isinstance(language, LanguageModel) else language
    expected = sum(p.numel() for p in sized.parameters() if not (p.ndim == 2 and p.shape[0] == IDS))
    assert language.size() == expected


LAID_OUT = torch.tensor([[1] * 70 + [2] * 150 + [3] + [0] * 19, [1] * 240])


@pytest.mark.parametrize("causal", [True, False])
def test_mask_by_blocks_is_the_mask(causal: bool) -> None:
    from torch.nn.attention.flex_attention import create_mask

    shown = create_mask(block_mask(LAID_OUT, causal).mask_mod, 2, 1, 240, 240, "cpu")
    assert torch.equal(shown[:, 0], attention_mask(LAID_OUT, causal))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*without torch.compile")
def test_flex_attention_gives_what_torchs_own_gives() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    q, k, v = torch.randn(3, 2, 2, 240, 16, generator=torch.Generator().manual_seed(0))
    blocks = flex_attention(q, k, v, block_mask=block_mask(LAID_OUT))
    assert isinstance(blocks, Tensor)
    torch.testing.assert_close(blocks, attend_within(LAID_OUT)(q, k, v), rtol=1e-5, atol=1e-5)


def test_encoder_sees_all_of_its_text_and_no_padding() -> None:
    shown = attention_mask(torch.tensor([[1, 1, 1, 0, 0]]), causal=False)[0].int().tolist()
    assert shown == [[1, 1, 1, 0, 0]] * 3 + [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]


def test_settings_without_a_type_are_of_our_decoder() -> None:
    assert language_of({"width": 32}) == DecoderConfig(width=32)
    found = language_of({"type": "hf", "model": "a/b"})
    assert found == HfConfig(type="hf", model="a/b")
