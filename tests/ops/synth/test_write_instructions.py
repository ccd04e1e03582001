"""A chat model writes of an image that it is told of; what is wrong with an answer has a name, and is asked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chat_models import chatting, told
from chat_server import Reply, completion, error

from curate.mix.answers import FORMAT_PROMPTS
from curate.ops.spec import Failed, identity
from curate.ops.synth._conversation_faults import (
    find_conversation_fault,
    find_description_fault,
    find_long_answer,
    grounded_share,
)
from curate.ops.synth.write_instructions import write_instructions

CAT = {
    "image": "cat.png",
    "captions": ["A cat and two apples on a table."],
    "width": 100,
    "height": 100,
    "objects": [{"category": "cat", "box": [0, 0, 60, 60]}, {"category": "apple", "box": [80, 80, 90, 90]}],
    "ocr": ["FRESH", "FRUIT"],
}
GOOD = [("What lies on the table?", "A cat and two apples."), ("Where is the cat?", "It is at the top left.")]


def turns(*pairs: tuple[str, str]) -> str:
    return json.dumps({"turns": [{"question": q, "answer": a} for q, a in pairs]})


def written(records: list[dict[str, Any]], script: Any, out: Path, **knobs: Any) -> tuple[dict[str, Any], Any]:
    with chatting(script, out) as (chat, server):
        op = write_instructions(chat=chat, **{"turns": 2, **knobs})
        found = op([json.dumps(record).encode() for record in records], [str(n) for n in range(len(records))])
        return dict(found), server


def texts(document: Any) -> list[str]:
    assert not isinstance(document, Failed), document
    return [segment["text"] for segment in document if segment["type"] == "text"]


def test_a_conversation_is_written_from_captions_boxes_and_words_seen(tmp_path: Path) -> None:
    found, server = written([CAT], lambda n, body: turns(*GOOD), tmp_path)
    assert found["document"][0][0]["url"] == "cat.png"
    assert texts(found["document"][0]) == [part for turn in GOOD for part in turn]
    assert found["instructions_fault"] == ["none"]
    by = found["instructions_by"][0]
    assert (by["model"], by["prompt"], by["finish"]) == ("small", "instruct-conversation", "stop")
    assert 0.5 < found["instructions_grounded"][0] <= 1
    body = server.bodies[0]
    for words in (
        "A cat and two apples on a table.",
        "cat: top left, large",
        "apple: bottom right, small",
        "FRESH, FRUIT",
    ):
        assert words in told(body)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["turns"]["maxItems"] == 2 and schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("Sure! Here is a conversation.", "malformed_answer"),
        ('{"turns": [{"question": "a?", "answer": 3}]}', "malformed_answer"),
        ('{"turns": [{"question": "a?", "answer": "b", "more": "c"}]}', "malformed_answer"),
        ('{"turns": []}', "malformed_answer"),
        (turns(GOOD[0]), "too_few_turns"),
        (turns(GOOD[0], ("Who is it?", "")), "empty_turn"),
        (turns(GOOD[0], ("Tell me more", "It is a cat.")), "no_question"),
        (turns(GOOD[0], ("what lies on the  table ?", "Fruit.")), "repeated_question"),
        (turns(GOOD[0], ("A cat?", "A cat")), "says_nothing"),
        (turns(GOOD[0], ("What is the cat in the picture?", "The cat is a cat.")), "says_nothing"),
        (turns(GOOD[0], ("What is the cat called?", "The name of it is John.")), "invented_name"),
        (turns(GOOD[0], ("How many?", "There are 17.")), "invented_number"),
        (turns(GOOD[0], ("Which colour has it?", "The cat is black.")), "invented_colour"),
        (turns(GOOD[0], ("Where?", "Two dogs are at the bottom right.")), "copies_prompt"),
        (turns(GOOD[0], ("Who?", "I'm sorry, I cannot see the picture.")), "refusal"),
        (turns(GOOD[0], ("What does the caption say?", "Two apples.")), "names_its_source"),
    ],
)
def test_each_fault_has_its_name_and_the_answer_is_asked_for_again(tmp_path: Path, answer: str, fault: str) -> None:
    found, server = written([CAT], lambda n, body: answer, tmp_path / "never", tries=2)
    assert found["instructions_fault"] == [fault] and server.requests == 2
    assert [segment["type"] for segment in found["document"][0]] == ["image"]
    found, server = written([CAT], lambda n, body: answer if n == 0 else turns(*GOOD), tmp_path / "then")
    assert found["instructions_fault"] == ["none"] and server.requests == 2
    assert server.bodies[0]["seed"] != server.bodies[1]["seed"]


def test_an_answer_cut_by_length_is_a_fault(tmp_path: Path) -> None:
    cut = Reply(body=completion(turns(*GOOD)[:40], finish="length"))
    found, _ = written([CAT], lambda n, body: cut, tmp_path, tries=1)
    assert found["instructions_fault"] == ["cut_by_length"]


def test_a_row_at_fault_costs_itself_alone(tmp_path: Path) -> None:
    def script(_: int, body: dict[str, Any]) -> Any:
        if "a dog" in told(body):
            return Reply(400, error("too long", "context_length_exceeded"))
        return "no JSON" if "a bird" in told(body) else turns(*GOOD)

    records = [CAT, {"image": "dog.png", "captions": ["a dog"]}, {"image": "x.png"}, {"captions": ["a cow"]}]
    found, _ = written([*records, {"image": "bird.png", "captions": ["a bird"]}], script, tmp_path, tries=1)
    errors = [d.error if isinstance(d, Failed) else None for d in found["document"]]
    assert errors[0] is None and errors[1] and errors[2:4] == ["nothing_known", "bad_record"]
    assert found["instructions_fault"][0] == "none" and found["instructions_fault"][4] == "malformed_answer"


def test_a_description_answers_a_template_and_pairs_tell_the_system_to_be_short(tmp_path: Path) -> None:
    long = (
        "A cat lies at the top left of a table, and two apples are at its bottom right, small and apart from the cat."
    )
    found, _ = written([CAT], lambda n, body: json.dumps({"description": long}), tmp_path / "d", style="description")
    question, answer = texts(found["document"][0])
    assert answer == long and question
    found, _ = written(
        [CAT], lambda n, body: turns(("What is it?", "cat"), ("How many apples?", "two")), tmp_path / "p", style="pairs"
    )
    assert texts(found["document"][0])[0] == FORMAT_PROMPTS[1]
    found, _ = written([CAT], lambda n, body: turns(*GOOD), tmp_path / "l", style="pairs", tries=1)
    assert found["instructions_fault"] == ["long_answer"]
    found, _ = written([CAT], lambda n, body: turns(GOOD[1]), tmp_path / "r", style="reasoning")
    assert texts(found["document"][0]) == list(GOOD[1])


def test_a_prompt_to_draw_is_written_after_five_drawn_examples(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("".join(f"example {n}, oil on canvas\n" for n in range(40)))
    answer = json.dumps({"request": "Draw my cat", "prompt": "a cat, two apples, still life"})
    knobs = {"style": "generation", "examples": str(tmp_path / "prompts.txt")}
    found, server = written([CAT, CAT], lambda n, body: answer, tmp_path / "out", **knobs)
    assert texts(found["document"][0]) == ["Draw my cat <GEN>", "<h>a cat, two apples, still life</h>"]
    shown = [{line for line in told(body).splitlines() if line.startswith("- example")} for body in server.bodies]
    assert len(shown[0]) == len(shown[1]) == 5 and shown[0] != shown[1]
    bad = json.dumps({"request": "Draw <h>", "prompt": "a cat"})
    found, _ = written([CAT], lambda n, body: bad, tmp_path / "bad", tries=1, **knobs)
    assert found["instructions_fault"] == ["mark_in_text"]


def test_the_same_rows_are_answered_from_the_kept_answers(tmp_path: Path) -> None:
    with chatting(lambda n, body: turns(*GOOD) if n else "no JSON", tmp_path) as (chat, server):
        record = json.dumps(CAT).encode()
        first = write_instructions(chat=chat, turns=2)([record], ["a"])
        again = write_instructions(chat=chat, turns=2)([record, record], ["b", "a"])
        assert server.requests == 2 and first["instructions_fault"] == ["none"]
        assert (
            again["document"] == [*first["document"]] * 2 and again["instructions_by"][1] == first["instructions_by"][0]
        )


def test_another_prompt_another_style_or_other_examples_are_another_column(tmp_path: Path) -> None:
    with chatting(lambda n, body: "", tmp_path) as (chat, _):
        own = tmp_path / "own.yaml"
        own.write_text("source: mine\nwording: ours\nuser: 'Tell of {{context}}'\n")
        (tmp_path / "a.txt").write_text("a\n")
        knobs: list[dict[str, Any]] = [{}, {"style": "pairs"}, {"prompt": str(own)}, {"style": "generation"}]
        knobs.append({"style": "generation", "examples": str(tmp_path / "a.txt")})
        seen = [json.dumps(identity(write_instructions, {"chat": chat, **one}), default=str) for one in knobs]
        own.write_text("source: mine\nwording: ours\nuser: 'Speak of {{context}}'\n")
        seen.append(json.dumps(identity(write_instructions, {"chat": chat, "prompt": str(own)}), default=str))
        assert len(set(seen)) == 6
        with pytest.raises(ValueError, match="`examples` are of style generation"):
            identity(write_instructions, {"chat": chat, "examples": "a.txt"})


CONTEXT = "It was described so:\n- A brown dog and 3 cats at 12 Mill Road."


@pytest.mark.parametrize(
    "answer",
    [
        "The brown dog sits beside the 3 cats.",
        "They are at 12 Mill Road.",
        "It can be seen that the dog is not alone, and I cannot think of a better place.",
        "The dog looks at the list on the wall.",
        "Yes.",
    ],
)
def test_sound_answers_have_no_fault(answer: str) -> None:
    assert find_conversation_fault([("What is it?", answer), ("Where?", "On a mat.")], CONTEXT, 2) is None


def test_what_a_model_adds_of_its_own_lowers_the_share_that_it_was_told(tmp_path: Path) -> None:
    told = [("Where is the dog?", "The brown dog is at Mill Road.")]
    assert grounded_share(told, CONTEXT) == 1.0
    assert grounded_share([("Where is the dog?", "It sleeps in a dark forest.")], CONTEXT) == 0.0
    assert grounded_share([("Is it?", "It is.")], CONTEXT) is None


def test_descriptions_and_short_answers_have_faults_of_their_own() -> None:
    assert find_description_fault("A dog.", CONTEXT) == "too_short"
    assert find_description_fault("A brown dog " * 10, CONTEXT) is None
    assert find_description_fault("A pink dog " * 10, CONTEXT) == "invented_colour"
    assert find_description_fault("As an AI, I see a brown dog " * 4, CONTEXT) == "refusal"
    assert find_long_answer([("?", "a brown dog")]) is None
    assert find_long_answer([("?", "a brown dog that sleeps")]) == "long_answer"
