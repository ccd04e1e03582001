"""Ask a chat model until its answer is sound, a bounded number of times; what was wrong with it has a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from curate.llm.chat import Answer, ChatRequest, Failure
from curate.llm.service import Chat
from curate.ops.spec import Failed

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
SOUND = "none"
"""The fault of an answer that has none."""


@dataclass(frozen=True)
class SoundReply(Generic[T]):
    """The last answer to a request: what was read of it, None where `fault` says why not."""

    value: T | None
    fault: str
    answer: Answer


Read = Callable[[int, Answer], tuple[T | None, str]]
"""From a request's number and an answer to what it says and its fault."""


def ask_sound(chat: Chat, requests: Sequence[ChatRequest], read: Read[T], tries: int) -> list[SoundReply[T] | Failed]:
    """Ask each request, draw by draw, until its answer is sound, at most `tries` times; the draw enters its seed."""
    found: dict[int, SoundReply[T] | Failed] = {}
    left = list(range(len(requests)))
    for draw in range(tries):
        answers = chat.ask([_drawn(requests[n], draw) for n in left])
        for n, answer in zip(left, answers, strict=True):
            if isinstance(answer, Failure):
                found[n] = Failed(answer.error, answer.detail)
            else:
                found[n] = SoundReply(*read(n, answer), answer)
        left = [n for n in left if isinstance(reply := found[n], SoundReply) and reply.fault != SOUND]
        if not left:
            break
    return [found[n] for n in range(len(requests))]


def parse_answer(answer: Answer, model: type[M]) -> tuple[M | None, str]:
    """The answer as the JSON that was asked for, strictly: cut_by_length, not_json, off_schema where it is none."""
    if answer.finish == "length":
        return None, "cut_by_length"
    try:
        return model.model_validate_json(answer.text, strict=True), SOUND
    except ValidationError as err:
        return None, "not_json" if err.errors()[0]["type"] == "json_invalid" else "off_schema"


def _drawn(request: ChatRequest, draw: int) -> ChatRequest:
    seeded = {name: value + draw if name == "seed" else value for name, value in request.parameters.items()}
    return replace(request, draw=draw, parameters=seeded)
