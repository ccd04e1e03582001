"""Requests to a chat model and what comes of them, as plain data; and the key that a request is known by."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

MAX_TOKENS = ("max_tokens", "max_completion_tokens")

_SORTED = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class ChatPicture:
    """A picture in a message. `name` stands for its bytes in the request's key: their SHA-256 in the pool, and how they
    were made smaller, if they were; so a key is had without the bytes being encoded or hashed again."""

    name: str
    data: bytes
    media: str = "image/jpeg"


@dataclass(frozen=True)
class Message:
    """A side's words: texts and pictures in their order."""

    role: Role
    parts: tuple[str | ChatPicture, ...]


@dataclass(frozen=True)
class ChatRequest:
    """One answer that is wanted. `parameters`: temperature, top_p, seed, stop and the like, as the endpoint calls them.

    `schema`: the JSON Schema that the answer shall fulfil. `draw`: which of several answers to the same request.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    draw: int = 0

    def __post_init__(self) -> None:
        if taken := sorted({"model", "messages", "n", "stream", *MAX_TOKENS, "response_format"} & set(self.parameters)):
            raise ValueError(f"parameters: {', '.join(taken)} cannot be set there")

    def key(self, base_url: str, model: str) -> bytes:
        """The name of its answer, 32 bytes of all that could change it but `max_tokens` (see curate.llm.store)."""
        messages = [[m.role, [p if isinstance(p, str) else [p.name, p.media] for p in m.parts]] for m in self.messages]
        said = [base_url, model, messages, dict(self.parameters), self.schema, self.draw]
        return hashlib.sha256(_SORTED.encode(said).encode()).digest()

    def _body(self, model: str, max_tokens_as: str) -> dict[str, Any]:
        """The request as the endpoint takes it."""
        body: dict[str, Any] = {"model": model, "messages": [_message(m) for m in self.messages]}
        body |= {max_tokens_as: self.max_tokens, **self.parameters}
        if self.schema is not None:
            wanted = {"name": "answer", "schema": self.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return body

    def prepare(self, key: bytes, model: str, max_tokens_as: str) -> Prepared:
        """The request with its pictures encoded: worth doing once, and only where no answer is kept."""
        body = json.dumps(self._body(model, max_tokens_as)).encode()
        return Prepared(key, self.max_tokens, self._text_bytes, self._pictures, body)

    @property
    def _text_bytes(self) -> int:
        """The bytes of all its texts as UTF-8: no tokenizer in use makes more tokens of them."""
        texts = [part for m in self.messages for part in m.parts if isinstance(part, str)]
        schema = json.dumps(self.schema) if self.schema is not None else ""
        return sum(len(text.encode("utf-8", "replace")) for text in texts) + len(schema)

    @property
    def _pictures(self) -> int:
        return sum(isinstance(part, ChatPicture) for m in self.messages for part in m.parts)


class Prepared(NamedTuple):
    """A request ready to be sent: its key, its bounds, and its body as JSON."""

    key: bytes
    max_tokens: int
    text_bytes: int
    pictures: int
    body: bytes

    def most_input(self, picture_tokens: int) -> int:
        """The most tokens that it can have; a picture counts for `picture_tokens`."""
        return self.text_bytes + self.pictures * picture_tokens

    def likely_input(self, picture_tokens: int) -> int:
        """About the tokens that it has: a text's are about a third of its bytes."""
        return self.text_bytes // 3 + self.pictures * picture_tokens


@dataclass(frozen=True)
class Answer:
    """The model's words. `finish`: `stop`, or `length` where the answer was cut at `max_tokens`.

    Tokens are the endpoint's own count, or None where it gave none. `nano_usd`: what it cost when it was paid for, in
    billionths of a dollar; `seconds`: from sending to the last byte; `at`: when that was, in seconds since 1970.
    `cached`: it was kept, and not asked for now.
    """

    text: str
    finish: str
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    nano_usd: int = 0
    seconds: float = 0.0
    at: float = 0.0
    cached: bool = False


@dataclass(frozen=True)
class Failure:
    """A request that came to nothing, by its own fault. `error` is a name in snake_case."""

    error: str
    detail: str


def _message(message: Message) -> dict[str, Any]:
    if all(isinstance(part, str) for part in message.parts):  # plain text is what every endpoint takes
        return {"role": message.role, "content": "".join(str(part) for part in message.parts)}
    return {"role": message.role, "content": [_part(part) for part in message.parts]}


def _part(part: str | ChatPicture) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    encoded = base64.b64encode(part.data).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{part.media};base64,{encoded}"}}
