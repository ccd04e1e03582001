"""A judge's score is a column: strict JSON, asked again where it is none, null where it never was one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chat_models import chatting, told
from chat_server import Reply, error

from curate.ops.spec import Failed
from curate.ops.synth.judge import alt_agreement, judge_agreement


def judged(
    alts: list[str], texts: list[str | None], script: Any, out: Path, **knobs: Any
) -> tuple[dict[str, Any], Any]:
    with chatting(script, out) as (chat, server):
        return dict(judge_agreement(chat=chat, **knobs)(alts, texts)), server


def score(value: Any) -> str:
    return json.dumps({"reason": "They share a cat.", "score": value})


def test_a_score_and_its_reason_are_columns_and_say_who_judged(tmp_path: Path) -> None:
    found, server = judged(
        ["a cat", "a dog"], ["cats", "a house"], lambda n, b: score(5 if "cats" in told(b) else 1), tmp_path
    )
    assert found["judged_score"] == [5.0, 1.0]
    assert found["judged_reason"] == ["They share a cat."] * 2 and found["judged_fault"] == ["none"] * 2
    assert found["judged_by"][0]["prompt"] == "judge-agreement" and server.requests == 2
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["reason", "score"]  # a reason that comes later explains nothing


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("5", "malformed_answer"),
        ("five", "malformed_answer"),
        ("{}", "malformed_answer"),
        (score(6), "malformed_answer"),
        (score("4"), "malformed_answer"),
        (score(2.5), "malformed_answer"),
        (json.dumps({"score": 3}), "malformed_answer"),
    ],
)
def test_an_answer_off_the_rubric_is_a_named_fault_and_no_score(tmp_path: Path, answer: str, fault: str) -> None:
    found, server = judged(["a cat"], ["cats"], lambda n, body: answer, tmp_path / "never")
    assert found["judged_score"] == [None] and found["judged_fault"] == [fault] and server.requests == 2
    found, _ = judged(["a cat"], ["cats"], lambda n, body: answer if n == 0 else score(4), tmp_path / "then")
    assert found["judged_score"] == [4.0]


def test_rows_without_a_text_are_not_asked_about_and_others_fail_alone(tmp_path: Path) -> None:
    def script(_: int, body: dict[str, Any]) -> Any:
        return Reply(400, error("no", "bad")) if "a dog" in told(body) else score(4)

    found, server = judged(["a cat", "", "a cow", "a dog"], ["cats", "x", None, "dogs"], script, tmp_path)
    assert found["judged_fault"][:3] == ["none", "no_text", "no_text"] and found["judged_score"][:3] == [
        4.0,
        None,
        None,
    ]
    assert isinstance(found["judged_score"][3], Failed) and server.requests == 2


def test_a_rubric_of_ones_own_is_asked_as_it_stands(tmp_path: Path) -> None:
    own = tmp_path / "strict.yaml"
    own.write_text("source: mine\nwording: ours\nuser: 'Alt {{alt}}. Text {{text}}. {score}?'\n")
    _, server = judged(["{{text}}"], ["b"], lambda n, body: score(1), tmp_path / "out", prompt=str(own))
    assert told(server.bodies[0]) == "Alt {{text}}. Text b. {score}?"


def test_words_in_common_are_counted_without_function_words_and_plurals() -> None:
    found = alt_agreement(
        ["Two cats on the table", "The", "a red apple", ""], ["a cat and a dog", "x", "blue sky", None]
    )
    assert found["alt_words_found"][0] == pytest.approx(1 / 3)  # two, cat, table
    assert found["words_from_alt"][0] == pytest.approx(1 / 2)
    assert found["alt_words_found"][1:] == [None, 0.0, None]
