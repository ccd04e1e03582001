"""Answers of a given structure are found in whatever a model says, checked, and asked for once more if need be."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from chat_server import Reply, completion, error, serving
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from curate.llm.chat import ChatRequest, Failure, Message
from curate.llm.json_answers import MalformedError, find_json
from curate.llm.outcomes import EndpointError
from curate.llm.service import GatewayService, RemoteChat
from curate.llm.settings import Endpoint
from curate.llm.structured import Structured, ask_structured, strict_schema


class Pair(BaseModel):
    """A question and its answer."""

    question: str
    answer: str = ""


class Pairs(BaseModel):
    """Some of them."""

    title: str
    pairs: list[Pair] = Field(max_length=3)


GOOD = {"title": "Apples", "pairs": [{"question": "Red?", "answer": 'Yes {or} "no"'}]}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: isinstance(value, dict) or (isinstance(value, list) and value and value[0] != ""))


@given(value=JSON, indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
def test_json_is_found_as_it_is_whatever_stands_around_it(value: Any, indent: int | None, ascii_only: bool) -> None:
    said = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    for text in (said, f"Sure! Here you are:\n```json\n{said}\n```\nAnything else?", f"<think>[1, {{</think>{said}"):
        assert next(find_json(text)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I cannot do that.", "no JSON object"),
        ("", "no JSON object"),
        ('{"title": "Apples", "pairs": [{"question": "Re', "begins at character 1 has no end"),
        ('{"title": NaN, "inner": {"title": "x", "pairs": []}}', "NaN is no JSON number"),
        ('{"title": 1e999}', "1e999 is beyond every number"),
        ('{"title": "a", "title": "b"}', '"title" stands twice'),
        ('{"title": "a" "pairs": []}', "line 1, column 15 of its JSON"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested more than 100 deep"),
        ("[" * 500_000, "nested more than 100 deep"),
        ('{"a": "' + '\\"' * 500_000, "has no end"),
        ('{"a": "' * 140_000, "nested more than 100 deep"),
        ("{" * 500_000, "no JSON object"),
        ("[1," + " " * 900_000, "has no end"),
        ('{"a": 1}' + " " * (1 << 20), "longer than"),
        ('{"n": ' + "9" * 10_000 + "}", "cannot be read"),
    ],
    ids=lambda value: "".join(value.split())[:24],
)  # fmt: skip
def test_what_is_broken_or_hostile_is_refused_with_where_and_at_once(text: str, said: str) -> None:
    began = time.process_time()
    with pytest.raises(MalformedError, match=said):
        list(find_json(text))
    assert time.process_time() - began < 1


def test_a_comma_too_many_is_overlooked_outside_of_texts() -> None:
    assert list(find_json('{"a": [1, 2, ], "b": "x,]", }')) == [{"a": [1, 2], "b": "x,]"}]


def test_half_a_character_becomes_one_that_files_hold() -> None:
    assert list(find_json('{"a": "\\ud800"}')) == [{"a": "\ufffd"}]


def test_the_schema_requires_every_key_and_allows_no_other() -> None:
    schema = strict_schema(Pairs)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(GOOD)
    assert not validator.is_valid(GOOD | {"more": 1})
    assert not validator.is_valid({"title": "x", "pairs": [{"question": "no answer"}]})
    assert "title" in schema["required"] and "default" not in json.dumps(schema)


def ask(url: str, folder: Path, count: int = 1, **more: Any) -> list[Structured[Pairs] | Failure]:
    endpoint = Endpoint.model_validate({"url": url, "model": "small", "key": None, **more})
    asked = [ChatRequest((Message("user", (f"text {n}",)),), 100) for n in range(count)]
    with GatewayService(endpoint, folder, "run") as service:
        chat = RemoteChat(service.address)
        try:
            return ask_structured(chat, asked, Pairs)
        finally:
            chat.close()


def test_an_endpoint_that_enforces_schemas_is_given_one(tmp_path: Path) -> None:
    with serving(lambda n, body: json.dumps(GOOD)) as server:
        (found,) = ask(server.url, tmp_path)
    assert isinstance(found, Structured) and found.value == Pairs.model_validate(GOOD)
    assert found.answer.model == "small"
    wanted = server.bodies[0]["response_format"]
    assert wanted["type"] == "json_schema" and wanted["json_schema"]["schema"] == strict_schema(Pairs)
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "text 0"}]


def test_one_that_does_not_is_asked_in_words(tmp_path: Path) -> None:
    with serving(lambda n, body: f"Here:\n```json\n{json.dumps(GOOD)}\n```") as server:
        (found,) = ask(server.url, tmp_path, json_schema=False)
    assert isinstance(found, Structured) and found.value.title == "Apples"
    assert "response_format" not in server.bodies[0]
    assert json.dumps(strict_schema(Pairs)) in server.bodies[0]["messages"][-1]["content"]


def test_a_malformed_answer_is_repaired_by_one_request_that_says_what_was_wrong(tmp_path: Path) -> None:
    def script(number: int, body: dict[str, Any]) -> str:
        is_bad = body["messages"][0]["content"] == "text 1" and len(body["messages"]) == 1
        return json.dumps({"title": "x"} if is_bad else GOOD)

    with serving(script) as server:
        found = ask(server.url, tmp_path, 3)
        assert [isinstance(one, Structured) for one in found] == [True] * 3
        assert server.requests == 4
        _, said, words = server.bodies[3]["messages"]
        assert said == {"role": "assistant", "content": '{"title": "x"}'}
        assert "at pairs: Field required" in words["content"]
        ask(server.url, tmp_path, 3)
        assert server.requests == 4


def test_what_stays_malformed_is_a_failure_that_says_where(tmp_path: Path) -> None:
    with serving(lambda n, body: '{"title": "x", "pairs": [{"question": 7}]}') as server:
        (found,) = ask(server.url, tmp_path)
    assert server.requests == 2
    assert isinstance(found, Failure) and found.error == "malformed_answer"
    assert "pairs.0.question" in found.detail and '{"question": 7}' in found.detail


def test_an_answer_that_was_cut_is_told_as_that_and_not_repaired(tmp_path: Path) -> None:
    with serving(lambda n, body: Reply(body=completion('{"title": "x', finish="length"))) as server:
        (found,) = ask(server.url, tmp_path)
    assert server.requests == 1
    assert isinstance(found, Failure) and found.error == "cut_by_length"


def test_an_endpoint_that_takes_no_schemas_ends_the_run_with_what_to_write(tmp_path: Path) -> None:
    refused = Reply(400, error("'response_format.type' must be 'text'"))
    with serving(lambda n, body: refused) as server, pytest.raises(RuntimeError, match="write json_schema: false"):
        ask(server.url, tmp_path)
    assert issubclass(EndpointError, RuntimeError)
