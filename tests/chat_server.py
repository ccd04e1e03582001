"""An OpenAI-compatible endpoint on loopback that does what a test's script says, and counts what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from openai.types.chat import ChatCompletion

Script = Callable[[int, dict[str, Any]], Any]
"""By a request's number and body, what to do: a `Reply`, an exception to cut the connection at, or a text to answer."""


@dataclass
class Reply:
    """A reply as it stands; `after_s`: sent so much later; `cut`: so many bytes of it, then the connection ends."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    cut: int | None = None


@dataclass
class ChatServer:
    """What came: bodies, headers and times of the requests; `tokens`: those of all answers that were sent whole."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    tokens: int = 0
    at_once: int = 0
    most_at_once: int = 0

    @property
    def requests(self) -> int:
        return len(self.bodies)


def completion(text: str | None, model: str = "small", finish: str = "stop", tokens: tuple[int, int] = (10, 5)) -> Any:
    """An answer in the form that `openai`'s own types accept."""
    said = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
    }
    ChatCompletion.model_validate(said)
    return said


def error(message: str, code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    """An error as OpenAI's API says it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@contextmanager
def serving(script: Script) -> Iterator[ChatServer]:
    """A server at work in a thread of its own."""
    server = ChatServer()

    async def answer(request: web.Request) -> web.StreamResponse:
        server.times.append(time.monotonic())
        number, body = server.requests, await request.json()
        server.bodies.append(body)
        server.headers.append(dict(request.headers))
        server.at_once += 1
        server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            said = script(number, body)
            reply = Reply(body=completion(said)) if isinstance(said, str) else said
            await asyncio.sleep(reply.after_s)
            return await send(request, reply)
        finally:
            server.at_once -= 1

    async def send(request: web.Request, reply: Reply) -> web.StreamResponse:
        raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        headers = {"Content-Type": "application/json"} | reply.headers
        if reply.cut is None:
            if isinstance(reply.body, dict):
                usage = reply.body.get("usage") or {}
                server.tokens += usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)
            return web.Response(status=reply.status, body=raw, headers=headers)
        response = web.StreamResponse(status=reply.status, headers=headers | {"Content-Length": str(len(raw))})
        await response.prepare(request)
        await response.write(raw[: reply.cut])
        assert request.transport is not None
        request.transport.abort()
        return response

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", answer)
    with on_loopback(app) as server.url:
        yield server


@contextmanager
def on_loopback(app: web.Application) -> Iterator[str]:
    """An application at work in a thread of its own, on a free port; its base URL."""
    loop = asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def stop(runner: web.AppRunner) -> None:
        await runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(stop(runner), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
