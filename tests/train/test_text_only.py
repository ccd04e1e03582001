"""Training on texts alone: the image tower takes the text tower's place, and the model answers from pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from train_samples import COLOURS, TINY, composed, dataset, mixture, published, settings, settings_file, square

from curate.mix.content import Picture, Prompt
from curate.models.captioners import TrainedCaptioner
from curate.models.devices import CPU
from curate.stream.forms import SequenceForm
from curate.stream.reading import DrawnSample
from curate.stream.spelling import spell_prompt
from curate.stream.stream import Share, Stream
from curate.stream.tokens import token_ids
from train import prepare
from train.__main__ import main
from train.config import Config, TextOnly
from train.models.dual_encoder import build
from train.objectives.text_only import TextOnlyObjective, as_document, measure_gap

OBJECTIVE: dict[str, Any] = {
    "type": "text_only",
    "train_language": True,
    "text_length": 48,
    "connector": "linear",
    "language": {"width": 64, "layers": 2, "heads": 2},
}


def asked(seed: int, stage: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A context as one of the squares' captions, and in stage `answer` what colour the square in it has."""
    _, context = square(seed)
    if stage == "reconstruct":
        return {"txt": context.encode()}, {"context": context}
    return {"txt": context.split()[1].encode()}, {"context": context, "question": "colour?"}


def texts(folder: Path, stage: str, count: int = 200) -> Path:
    """The manifest of texts of one stage."""
    published(folder / stage, "text", [asked(n, stage) for n in range(count)])
    return composed(folder, f"seed: 3\nsources: [{{path: {stage}}}]\n", f"{stage}.json")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual encoder that tells the squares apart."""
    folder = tmp_path_factory.mktemp("clip")
    config = settings(folder, optim={"steps": 100, "warmup": 5, "lr": 4e-3})
    arguments = [str(mixture(folder)), "--config", str(config), "--out", str(folder / "out")]
    assert main([*arguments, "--export", str(folder / "clip.safetensors")]) == 0
    return folder / "clip.safetensors"


def config_of(clip: Path, **objective: Any) -> Config:
    return Config.model_validate({**TINY, "model": {"clip": str(clip)}, "objective": {**OBJECTIVE, **objective}})


def test_context_stands_where_a_picture_will_and_the_question_is_not_scored(clip: Path, tmp_path: Path) -> None:
    config = config_of(clip)
    prepared = prepare.build(config, build(config.model), texts(tmp_path, "answer", 8))
    stream = Stream(tmp_path / "answer.json", 4, prepared.prepare, Share())
    batch = next(stream).tensors
    stream.close()
    assert batch["image"].shape == (4, 1, 12)
    for ids, scored in zip(batch["ids"], batch["scored"], strict=True):
        assert ids[1] == -1 and (ids == -1).sum() == 1
        learnt = bytes(i for i, wanted in zip(ids.tolist(), scored.tolist(), strict=True) if wanted and i < 256)
        assert learnt.decode().strip() in COLOURS
        assert b"colour?" in bytes(i for i in ids.tolist() if 0 < i < 256)


def test_text_without_a_context_is_its_own() -> None:
    drawn = DrawnSample("u", "s", 0, {"txt": b"a red square", "json": b"{}"}, "text")
    document = as_document(drawn)
    assert document.parts["context"] == b"a red square"
    segments = json.loads(document.parts["json"])["segments"]
    assert [s["type"] for s in segments] == ["image", "text"]


def test_a_text_is_given_to_the_connector_as_the_dual_encoder_embeds_it(clip: Path) -> None:
    config = config_of(clip)
    built = build(config.model)
    assert isinstance(config.objective, TextOnly)
    objective = TextOnlyObjective(built, config.objective).eval()
    ids = token_ids(built.tokenizer, ["a red square on blue", "a green square on black"])
    expected = objective.net.connector.out(built.net.encode_text(ids, normalize=True))  # type: ignore[operator]
    torch.testing.assert_close(objective.vectors({"image": ids[:, None]})[:, 0], expected)
    assert not any(name.startswith("texts") for name in objective.state_dict())


def test_noise_blurs_in_training_alone_and_the_gap_moves_texts_to_pictures(clip: Path, tmp_path: Path) -> None:
    pairs = dataset(tmp_path / "pairs", 30, seed=4)
    config = config_of(clip, noise=0.1, gap={"pairs": str(pairs)})
    built = build(config.model)
    assert isinstance(config.objective, TextOnly) and config.objective.gap is not None
    objective = TextOnlyObjective(built, config.objective)
    batch = {"image": token_ids(built.tokenizer, ["a red square on blue"])[:, None]}
    assert torch.equal(objective.eval().vectors(batch), objective.vectors(batch))
    assert not torch.equal(objective.train().vectors(batch), objective.vectors(batch))
    torch.testing.assert_close(objective.gap_D, measure_gap(built, config.objective.gap))
    assert 0.05 < objective.gap_D.norm() < 2


def test_pictures_are_refused_where_texts_alone_are_learnt(clip: Path, tmp_path: Path) -> None:
    config = config_of(clip)
    with pytest.raises(ValueError, match=r"is of kind caption, and the text_only objective takes texts"):
        prepare.build(config, build(config.model), mixture(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.systems) for seed in (1, 2))])
def test_model_that_was_trained_on_texts_alone_answers_from_pictures(clip: Path, tmp_path: Path, seed: int) -> None:
    """Of four colours, chance is a quarter; blind, the commonest is at most a third. Stage one, then stage two."""
    run = {**TINY, "model": {"clip": str(clip)}, "objective": {**OBJECTIVE, "noise": 0.1}, "seed": seed}
    run["optim"] = {"steps": 150, "warmup": 10, "lr": 4e-3}
    run["run"] = {**TINY["run"], "log_every": 50, "checkpoint_every": 150}
    config = settings_file(tmp_path, run)
    first, second, file = tmp_path / "one", tmp_path / "two", tmp_path / "seeing.safetensors"
    assert main([str(texts(tmp_path, "reconstruct")), "--config", str(config), "--out", str(first)]) == 0
    begun = ["--set", f"start.run={first}", "--out", str(second), "--export", str(file)]
    assert main([str(texts(tmp_path, "answer")), "--config", str(config), *begun]) == 0
    seeing = TrainedCaptioner(file, CPU.place("float32"))
    right = blind = 0
    for n in range(5000, 5060):
        image, text = square(n)
        shown = Image.open(io.BytesIO(image)).convert("RGB")
        right += told(seeing, shown) == text.split()[1]
        blind += told(seeing, Image.fromarray(np.full((40, 40, 3), 128, np.uint8))) == text.split()[1]
    print(f"seed {seed}: {right / 60:.2f} right, {blind / 60:.2f} blind")
    assert right >= 36 and right - blind >= 12


def told(seeing: TrainedCaptioner, image: Image.Image) -> str:
    """The colour that the model finds likeliest of a picture's square."""
    vectors = seeing.look(seeing.prepare(image)[None])
    form = SequenceForm(seeing.code, seeing.places)
    begun = list(spell_prompt(form, [Picture("shown"), Prompt("colour?")], seeing.longest).ids)
    scores = {}
    for colour in COLOURS:
        scores[colour] = loglikelihood(seeing, [*begun, *colour.encode()], len(begun), vectors)
    return max(scores, key=lambda colour: scores[colour])


def loglikelihood(seeing: TrainedCaptioner, ids: list[int], begin: int, vectors: torch.Tensor) -> float:
    net = seeing._net
    row = torch.tensor([ids])
    with torch.inference_mode():
        y = net.language(net.embed(row, vectors))
        logs = torch.log_softmax(net.language.logits(y[0, begin - 1 : -1]).float(), 1)
    return float(logs.gather(1, row[0, begin:, None]).mean())
