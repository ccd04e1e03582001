"""Encoder-decoders of `transformers`: what is asked is read by one side, the answer comes out of the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from languages import t5_folder
from torch import Tensor
from train_samples import CAPTION, TINY

from curate.models.captioners import load_captioner
from curate.models.files import ModelError
from curate.models.languages.table import language_of
from train.config import Config
from train.export import export
from train.models.dual_encoder import build
from train.objectives.choice import objective_of
from train.objectives.encoder_decoder import EncoderDecoderObjective

ASKED, ANSWERS = [[7, 8, 9], [10]], [[20, 21], [30, 31, 32, 33]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return t5_folder(tmp_path_factory.mktemp("models") / "t5")


def language_at(model: Path, **more: Any) -> Any:
    torch.manual_seed(0)
    return language_of({"type": "encoder_decoder", "model": str(model), **more}).build().eval()


def rows(begin: int, end: int) -> tuple[Tensor, Tensor]:
    """(ids, scored) of the questions and answers."""
    ids, scored = torch.zeros(2, 9, dtype=torch.long), torch.zeros(2, 9, dtype=torch.bool)
    for n, (asked, answer) in enumerate(zip(ASKED, ANSWERS, strict=True)):
        row = [begin, *asked, *answer, end]
        ids[n, : len(row)] = torch.tensor(row)
        scored[n, 1 + len(asked) : len(row)] = True
    return ids, scored


@pytest.mark.parametrize("tied", [True, False])
def test_scores_of_answers_are_those_of_the_models_own_forward(tied: bool, tmp_path: Path) -> None:
    """T5's first version scales its last states and has one embedding for all; its second, and Flan's, do not."""
    language = language_at(t5_folder(tmp_path / "t5", tie_word_embeddings=tied))
    ids, _ = rows(1, 2)
    y = language(language.embed(ids), torch.tensor([4, 2]))
    for n, (asked, answer) in enumerate(zip(ASKED, ANSWERS, strict=True)):
        own = language.net(input_ids=torch.tensor([[*asked, 2]]), labels=torch.tensor([[*answer, 2]])).logits[0]
        torch.testing.assert_close(language.logits(y[n, : len(answer) + 1]), own, rtol=1e-5, atol=1e-5)


def test_answer_said_token_by_token_has_the_scores_that_it_has_at_once(model: Path) -> None:
    language = language_at(model)
    ids, _ = rows(1, 2)
    at_once = language(language.embed(ids[:1]), torch.tensor([4]))[:, :3]
    seen = list[Any]()
    steps = [language.go_on(language.embed(ids[:1, begin:end]), seen) for begin, end in ((0, 4), (4, 5), (5, 6))]
    torch.testing.assert_close(torch.cat(steps, 1), at_once, rtol=1e-5, atol=1e-5)


def made(model: Path, **language: Any) -> tuple[Config, Any, EncoderDecoderObjective]:
    settings = {**CAPTION, "language": {"type": "encoder_decoder", "model": str(model), **language}}
    config = Config.model_validate({**TINY, "objective": settings})
    torch.manual_seed(0)
    clip = build(config.model)
    objective = objective_of(config, clip)
    assert isinstance(objective, EncoderDecoderObjective)
    for name, parameters in objective.parts().items():
        for parameter in parameters:
            parameter.requires_grad_(name in objective.trained)
    return config, clip, objective.eval()


def shown(places: int) -> dict[str, Tensor]:
    ids, scored = rows(1, 2)
    picture = torch.full((2, places), -1)
    generator = torch.Generator().manual_seed(0)
    return {
        "ids": torch.cat((ids[:, :1], picture, ids[:, 1:]), 1),
        "scored": torch.cat((scored[:, :1], picture >= 0, scored[:, 1:]), 1),
        "source": torch.tensor([0, 0]),
        "image": torch.randint(256, (2, 1, 3, 32, 32), generator=generator).byte(),
    }


def test_loss_is_on_the_answers_alone_and_depends_on_pictures_and_questions(model: Path) -> None:
    _, _, objective = made(model)
    batch = shown(objective.visual_tokens)
    loss = objective(batch)
    assert objective.counts(batch) == [8]
    parts = [objective({name: value[n : n + 1] for name, value in batch.items()}) for n in range(2)]
    torch.testing.assert_close(torch.stack(parts).sum(), loss)
    padded = dict(batch, ids=batch["ids"].clone())
    padded["ids"][0, -2:] = 99
    torch.testing.assert_close(objective(padded), loss)
    for changed in ({"image": 255 - batch["image"]}, {"ids": torch.where(batch["ids"] == 8, 11, batch["ids"])}):
        assert not torch.allclose(objective({**batch, **changed}), loss)


def test_adapter_and_connector_train_and_the_frozen_model_does_not(model: Path) -> None:
    _, _, objective = made(model, adapter={"parts": ["q", "v"], "rank": 2})
    objective(shown(objective.visual_tokens)).backward()
    moved = {name for name, p in objective.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("connector" in name for name in moved)
    language = {name for name in moved if "language" in name}
    assert language and all(".lora_" in name for name in language)


def test_exported_encoder_decoder_writes_what_the_trained_one_would(model: Path, tmp_path: Path) -> None:
    config, clip, objective = made(model)
    export(clip, objective, config, file := tmp_path / "answers.safetensors")
    captioner = load_captioner(str(file), "", "float32")
    batch = shown(objective.visual_tokens)
    with torch.no_grad():
        vectors = objective.net.see_batch(batch)[:1]
        begun = batch["ids"][:1, : objective.visual_tokens + 4]
        y = objective.net.language(objective.net.embed(batch["ids"][:1], vectors), torch.tensor([begun.shape[1]]))
        wanted = objective.net.language.logits(y[0, :2])
        scores_of = captioner.write(vectors)
        first = scores_of(torch.tensor([[1, 7, 8, 9]]))
        second = scores_of(torch.tensor([[1, 7, 8, 9, 20]]))
    torch.testing.assert_close(torch.cat((first, second)), wanted, rtol=1e-4, atol=1e-4)


def test_packs_cross_attention_and_new_tags_are_refused(model: Path) -> None:
    language = {"type": "encoder_decoder", "model": str(model)}
    for objective in (
        {"type": "multimodal", "language": language},
        {**CAPTION, "language": language, "fusion": "cross_attention"},
    ):
        with pytest.raises(ValueError, match="encoder_decoder"):
            Config.model_validate({**TINY, "objective": objective})
    with pytest.raises(ModelError, match="<image> are none of them"):
        language_of(language).build(["<image>"])
