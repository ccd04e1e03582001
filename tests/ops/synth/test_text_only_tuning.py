"""A text that stands for an image is learnt itself, or answers a question about it: the stages of text-only tuning."""

from __future__ import annotations

import json
import tarfile
from typing import Any

from conftest import Workplace, errors

ROWS: list[dict[str, Any]] = [
    {"text": "one", "context": "A man rides a horse.", "question": "Who rides?", "answer": "A man."},
    {"text": "A bus waits in the rain.", "context": None, "question": None, "answer": None},
    {"text": "three", "context": "Two cats sleep.", "question": "Who sleeps?", "answer": " "},
]


def tuned(place: Workplace, stage: str) -> tuple[list[tuple[str, str, str | None]], dict[str, Any]]:
    """(text, context, question) of every published sample, and the step's line of the funnel."""
    table = place.src / "texts.jsonl"
    table.write_text("\n".join(map(json.dumps, ROWS)))
    source = {"type": "text", "path": str(table), "keep": ["context", "question", "answer"]}
    steps = [{"op": "text_only_tuning", "with": {"stage": stage}}]
    publish = {"columns": ["context", "question"], "shuffle": False}
    done = place.run(place.recipe(kind="text", source=source, steps=steps, publish=publish, limits={"failed": 1}))
    step = done.steps["text_only_tuning"]
    with tarfile.open(place.dataset / "00000.tar") as tar:
        parts = {name: tar.extractfile(name).read().decode() for name in tar.getnames()}  # type: ignore[union-attr]
    said = {name.split(".")[0]: json.loads(text) for name, text in parts.items() if name.endswith("json")}
    return [(parts[f"{uid}.txt"], one["context"], one.get("question")) for uid, one in said.items()], step


def test_stage_one_learns_the_text_that_stands_for_the_image(place: Workplace) -> None:
    found, step = tuned(place, "reconstruct")
    texts = ["A man rides a horse.", "A bus waits in the rain.", "Two cats sleep."]
    assert found == [(text, text, None) for text in texts] and not step["failed"]


def test_stage_two_learns_the_answer_and_names_what_has_none(place: Workplace) -> None:
    found, step = tuned(place, "answer")
    assert found == [("A man.", "A man rides a horse.", "Who rides?")]
    assert step["failed"] == {"no_question": 2}


def test_a_stage_that_is_neither_is_refused(place: Workplace) -> None:
    step = {"op": "text_only_tuning", "with": {"stage": "both"}}
    source = {"type": "text", "path": str(place.src / "t.jsonl")}
    errors(place.run(place.recipe(kind="text", source=source, steps=[step])), ["stage", "reconstruct", "both"])


def test_a_question_is_held_to_its_context_and_the_funnel_tells_of_each_fault(place: Workplace) -> None:
    told = [
        ("A grey heron stands in a pond.", "Where does the heron stand?", "It stands in a pond."),
        (
            "A grey heron stands in a pond.",
            "What is the heron standing in the pond?",
            "The heron standing in the pond.",
        ),
        ("A small violin plays.", "What colour is the violin?", "The violin is black."),
    ]
    names = ("context", "question", "answer")
    table = place.src / "texts.jsonl"
    table.write_text("\n".join(json.dumps({"text": "x", **dict(zip(names, row, strict=True))}) for row in told))
    steps = [
        {"op": "text_only_tuning", "with": {"stage": "answer"}},
        {"op": "question_fault", "keep": {"question_fault": {"is": "none"}}},
    ]
    source = {"type": "text", "path": str(table), "keep": list(names)}
    step = place.run(place.recipe(kind="text", source=source, steps=steps)).steps["question_fault"]
    assert step["kept"] == 1 and step["dropped"] == {"question_fault.is": 2}
    assert step["tallies"] == {"question_fault": {"answer_in_question": 1, "none": 1, "ungrounded": 1}}
