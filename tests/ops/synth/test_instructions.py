"""Templates, words seen in images, and prompts to draw: what a record says stands in the conversation, and no more."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.document.segments import Segment
from curate.mix.answers import asks_for_short, measure_answers
from curate.ops.spec import Failed
from curate.ops.synth._templates import templates
from curate.ops.synth.instructions import MAX_OCR_TOKENS, generation_document, instruction_document


def made(record: dict[str, Any], uid: str = "u", **knobs: Any) -> Any:
    return instruction_document([json.dumps(record).encode()], [uid], **knobs)["document"][0]


def turns(document: list[Segment]) -> list[tuple[str, str]]:
    texts = [s["text"] for s in document if s["type"] == "text"]
    return list(zip(texts[::2], texts[1::2], strict=True))


CAT = {"image": "cat.png", "question": "What animal is it?", "answer": "a cat", "options": ["a dog", "a cat"]}


def test_each_task_has_ten_to_fifteen_templates_and_no_two_are_one() -> None:
    """InstructBLIP (2305.06500, section 2.2): 10 to 15 a task."""
    for task, listed in templates().items():
        assert 10 <= len(listed) == len(set(listed)) <= 15, task


def test_templates_of_short_answers_ask_for_short_ones() -> None:
    for task in ("question", "choice", "caption"):
        assert all(
            asks_for_short(template) or "short" in template or "brief" in template for template in templates()[task]
        )
    for uid in map(str, range(40)):
        assert not measure_answers(made(CAT, uid, task="question")).bare
        assert not measure_answers(made(CAT, uid, task="choice")).bare


@pytest.mark.parametrize(
    ("task", "asked", "said"),
    [
        ("question", "What animal is it?", "a cat"),
        ("choice", "(A) a dog (B) a cat", "B"),
        ("ask", "a cat", "What animal is it?"),
        ("caption", "", "a cat"),
        ("description", "", "a cat"),
        ("read", "", "a cat"),
    ],
)
def test_a_task_asks_with_the_image_first_and_answers_with_the_record(task: str, asked: str, said: str) -> None:
    document = made(CAT, task=task)
    assert document[0]["url"] == "cat.png"
    [(question, answer)] = turns(document)
    assert asked in question and answer == said


def test_all_templates_are_drawn_and_a_row_keeps_its_own() -> None:
    record = {**CAT, "question": ["What?"] * 6, "answer": [str(n) for n in range(6)]}
    seen = Counter(q for n in range(100) for q, _ in turns(made(record, str(n), task="question")))
    assert len(seen) == len(templates()["question"]) and max(seen.values()) < 4 * min(seen.values())
    assert made(record, "7", task="question") == made(record, "7", task="question")
    assert made(record, "7", task="question") != made(record, "7", task="question", seed=1)


def test_words_seen_in_the_image_stand_in_the_first_question() -> None:
    record = {**CAT, "question": ["What?", "Why?"], "answer": ["1", "2"], "words": ["STOP", "AHEAD  now"]}
    first, second = turns(made(record, task="question", ocr="words"))
    assert first[0].endswith("\nWords seen in the image: STOP, AHEAD now") and "STOP" not in second[0]
    many = turns(made(record | {"words": "w " * 999}, task="question", ocr="words"))
    assert many[0][0].count("w") >= MAX_OCR_TOKENS and many[0][0].count("w, ") < MAX_OCR_TOKENS
    assert "Words" not in turns(made(record | {"words": []}, task="question", ocr="words"))[0][0]


@pytest.mark.parametrize(("answer", "said"), [("a cat", "B"), ("0", "A"), (1, "B"), ("(b)", "B")])
def test_an_option_may_be_named_by_its_words_number_or_letter(answer: Any, said: str) -> None:
    assert turns(made({**CAT, "answer": answer}, task="choice"))[0][1] == said


@settings(deadline=None, max_examples=80)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip))
def test_braces_and_whatever_else_a_question_holds_stay_as_they_are(question: str) -> None:
    for text in (question, f"{{question}} {{answer}} {question}"):
        assert text.strip() in turns(made({**CAT, "question": text}, task="question"))[0][0]


@pytest.mark.parametrize(
    ("record", "task"),
    [
        ({"image": "a.png", "answer": "x"}, "question"),
        ({"answer": "x"}, "caption"),
        ({"image": "a.png"}, "caption"),
        ({"image": "a.png", "question": ["a", "b"], "answer": "x"}, "question"),
        ({**CAT, "answer": "a bird"}, "choice"),
        ({**CAT, "answer": "7"}, "choice"),
        ({**CAT, "options": []}, "choice"),
        ({**CAT, "answer": {"text": "x"}}, "question"),
    ],
)
def test_a_record_that_lacks_what_its_task_needs_fails_by_name(record: dict[str, Any], task: str) -> None:
    failed = made(record, task=task)
    assert isinstance(failed, Failed) and failed.error == "bad_record"
    broken = instruction_document([b"{"], ["u"], task="caption")["text"][0]
    assert isinstance(broken, Failed) and broken.error == "not_json"


def test_a_prompt_to_draw_stands_between_its_marks() -> None:
    """Mini-Gemini (2403.18814; its cli reads what stands between the last <h> and </h>)."""
    record = {"request": "Draw me a castle", "prompt": "a castle on a hill, oil painting", "reply": "Here it is:"}
    document = generation_document([json.dumps(record).encode()])["document"][0]
    [(question, answer)] = turns(document)
    assert question == "Draw me a castle <GEN>"
    assert answer == "Here it is: <h>a castle on a hill, oil painting</h>"
    assert answer.split("</h>")[-2].split("<h>")[-1] == record["prompt"]
    del record["reply"]
    assert (
        turns(generation_document([json.dumps(record).encode()])["document"][0])[0][1] == f"<h>{record['prompt']}</h>"
    )


@pytest.mark.parametrize("mark", ["<GEN>", "<h>", "</h>"])
def test_a_text_that_holds_a_mark_itself_fails_by_name(mark: str) -> None:
    record = json.dumps({"request": "Draw", "prompt": f"a {mark} castle"}).encode()
    failed = generation_document([record])["document"][0]
    assert isinstance(failed, Failed) and failed.error == "mark_in_text"
