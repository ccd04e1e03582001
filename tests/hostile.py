"""A web server on loopback that misbehaves as it is told, and remembers what was asked of it."""

from __future__ import annotations

import asyncio
import io
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from PIL import Image

Reply = Callable[["Site", str, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def picture(color: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (60, 40), kind: str = "jpeg") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, kind)
    return out.getvalue()


JPEG = picture()


def head(status: str, length: int | None, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, *([] if length is None else [f"Content-Length: {length}"])]
    return "\r\n".join([*lines, "", ""]).encode()


class Site:
    """A raw HTTP server in a thread: `pages` maps a path to (status, headers, body) or to a coroutine that writes."""

    def __init__(self, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.address, self.tls = address, tls
        self.pages: dict[str, tuple[str, tuple[str, ...], bytes] | Reply] = {}
        self.connections = self.now = self.most_at_once = 0
        self.requests: list[tuple[float, str, str]] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result()
        self.port = self.server.sockets[0].getsockname()[1]

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, self.address, 0, ssl=self.tls)

    def url(self, path: str = "/ok") -> str:
        return f"http{'s' if self.tls else ''}://{self.address}:{self.port}{path}"

    def close(self) -> None:
        async def end() -> None:
            self.server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = request.split(" ")[1]
                self.requests.append((time.monotonic(), path, request))
                self.now += 1
                self.most_at_once = max(self.most_at_once, self.now)
                try:
                    await self._answer(path, writer)
                finally:
                    self.now -= 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        page = self.pages.get(path.partition("?")[0], ("200 OK", (), JPEG))
        if isinstance(page, tuple):
            status, headers, body = page
            writer.write(head(status, len(body), *headers) + body)
        else:
            await page(self, path, writer)
        await writer.drain()


async def hang(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def late(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(float(path.partition("?")[2]))
    writer.write(head("200 OK", len(JPEG)) + JPEG)


async def endless(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(head("200 OK", None))
    while True:
        writer.write(JPEG * 100)
        await writer.drain()


async def trickle(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(head("200 OK", len(JPEG)))
    for byte in JPEG:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def cut_off(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(head("200 OK", len(JPEG)) + JPEG[:-100])
    await writer.drain()
    raise ConnectionError


async def hang_up(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    raise ConnectionError


async def nonsense(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\x01 this is not http\r\n\r\n")


async def onward(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    step = int(path.partition("?")[2])
    writer.write(head("302 Found", 0, f"Location: {'/ok' if step == 0 else f'/onward?{step - 1}'}"))
