"""`curate eval`: what is asked, that it is counted, taken up again, and told beside what is said without seeing."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Workplace
from tiny_answerers import dual_encoder, trained, untrained
from torch.nn import functional as F
from train_samples import dataset, mixture, published, square

from curate.mix.content import Picture, Prompt
from curate.stream.tokens import token_ids
from train.evaluation.answerer import decoded
from train.evaluation.asked_samples import AskedSamples
from train.evaluation.dual_encoders import zero_shot_weights
from train.evaluation.examples import Examples
from train.evaluation.figures import AnsweredQuestion, ScoredAnswers, score
from train.evaluation.questions import Question, sample_questions
from train.models.dual_encoder import load_export


def turns(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"type": "text", "block": block, "text": text} for block, text in said]


def asked(meta: dict[str, Any], kind: str = "caption", **parts: bytes) -> list[Question]:
    body = {"png": b"...", "txt": b"a cat", **parts}
    return sample_questions(kind, {**body, "json": json.dumps(meta).encode()})  # type: ignore[arg-type]


def conversation(number: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Two questions about a square, one with options."""
    image, text = square(100 + number)
    front, back = text.split()[1], text.split()[-1]
    segments = [
        {"type": "image", "part": "0.png"},
        *turns(("question", "What is it?"), ("answer", text)),
        *turns(("question", f"Its colour? (A) {front} (B) {back}"), ("answer", "A")),
    ]
    return {"0.png": image}, {"segments": segments, "meta": {"task": "Count"}}


def test_pair_asks_for_a_caption_and_takes_all_its_texts_for_right() -> None:
    meta = {"meta": {"captions": ["a cat", "one cat"]}}
    parts = {"png": b"...", "txt": b"a cat", "json": json.dumps(meta).encode()}
    assert sample_questions("caption", parts, ["meta.captions"]) == [
        Question("caption", (Picture("png"),), ["a cat", "one cat"])
    ]


def test_pair_with_a_question_asks_it_and_shows_its_choices() -> None:
    people = [{"answer": "red", "answer_id": n} for n in range(10)]
    (open_,) = asked({"meta": {"question": "What colour?", "answers": people}})
    assert (open_.task, open_.text, list(open_.references)) == ("answer", "What colour?", ["red"] * 10)
    meta = {"question": "Where?", "answer": "(B)", "choices": ["left", "right"], "task": "Relation", "source": "COCO"}
    (choice,) = asked({"meta": meta})
    assert (choice.task, choice.right, choice.kind, choice.source) == ("choice", 1, "relation", "coco")
    assert choice.text.startswith("Where?\n(A) left (B) right\n")


def test_conversation_asks_each_question_after_what_was_said_before() -> None:
    parts, said = conversation(0)
    first, second = sample_questions("interleaved", {**parts, "json": json.dumps(said).encode()})
    assert list(first.asked) == [Picture("0.png"), Prompt("What is it?")]
    assert list(second.asked[:3]) == [*first.asked, first.references[0]]
    assert (first.task, second.task, second.right) == ("answer", "choice", 0)


def test_document_without_questions_asks_nothing() -> None:
    page = {"segments": [*turns(("paragraph", "A cat.")), {"type": "image", "part": "0.png"}]}
    assert asked(page, "interleaved", **{"0.png": b"..."}) == []


def figures_of(said: dict[str, str], question: Question, copies: int = 4) -> ScoredAnswers:
    return score([AnsweredQuestion(n, str(n), question, said) for n in range(copies)], 0)  # type: ignore[arg-type]


def test_gain_is_what_seeing_adds_to_each_twin() -> None:
    question = Question("choice", [Picture("png"), Prompt("Which?")], ["B"], ["left", "right"], 1)
    (figure,) = figures_of({"seen": "(b) right", "blind": "B", "shuffled": "left"}, question).figures
    assert {view: found.value for view, found in figure.views.items()} == {"seen": 1, "blind": 1, "shuffled": 0}
    assert (figure.gains["blind"].value, figure.gains["shuffled"].value) == (0, 1)


def test_bleu_of_captions_is_sacrebleus(monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question("caption", [Picture("png")], ["a red square on the blue wall", "it is a red square"])
    found = figures_of({"seen": "a red square on a blue wall"}, question)
    bleu = next(one for one in found.figures if one.metric == "BLEU-4").views["seen"].value
    assert bleu == pytest.approx(48.8923022434901)  # sacrebleu 2.6.0, corpus_score of four such captions
    assert found.bleu.startswith("nrefs:2|case:lc|eff:no|tok:13a|smooth:exp|version:")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def evaluated(place: Workplace, model: Path, on: Path, *more: str) -> dict[str, Any]:
    done = place.curate("eval", model, "--on", on, "--out", place.out, "--tokens", "4", "--json", *more)
    assert done.code == 0, done.stderr
    found: dict[str, Any] = done.json
    return found


def test_every_sample_is_answered_or_unreadable_and_all_that_figures_hang_on_is_told(
    place: Workplace, model: Path
) -> None:
    held = dataset(place.root / "held", 9, broken=(2, 5))
    found = evaluated(place, model, held)
    counts = found["counts"]
    assert (counts["samples"], counts["answered"], counts["unreadable"], counts["ask_nothing"]) == (9, 7, 2, 0)
    assert sum(counts["errors"].values()) == 2
    assert found == json.loads((place.out / "results.json").read_text())
    assert {"model_digest", "dataset_digest", "seed", "manner", "blind_with", "bleu", "intervals"} <= found.keys()
    for figure in found["figures"]:
        assert figure["views"].keys() == {"seen", "blind", "shuffled"} and figure["gains"].keys() == {
            "blind",
            "shuffled",
        }


def test_killed_evaluation_goes_on_where_it_stopped_and_ends_the_same(place: Workplace, model: Path) -> None:
    held = dataset(place.root / "held", 40)
    whole = evaluated(place, model, held, "--no-blind")
    answers = place.out / "answers.jsonl"
    said = answers.read_text()
    answers.write_text(said[: len(said) // 2])  # in the middle of a line
    assert evaluated(place, model, held, "--no-blind") == whole and answers.read_text() == said
    place.curate("eval", model, "--on", held, "--out", place.out, "--tokens", "4", "--no-blind")
    assert answers.read_text() == said
    other = place.curate("eval", model, "--on", held, "--out", place.out, "--seed", "4", "--no-blind")
    assert other.code == 1 and "differs in manner, seed" in other.stderr


def test_other_pictures_are_another_samples_and_never_the_same_picture(place: Workplace) -> None:
    files = [square(n % 3)[0] for n in range(9)]  # three questions about each picture
    files[4] = files[4][:40]
    held = published(place.root / "held", "caption", [({"png": file, "txt": b"a square"}, {}) for file in files])
    for seed in range(5):
        with closing(AskedSamples(held, None, seed)) as samples:
            for number in (n for n in range(9) if n != 4):
                own = samples.read(number)[2]["png"]
                (shown,) = samples.others_pictures(number, [own]) or [None]
                assert shown is not None and shown.tobytes() != decoded(own).tobytes()


def test_conversations_are_scored_by_their_tasks_and_kinds(place: Workplace, model: Path) -> None:
    talks = published(place.root / "talks", "interleaved", [conversation(n) for n in range(4)])
    found = evaluated(place, model, talks)
    assert [(one["task"], one["metric"], one["questions"]) for one in found["figures"]] == [
        ("answer", "accuracy", 4),
        ("choice", "accuracy", 4),
        ("choice", "count", 4),
    ]
    alone = place.curate("eval", model, "--on", talks, "--task", "caption", "--out", place.root / "other")
    assert alone.code == 1 and "no question of task caption in 4 samples" in alone.stderr


def test_mixture_is_asked_in_the_order_of_its_positions(place: Workplace, model: Path) -> None:
    manifest = mixture(place.root / "mixture")
    found = evaluated(place, model, manifest, "--limit", "12", "--no-shuffled")
    rows = [json.loads(line) for line in (place.out / "answers.jsonl").read_text().splitlines()]
    listed = place.curate("mix", "at", manifest, "--step", "0", "--batch", "12", "--json").json
    assert [row["uid"] for row in rows] == [one["uid"] for one in listed]
    assert found["counts"]["samples"] == 12


def test_examples_are_others_with_their_answers_and_fewer_are_the_first_of_more(place: Workplace) -> None:
    held = dataset(place.root / "held", 12)
    with closing(Examples(held, 2, 5, "Describe it.")) as two, closing(Examples(held, 4, 5, "Describe it.")) as four:
        for number in range(12):
            uid, _, parts = AskedSamples(held, None, 5).read(number)
            some, more = two.before(uid), four.before(uid)
            assert [type(part).__name__ for part in some] == ["Image", "Prompt", "str"] * 2
            assert len(more) == 12 and [part for part in more[:6] if isinstance(part, str)] == [some[2], some[5]]
            assert parts["txt"].decode() != "" and decoded(parts["png"]) not in more


def test_model_is_asked_behind_examples_in_the_words_of_its_chat(place: Workplace, tmp_path: Path) -> None:
    model = untrained(tmp_path / "chat.safetensors", form={"image_tag": "before", "chat": "chatml"})
    held = dataset(place.root / "held", 6)
    found = evaluated(place, model, held, "--shots", "4", "--prompt", "Describe it.", "--limit", "4")
    assert (found["shots"], found["counts"]["answered"]) == (4, 4)
    too_many = place.curate("eval", model, "--on", held, "--shots", "6", "--out", place.root / "more")
    assert too_many.code == 1 and too_many.stderr.startswith("error: held: 5 of 6 samples can be examples")


def test_page_shows_strangers_words_as_words(place: Workplace, model: Path) -> None:
    image, _ = square(1)
    hostile = "<script>alert(1)</script>\u202e\x1b[31m"
    samples = [({"png": square(n)[0], "txt": (hostile * (n + 1)).encode()}, {}) for n in range(5)]
    held = published(place.root / "held", "caption", samples)
    page = place.root / "page.html"
    evaluated(place, model, held, "--html", str(page))
    text = page.read_text()
    assert "<script" not in text and "&lt;script&gt;" in text and "\u202e" not in text and "\x1b" not in text
    assert text.count("data:image/jpeg;base64,") == 5
    assert image not in text.encode()


def test_dual_encoder_is_measured_beside_its_twins_and_by_its_classes(place: Workplace) -> None:
    clip = dual_encoder(place.root / "clip.safetensors")
    held = dataset(place.root / "held", 30, broken=(4,))
    found = evaluated(place, clip, held, "--label", "meta.names")
    assert (found["counts"]["samples"], found["counts"]["answered"], found["counts"]["unreadable"]) == (30, 29, 1)
    figures = {one["metric"]: one["views"] for one in found["figures"]}
    assert figures.keys() >= {"image_to_text@1", "text_to_image@10", "accuracy@1", "accuracy@5"}
    assert figures["accuracy@5"]["seen"]["value"] >= figures["accuracy@1"]["seen"]["value"]
    recall = figures["image_to_text@1"]
    assert recall["seen"]["low"] <= recall["seen"]["value"] <= recall["seen"]["high"]
    assert recall["blind"]["value"] <= 0.5, "one caption is the nearest of a picture that shows nothing"


def test_zero_shot_weights_of_a_class_are_the_mean_of_its_sentences(tmp_path: Path) -> None:
    import open_clip

    clip = load_export(dual_encoder(tmp_path / "clip.safetensors"))
    found_DC = zero_shot_weights(clip, ["red", "blue"])
    sentences = [template("blue") for template in open_clip.SIMPLE_IMAGENET_TEMPLATES]
    with torch.inference_mode():
        each_ND = F.normalize(clip.net.encode_text(token_ids(clip.tokenizer, sentences)), dim=-1)
    torch.testing.assert_close(found_DC[:, 1], F.normalize(each_ND.mean(0), dim=0))


@pytest.mark.slow
def test_model_that_sees_beats_its_blind_and_its_misled_twin(place: Workplace) -> None:
    run = trained(place.root / "train", 160)
    held = dataset(place.root / "held", 40, seed=900)
    found = evaluated(place, run, held, "--tokens", "26", "--html", str(place.root / "page.html"))
    cider = found["figures"][0]
    assert cider["metric"] == "CIDEr-D" and cider["views"]["seen"]["value"] > 6
    assert cider["gains"]["blind"]["low"] > 3 and cider["gains"]["shuffled"]["low"] > 3
    exported = evaluated_elsewhere(place, run.parent / "model.safetensors", held)
    assert exported["figures"] == found["figures"], "a run answers as what it exported does"


def evaluated_elsewhere(place: Workplace, model: Path, on: Path) -> dict[str, Any]:
    shutil.rmtree(place.out)
    return evaluated(place, model, on, "--tokens", "26")
