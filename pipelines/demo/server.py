"""HTTP server on loopback for the demo's raw web, with the faults of a real one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.demo.web import DemoWeb, WebAnswer

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
HANG_SECONDS = 120
DRIP_SECONDS = 0.5


class PortTakenError(ValueError):
    """The port that the table's URLs name cannot be served; the message says what to do."""


@contextmanager
def serve(demo: DemoWeb) -> Iterator[None]:
    """Serve `demo.served` on the port that its table names, from a thread of this process, while the block runs.

    Raises PortTakenError if another program has the port.
    """
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready = threading.Event()
    fault: list[OSError] = []

    async def run() -> None:
        try:
            runner = await _start(demo)
        except OSError as err:
            fault.append(err)
            return
        finally:
            ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="demo-server", daemon=True)
    thread.start()
    ready.wait()
    try:
        if fault:
            raise PortTakenError(
                f"the demo's web cannot be served on {HOST}:{demo.port}: {fault[0].strerror or fault[0]}; "
                "stop what uses that port, or choose another one (the URLs, and so the pool, are then other ones)"
            )
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _start(demo: DemoWeb) -> web.AppRunner:
    from aiohttp import web

    app = web.Application()
    app.router.add_get("/{path:.*}", _handler(demo.served))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, demo.port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


def _handler(served: Path):  # type: ignore[no-untyped-def] # aiohttp's types are imported where they are used
    from aiohttp import web

    answers = {p: WebAnswer(**a) for p, a in json.loads((served / "answers.json").read_text(encoding="utf-8")).items()}
    failed_once: set[str] = set()

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = answers.get(request.path)
        if answer is None:
            return web.Response(status=404)
        if answer.act == "moved":
            return web.Response(status=301, headers={"Location": answer.location})
        if answer.act == "flaky" and request.path not in failed_once:
            failed_once.add(request.path)
            return web.Response(status=answer.status)
        if answer.act == "status":
            return web.Response(status=answer.status)
        if answer.act in ("hang", "drip"):
            return await _never_ending(request, answer.act == "drip")
        body = (served / "files" / answer.file).read_bytes()
        return web.Response(body=body, content_type=answer.content_type, headers=answer.headers)

    return handle


async def _never_ending(request: web.Request, drips: bool) -> web.StreamResponse:
    """Say nothing, or a byte at a time, for longer than anybody should wait."""
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "image/png", "Content-Length": "100000"})
    if drips:
        await response.prepare(request)
        with suppress(ConnectionError):
            for _ in range(round(HANG_SECONDS / DRIP_SECONDS)):
                await response.write(b"\x89")
                await asyncio.sleep(DRIP_SECONDS)
        return response
    await asyncio.sleep(HANG_SECONDS)
    return web.Response(status=504)
