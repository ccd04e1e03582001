"""Processor time of a request through the gateway, beside bare aiohttp and the openai client.

    python bench/gateway.py [--requests 3000] [--at-once 64]
    python bench/gateway.py --rate 3000 [--seconds 150]

One server process on loopback answers at once. All three send the same bodies over kept connections, in turns, five
rounds; the gateway, asked as an op asks it, also looks for kept answers, keeps pace and accounts, and keeps every
answer. What a worker finds kept goes through its socket, both ends counted. Figures are of this
process alone, in microseconds of processor time a request: the least of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import openai

from curate.llm.chat import Answer, ChatRequest, Message
from curate.llm.service import GatewayService, RemoteChat
from curate.llm.settings import Endpoint
from curate.llm.store import AnswerStore

ROUNDS = 5
WORKERS = 8
BATCH = 256
"""Requests that an op asks for at once."""

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


def ours(url: str, asked: list[ChatRequest], at_once: int, folder: Path) -> None:
    endpoint = Endpoint.model_validate({"url": url, "model": "small", "key": None, "concurrency": at_once})
    with GatewayService(endpoint, folder, "run") as service:
        for start in range(0, len(asked), BATCH):
            assert all(isinstance(answer, Answer) for answer in service.ask(asked[start : start + BATCH]))


def of_a_worker(url: str, asked: list[ChatRequest], folder: Path) -> tuple[float, float]:
    """Microseconds of processor time for a kept answer that a worker asks for, and of it those for its key."""
    endpoint = Endpoint.model_validate({"url": url, "model": "small", "key": None})
    with GatewayService(endpoint, folder, "run") as service:
        chat, before = RemoteChat(service.address), time.process_time()
        for start in range(0, len(asked), BATCH):
            assert all(isinstance(answer, Answer) for answer in chat.ask(asked[start : start + BATCH]))
        whole = time.process_time() - before
        chat.close()
    before = time.process_time()
    for request in asked:
        request.key(*endpoint.known)
    return whole / len(asked) * 1e6, (time.process_time() - before) / len(asked) * 1e6


def cpu(work: Callable[[], object], count: int) -> float:
    before = time.process_time()
    work()
    return (time.process_time() - before) / count * 1e6


def worker(address: str, number: int, count: int) -> None:
    chat = RemoteChat(address)
    for start in range(0, count, 64):
        chat.ask(requests(64, number * count + start))
    chat.close()


def keep_the_rate(url: str, per_minute: int, seconds: int) -> None:
    """Eight workers under one limit: how much of it is used, and the most in any 60 s, by when answers came."""
    each = per_minute * seconds // 60 // WORKERS // 64 * 64
    limits = {"requests_per_minute": per_minute, "concurrency": 64}
    endpoint = Endpoint.model_validate({"url": url, "model": "small", "key": None, **limits})
    with tempfile.TemporaryDirectory() as made, GatewayService(endpoint, Path(made), "run") as service:
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=worker, args=(service.address, n, each)) for n in range(WORKERS)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
        store = AnswerStore(Path(made))
        rows = store.db.execute("SELECT at - seconds FROM answers ORDER BY 1").fetchall()
        store.close()
    times = [at for (at,) in rows]
    most = max(bisect.bisect_right(times, at + 60) - number for number, at in enumerate(times))
    used = (len(times) - 1) / (times[-1] - times[0]) * 60 / per_minute
    print(f"{len(times)} requests of {WORKERS} workers, {per_minute} a minute allowed: {used:.3f} of the rate used, ")
    print(f"{most} at most in any 60 s, {most / per_minute:.3f} of the limit")


def keep_processors(url: str, count: int, at_once: int) -> None:
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for round_ in range(ROUNDS):
            asked, few = requests(count, round_), requests(count // 5, round_)
            works: dict[str, Callable[[], object]] = {
                "aiohttp": partial(_run, bare, url, asked, at_once),
                "gateway": partial(ours, url, asked, at_once, folder),
                "gateway, all kept": partial(ours, url, asked, at_once, folder),
                "openai": partial(_run, client, url, few, at_once),
            }
            for name, work in works.items():
                times.setdefault(name, []).append(cpu(work, len(few) if name == "openai" else count))
        whole, key = zip(*(of_a_worker(url, requests(count, 0), folder) for _ in range(ROUNDS)), strict=True)
        times["a worker's, kept, with its key"] = list(whole)
        times["a worker's, kept, key known"] = [a - b for a, b in zip(whole, key, strict=True)]
    least = {name: min(found) for name, found in times.items()}
    for name, found in least.items():
        ratio = found / least["aiohttp"]
        print(f"{name:30} {found:8.1f} us  {1e6 / found:8,.0f}/s of a processor  {ratio:6.2f} of aiohttp")


def _run(work: Callable[..., Coroutine[Any, Any, None]], *how: Any) -> None:
    asyncio.run(work(*how))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--rate", type=int, help="Requests a minute: measure how well that is kept, instead.")
    parser.add_argument("--seconds", type=int, default=150)
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{here.recv()}/v1"
    if options.rate:
        keep_the_rate(url, options.rate, options.seconds)
    else:
        keep_processors(url, options.requests, options.at_once)


if __name__ == "__main__":
    main()
