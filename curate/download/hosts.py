"""Turns at hosts: so many requests at once, quiet where it was asked for, rest for a host that keeps failing.

`LocalHosts` keeps the account for one event loop. Where a run has several workers, `HostServer` keeps it for all of
them in the driver, and each worker's downloads ask through `RemoteHosts`, over a connection of their own: when a worker
dies its connection ends, and what it held is free at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import itertools
import json
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

DOWN_S = 60
CONNECT_S = 20
# A node that goes without a word is noticed within half a minute, where the system can be told so.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


class HostDownError(Exception):
    """A host that is not asked, since its last `failures` requests failed."""

    def __init__(self, failures: int) -> None:
        super().__init__(failures)
        self.failures = failures


class DriverGoneError(ConnectionError):
    """The run's driver cannot be asked any more: nobody says how many requests a host still bears."""


class Hosts(Protocol):
    """Turns at hosts; each that was entered must be left."""

    async def enter(self, host: str) -> int:
        """Wait for a turn at this host and return its number. Raises HostDownError, DriverGoneError."""

    def leave(self, turn: int, failed: bool | None, quiet_s: float = 0.0) -> None:
        """Give a turn back: whether the host failed (None where nothing was learnt), and the quiet that it wants."""

    async def close(self) -> None:
        """Let go of what it holds; no turn may be waited for."""


class _Host:
    __slots__ = ("down_until", "failures", "quiet_until", "taken", "timer", "waiting")

    def __init__(self) -> None:
        self.failures = 0
        self.quiet_until = self.down_until = 0.0
        self.taken: set[int] = set()
        self.waiting: deque[tuple[int, Callable[[int], Any]]] = deque()  # among them some that were given up
        self.timer: asyncio.TimerHandle | None = None


class LocalHosts:
    """Turns at hosts for the running event loop, first come first served."""

    def __init__(self, per_host: int, host_failures: int) -> None:
        self._per_host, self._host_failures = per_host, host_failures
        self._loop = asyncio.get_running_loop()
        self._hosts: dict[str, _Host] = {}
        self._turns: dict[int, str] = {}
        self._numbers = itertools.count()

    async def enter(self, host: str) -> int:
        """Wait for a turn at this host and return its number. Raises HostDownError."""
        answered: asyncio.Future[int] = self._loop.create_future()
        turn = self.ask(host, functools.partial(_resolve, answered))
        try:
            failures = await answered
        except asyncio.CancelledError:
            self.leave(turn, None)
            raise
        if failures:
            raise HostDownError(failures)
        return turn

    def ask(self, host: str, answer: Callable[[int], Any]) -> int:
        """Ask for a turn: `answer` is told 0 when it has come, or how often a host failed that is left alone."""
        turn = next(self._numbers)
        self._turns[turn] = host
        self._hosts.setdefault(host, _Host()).waiting.append((turn, answer))
        self._serve(host)
        return turn

    def leave(self, turn: int, failed: bool | None, quiet_s: float = 0.0) -> None:
        """Give a turn back, whether or not it had come; one that was refused is gone already."""
        name = self._turns.pop(turn, None)
        if name is None:
            return
        host = self._hosts[name]
        host.taken.discard(turn)
        if quiet_s > 0:
            host.quiet_until = max(host.quiet_until, self._loop.time() + quiet_s)
        if failed is not None:
            host.failures = host.failures + 1 if failed else 0
            if host.failures >= self._host_failures:
                host.down_until = self._loop.time() + DOWN_S
        self._serve(name)

    async def close(self) -> None:
        """Forget all hosts."""
        for host in self._hosts.values():
            if host.timer is not None:
                host.timer.cancel()
        self._hosts.clear()

    def _serve(self, name: str) -> None:
        """Answer those that wait, as far as this host allows; forget a host of which there is nothing to know."""
        host, now = self._hosts[name], self._loop.time()
        while host.waiting:
            turn, answer = host.waiting[0]
            if now < host.down_until:
                self._turns.pop(turn, None)
                answer(host.failures)
            elif turn in self._turns:
                if len(host.taken) >= self._per_host or now < host.quiet_until:
                    break
                host.taken.add(turn)
                answer(0)
            host.waiting.popleft()
        if host.waiting and now < host.quiet_until and host.timer is None:
            host.timer = self._loop.call_at(host.quiet_until, self._quiet_is_over, name)
        if not (host.waiting or host.taken or host.timer) and now >= max(host.quiet_until, host.down_until):
            del self._hosts[name]

    def _quiet_is_over(self, name: str) -> None:
        self._hosts[name].timer = None
        self._serve(name)


def _resolve(answered: asyncio.Future[int], failures: int) -> None:
    if not answered.done():  # else it was given up meanwhile
        answered.set_result(failures)


class HostServer:
    """Keeps the account of hosts for all workers of a run, in a thread of the driver; `with` gives its address."""

    def __init__(self, per_host: int, host_failures: int, ip: str = "127.0.0.1") -> None:
        self._limits, self._ip = (per_host, host_failures), ip
        self._token = secrets.token_hex(16)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="curate-hosts", daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return f"{self._token}@{self._ip}:{server.sockets[0].getsockname()[1]}"

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        self._hosts = LocalHosts(*self._limits)
        self._server = await asyncio.start_server(self._talk, self._ip, 0)
        return self._server

    async def _stop(self) -> None:
        self._server.close()
        talks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await self._hosts.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one worker's downloads until their connection ends; then all that they held is free."""
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        turns: dict[int, int] = {}
        lines = _Lines(writer)
        try:
            async with asyncio.timeout(CONNECT_S):
                if not hmac.compare_digest(await reader.readline(), f"{self._token}\n".encode()):
                    return
            while line := await reader.readline():
                number, *said = json.loads(line)
                if isinstance(said[0], str):
                    turns[number] = self._hosts.ask(said[0], functools.partial(lines.say, number))
                else:
                    self._hosts.leave(turns.pop(number), *said)
        except (OSError, ValueError, TimeoutError, asyncio.CancelledError):
            pass  # a worker that died, or somebody else
        finally:
            for turn in turns.values():
                self._hosts.leave(turn, None)
            writer.transport.abort()


class RemoteHosts:
    """Turns at hosts from the account of the run's driver."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._lines = _Lines(writer)
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._is_gone = False
        self._listening = asyncio.ensure_future(self._listen(reader))

    @staticmethod
    async def connect(address: str) -> RemoteHosts:
        """Connect to a HostServer. Raises DriverGoneError."""
        token, _, place = address.partition("@")
        ip, _, port = place.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(ip, int(port))
        except OSError as err:
            raise DriverGoneError(f"the run's driver is not to be reached at {place}: {err or 'no answer'}") from None
        writer.write(f"{token}\n".encode())
        return RemoteHosts(reader, writer)

    async def enter(self, host: str) -> int:
        """Wait for a turn at this host and return its number. Raises HostDownError, DriverGoneError."""
        if self._is_gone:
            raise DriverGoneError("the run's driver is gone")
        turn = next(self._numbers)
        answered = self._waiting[turn] = asyncio.get_running_loop().create_future()
        self._lines.say(turn, host)
        try:
            failures = await answered
        except asyncio.CancelledError:
            self.leave(turn, None)
            raise
        finally:
            self._waiting.pop(turn, None)
        if failures:
            self.leave(turn, None)
            raise HostDownError(failures)
        return turn

    def leave(self, turn: int, failed: bool | None, quiet_s: float = 0.0) -> None:
        """Give a turn back."""
        self._lines.say(turn, failed, quiet_s)

    async def close(self) -> None:
        """End the connection, and with it every turn."""
        self._listening.cancel()
        self._writer.transport.abort()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                turn, failures = json.loads(line)
                if (waiting := self._waiting.get(turn)) is not None:
                    _resolve(waiting, failures)
        self._is_gone = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(DriverGoneError("the run's driver is gone"))


class _Lines:
    """Lines of JSON to a peer, those of one round of the event loop in one packet."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._ready: list[str] = []

    def say(self, *values: object) -> None:
        """Send a list of values."""
        if not self._ready:
            self._loop.call_soon(self._send)
        self._ready.append(json.dumps(values))

    def _send(self) -> None:
        ready, self._ready = self._ready, []
        if not self._writer.is_closing():
            self._writer.write("\n".join([*ready, ""]).encode())


_of_run: str | None = None


def share_hosts(address: str | None) -> None:
    """Let the downloads that are made in this process from now on ask the HostServer at `address`; none if None."""
    global _of_run
    _of_run = address


async def open_hosts(per_host: int, host_failures: int) -> Hosts:
    """The account of hosts for the running loop: the run's where it has one. Raises DriverGoneError."""
    return LocalHosts(per_host, host_failures) if _of_run is None else await RemoteHosts.connect(_of_run)
