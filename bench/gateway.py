"""Processor time of a request through the gateway, beside bare aiohttp and the openai client.

    python bench/gateway.py [--requests 3000] [--at-once 64]

One server process on loopback answers at once. All three send the same bodies over kept connections, in turns, five
rounds; the gateway also looks for a kept answer, keeps pace and accounts, and keeps every answer. Figures are of this
process alone, in microseconds of processor time a request: the least of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import openai

from curate.llm.chat import ChatRequest, Message
from curate.llm.gateway import Gateway
from curate.llm.ledger import Ledger
from curate.llm.prices import find_price
from curate.llm.settings import Endpoint
from curate.llm.store import AnswerStore, Limits

ROUNDS = 5
WORDS = "A photograph of a red apple on a wooden table, taken in the morning light by the window. " * 4
SAID = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "small",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": WORDS}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 90, "total_tokens": 190},
}


def serve(port: Any) -> None:
    from aiohttp import web

    raw = json.dumps(SAID).encode()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=raw, content_type="application/json")

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


def requests(count: int, round_: int) -> list[ChatRequest]:
    return [
        ChatRequest((Message("user", (f"{WORDS} {round_} {n}",)),), 200, {"temperature": 0.7}) for n in range(count)
    ]


async def in_flight(
    work: Callable[[ChatRequest], Coroutine[Any, Any, Any]], asked: list[ChatRequest], at_once: int
) -> None:
    """Do the work for all, so many at once."""
    left = iter(asked)

    async def one_after_another() -> None:
        for request in left:
            await work(request)

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))


async def bare(url: str, asked: list[ChatRequest], at_once: int) -> None:
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:

        async def post(request: ChatRequest) -> None:
            body = request.prepare(b"", "small", "max_tokens").body
            async with session.post(f"{url}/chat/completions", data=body) as reply:
                said = json.loads(await reply.read())
                assert said["choices"][0]["message"]["content"]

        await in_flight(post, asked, at_once)


async def client(url: str, asked: list[ChatRequest], at_once: int) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as api:

        async def post(request: ChatRequest) -> None:
            said = await api.chat.completions.create(
                model="small",
                messages=[{"role": "user", "content": str(request.messages[0].parts[0])}],
                max_tokens=200,
                temperature=0.7,
            )
            assert said.choices[0].message.content

        await in_flight(post, asked, at_once)


async def ours(url: str, asked: list[ChatRequest], at_once: int, folder: Path) -> None:
    endpoint = Endpoint.model_validate({"url": url, "model": "small", "key": None, "concurrency": at_once})
    ledger = Ledger(AnswerStore(folder), "run", Limits())
    async with Gateway(endpoint, ledger, find_price(endpoint)) as gateway:

        async def post(request: ChatRequest) -> None:
            key = request.key(url, "small")
            if gateway.find(key, request.max_tokens) is None:
                await gateway.ask(request.prepare(key, "small", "max_tokens"))

        await in_flight(post, asked, at_once)


def cpu(work: Coroutine[Any, Any, None], count: int) -> float:
    before = time.process_time()
    asyncio.run(work)
    return (time.process_time() - before) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--at-once", type=int, default=64)
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    url, count = f"http://127.0.0.1:{here.recv()}/v1", options.requests
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as made:
        for round_ in range(ROUNDS):
            asked, few = requests(count, round_), requests(count // 5, round_)
            times.setdefault("aiohttp", []).append(cpu(bare(url, asked, options.at_once), count))
            times.setdefault("gateway", []).append(cpu(ours(url, asked, options.at_once, Path(made)), count))
            times.setdefault("gateway, all kept", []).append(cpu(ours(url, asked, options.at_once, Path(made)), count))
            times.setdefault("openai", []).append(cpu(client(url, few, options.at_once), len(few)))
        store, asked = AnswerStore(Path(made)), requests(count, 0)
        keys = [request.key(url, "small") for request in asked]
        before = time.process_time()
        assert all(store.find(key, 200) for key in keys)
        times["a kept answer, its key known"] = [(time.process_time() - before) / count * 1e6]
        store.close()
    least = {name: min(found) for name, found in times.items()}
    for name, found in least.items():
        ratio = found / least["aiohttp"]
        print(f"{name:30} {found:8.1f} us  {1e6 / found:8,.0f}/s of a processor  {ratio:6.2f} of aiohttp")


if __name__ == "__main__":
    main()
