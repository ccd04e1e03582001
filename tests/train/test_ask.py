"""`curate ask`: what people want first of a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from capfilt_models import pictures as noise
from conftest import Workplace
from safetensors.torch import save_file
from tiny_answerers import dual_encoder, untrained
from train_samples import CAPTION, TINY, square

from curate.mix.content import Prompt
from curate.models.captioners import TrainedCaptioner
from curate.models.devices import CPU
from curate.settings import validate
from train.config import Config, trained_settings
from train.evaluation.answerer import Answerer
from train.evaluation.ask import Reply, parted


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def pictures(place: Workplace) -> Path:
    folder = place.root / "pictures"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(square(number)[0])
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_every_picture_of_a_folder_is_asked_about_by_itself(place: Workplace, model: Path, pictures: Path) -> None:
    found = place.curate("ask", model, pictures, "What is it?", "--tokens", "5", "--json").json
    assert [one["pictures"] for one in found] == [[str(pictures / f"{n}.png")] for n in range(3)]
    assert {one["question"] for one in found} == {"What is it?"}
    told = place.curate("ask", model, pictures, "What is it?", "--tokens", "5").stdout.splitlines()
    assert [line.partition(":")[0] for line in told] == [str(pictures / f"{n}.png") for n in range(3)]


def test_pictures_are_shown_together_where_that_is_said(place: Workplace, model: Path, pictures: Path) -> None:
    def shown(*names: str) -> tuple[list[str], str]:
        words = ("Which is redder?", "--together", "--json", "--tokens", "60", "--temperature", "1")
        (found,) = place.curate("ask", model, *(pictures / name for name in names), *words).json
        return [Path(name).name for name in found["pictures"]], found["answer"]

    one, other, turned = shown("0.png", "1.png"), shown("0.png", "2.png"), shown("1.png", "0.png")
    assert one[0] == ["0.png", "1.png"] and turned[0] == ["1.png", "0.png"]
    assert len({one[1], other[1], turned[1]}) == 3, "each picture is seen, and in its order"


def test_answers_are_the_same_each_time_greedy_and_drawn_by_seed(place: Workplace, model: Path, pictures: Path) -> None:
    def said(*more: str) -> str:
        return place.curate("ask", model, pictures / "0.png", "--tokens", "12", *more).stdout

    assert said() == said("--temperature", "0") == said("--seed", "5")
    drawn = [said("--temperature", "3", "--seed", str(n)) for n in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and said() not in drawn
    assert said("--top-p", "0.000001") == said()


def test_nothing_that_a_model_says_steers_a_terminal(place: Workplace, model: Path, pictures: Path) -> None:
    for seed in range(2):
        words = ("--temperature", "5", "--tokens", "60", "--seed", str(seed))
        text = place.curate("ask", model, pictures / "0.png", *words).stdout
        assert all(c == "\n" or c.isprintable() for c in text), repr(text)


@pytest.mark.parametrize(
    ("answer", "said", "prompt"),
    [
        ("Here it is. <GEN> <h>a red fox, oil painting</h>", "Here it is.", "a red fox, oil painting"),
        ("<h>a fox", "", "a fox"),
        ("a fox", "a fox", None),
        ("a fox <GEN>", "a fox", None),
    ],
)
def test_prompt_for_an_image_model_is_told_apart(answer: str, said: str, prompt: str | None) -> None:
    assert parted(answer) == (said, prompt)
    lines = list(Reply(["a.png"], "", said, prompt).lines(named=False))
    assert (lines[-1] == f"prompt for an image model: {prompt}") == (prompt is not None)


def test_checkpoint_of_another_trainer_is_refused_in_a_sentence(place: Workplace, pictures: Path) -> None:
    config = validate({**TINY, "objective": CAPTION}, Config, "tiny")
    folder = place.root / "run" / "checkpoints" / "00000001"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"version": 1, "trained": trained_settings(config)}))
    save_file({"net.old": torch.zeros(1)}, folder / "model.safetensors")
    done = place.curate("ask", place.root / "run", pictures / "0.png")
    assert (
        done.code == 1 and "another version of the trainer wrote them" in done.stderr and "Traceback" not in done.stderr
    )


def test_errors_say_what_is_no_picture_no_model_and_what_to_do(place: Workplace, model: Path, pictures: Path) -> None:
    clip = dual_encoder(place.root / "clip.safetensors")
    empty = place.root / "empty"
    empty.mkdir()
    refused: list[tuple[list[str | Path], str]] = [
        ([model, pictures / "9.png"], "no picture"),
        ([model, pictures / "notes.txt"], "is no picture that can be read: not_an_image"),
        ([model, empty], "no pictures in this folder"),
        ([model, pictures / "0.png", "What", "is it?"], "put the question into quotes"),
        ([place.root / "no.safetensors", pictures / "0.png"], "no.safetensors"),
        ([empty, pictures / "0.png"], "give a .safetensors that `curate train --export` wrote"),
        ([clip, pictures / "0.png"], "is a dual encoder, which answers nothing: `curate eval` measures it"),
    ]
    for words, sentence in refused:
        done = place.curate("ask", *words)
        assert done.code == 1 and sentence in done.stderr and not done.stdout, (words, done.stderr)
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_connector_that_reads_questions_is_told_what_is_asked(tmp_path: Path) -> None:
    """InstructBLIP (2305.06500): the same picture becomes other vectors where another thing is asked."""
    small = {"queries": 4, "width": 32, "layers": 2, "heads": 2, "hidden": 64}
    model = untrained(tmp_path / "asks.safetensors", connector={"type": "qformer", "instruction": True, **small})
    captioner = TrainedCaptioner(model, CPU.place("float32"))
    answerer = Answerer(captioner)
    [picture] = noise(1)
    asked = [answerer._look([picture], [Prompt(words)]) for words in ("what colour?", "how many?", "what colour?")]
    assert torch.equal(asked[0], asked[2])
    assert (asked[0] - asked[1]).abs().max() > 1e-4
    assert answerer.answer([picture], "what colour?") == answerer.answer([picture], "what colour?")
