"""Ask for answers of a structure: by JSON Schema where the endpoint takes one, checked by pydantic in any case.

An answer that does not fulfil it is asked for once more, with what was wrong; then it is a failure, `malformed_answer`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from curate.llm.chat import Answer, ChatRequest, Failure, Message
from curate.llm.json_answers import MalformedError, find_json
from curate.llm.prompts import load_prompt
from curate.llm.service import Chat
from curate.readers.rows import excerpt

MALFORMED = "malformed_answer"
CUT = "cut_by_length"
SHOWN = 200
"""Characters of a malformed answer that its failure shows."""

GIVEN_BACK = 8000
"""Characters of a malformed answer that are sent along when it is asked for once more."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Structured(Generic[M]):
    """An answer as a value, and as the model gave it."""

    value: M
    answer: Answer


def ask_structured(
    chat: Chat, requests: Sequence[ChatRequest], model: type[M], *, repair: bool = True
) -> list[Structured[M] | Failure]:
    """Ask, and read each answer as a `model`; in the order of the requests. Raises MachineError where the run ends.

    `malformed_answer`: it is no JSON or not of this structure, and its detail says where; `cut_by_length`: it ended at
    `max_tokens`. With `repair`, a malformed one is asked for once more.
    """
    schema = strict_schema(model)
    asked = [_with_schema(request, schema, chat.takes_schema) for request in requests]
    found = [_read(answer, model) for answer in chat.ask(asked)]
    if not repair:
        return [_told(one) for one in found]
    wrong = [number for number, one in enumerate(found) if isinstance(one, _Malformed)]
    again = [_repaired(asked[number], found[number], schema) for number in wrong]
    for number, answer in zip(wrong, chat.ask(again) if again else (), strict=True):
        found[number] = _read(answer, model)
    return [_told(one) for one in found]


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model in the form that endpoints enforce: every key required, and no other."""
    schema = _strict(model.model_json_schema())
    assert isinstance(schema, dict)
    return schema


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items() if name not in ("title", "default")}
    if isinstance(named := schema.get("properties"), dict):  # where `title` may be the name of a key
        strict["properties"] = {name: _strict(value) for name, value in named.items()}
        strict |= {"required": list(named), "additionalProperties": False}
    return strict


@dataclass(frozen=True)
class _Malformed:
    answer: Answer
    fault: str


def _with_schema(request: ChatRequest, schema: dict[str, Any], is_taken: bool) -> ChatRequest:
    """The request with the schema that its answer has to fulfil; in words, where the endpoint takes none."""
    if is_taken:
        return replace(request, schema=schema)
    words = load_prompt("json-schema").messages({"schema": json.dumps(schema)})
    return replace(request, messages=(*request.messages, *words))


def _repaired(request: ChatRequest, found: Any, schema: dict[str, Any]) -> ChatRequest:
    """The request as a conversation that went on: the malformed answer, and what is wrong with it."""
    assert isinstance(found, _Malformed)
    words = load_prompt("json-repair").messages({"fault": found.fault, "schema": json.dumps(schema)})
    said = Message("assistant", (found.answer.text[:GIVEN_BACK],))
    return replace(request, messages=(*request.messages, said, *words))


def _read(answer: Answer | Failure, model: type[M]) -> Structured[M] | _Malformed | Failure:
    if isinstance(answer, Failure):
        return answer
    try:
        return Structured(_value(answer.text, model), answer)
    except MalformedError as err:
        if answer.finish == "length":
            return Failure(CUT, "the answer ended at `max_tokens`, before its JSON did: allow more")
        return _Malformed(answer, str(err))


def _value(text: str, model: type[M]) -> M:
    """The value that an answer holds. Raises MalformedError."""
    faults = []
    for candidate in find_json(text):
        try:
            return model.model_validate(candidate)
        except ValidationError as err:
            fault = err.errors(include_url=False)[0]
            place = ".".join(str(part) for part in fault["loc"]) or "the answer"
            faults.append(f"at {place}: {fault['msg']}")
    raise MalformedError(faults[0] if faults else "no JSON object in it")


def _told(found: Structured[M] | _Malformed | Failure) -> Structured[M] | Failure:
    if isinstance(found, _Malformed):
        shown = excerpt(found.answer.text, SHOWN)
        return Failure(MALFORMED, f"{found.fault}; the answer: {shown}")
    return found
