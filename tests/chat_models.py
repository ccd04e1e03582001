"""Ops that ask a chat model, at work against a scripted endpoint through the gateway of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chat_server import ChatServer, Script, serving

from curate.llm.model import ChatModel, Gateways, share_chats
from curate.llm.settings import Endpoint


@contextmanager
def chatting(script: Script, out: Path) -> Iterator[tuple[ChatModel, ChatServer]]:
    """A chat model that answers as a script says, and the server that counts."""
    out.mkdir(parents=True, exist_ok=True)
    with serving(script) as server, Gateways(out) as gateways:
        chat = ChatModel("writer", Endpoint(url=server.url, model="small", key=None))
        share_chats(gateways.addresses([chat]))
        yield chat, server


def told(body: dict[str, object]) -> str:
    """All that a request tells the model."""
    messages = body["messages"]
    assert isinstance(messages, list)
    return "\n".join(message["content"] for message in messages)
