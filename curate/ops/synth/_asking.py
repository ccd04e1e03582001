"""Ask a chat model until its answer is sound, a bounded number of times; what was wrong with it has a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pydantic import BaseModel

from curate.llm.chat import Answer, ChatRequest
from curate.llm.service import Chat
from curate.llm.structured import CUT, MALFORMED, Structured, ask_structured
from curate.ops.spec import Failed
from curate.ops.synth._tries import SOUND, waves

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class SoundReply(Generic[T]):
    """The last answer to a request: what was read of it, None where `fault` says why not; `answer`: None where it had
    another structure than was asked for."""

    value: T | None
    fault: str
    answer: Answer | None


Read = Callable[[int, M], tuple[T | None, str]]
"""From a request's number and the value of its answer to what it says and its fault."""


def ask_sound(
    chat: Chat, requests: Sequence[ChatRequest], form: type[M], read: Read[M, T], tries: int
) -> list[SoundReply[T] | Failed]:
    """Ask each request, draw by draw, until its answer is sound, at most `tries` times; the draw enters its seed.

    Answers have the structure of `form`; those of an endpoint that enforces none are asked to be repaired once a draw.
    Its faults are `malformed_answer` and `cut_by_length`.
    """
    found: dict[int, SoundReply[T] | Failed] = {}

    def is_open(n: int) -> bool:
        return n not in found or (isinstance(reply := found[n], SoundReply) and reply.fault != SOUND)

    for draw, left in waves(range(len(requests)), is_open, tries):
        drawn = [_drawn(requests[n], draw) for n in left]
        for n, one in zip(left, ask_structured(chat, drawn, form, repair=not chat.takes_schema), strict=True):
            if isinstance(one, Structured):
                found[n] = SoundReply(*read(n, one.value), one.answer)
            elif one.error in (MALFORMED, CUT):
                found[n] = SoundReply(None, one.error, None)
            else:
                found[n] = Failed(one.error, one.detail)
    return [found[n] for n in range(len(requests))]


def _drawn(request: ChatRequest, draw: int) -> ChatRequest:
    seeded = {name: value + draw if name == "seed" else value for name, value in request.parameters.items()}
    return replace(request, draw=draw, parameters=seeded)
