"""One gateway for all workers of a run, in a thread of the driver: asked there, or over a socket.

A worker looks first whether an answer is kept, by the request's key alone, and encodes pictures only where none is.
When a worker dies, what it asked for is still answered and kept: it was on its way, and is paid for.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import json
import secrets
import socket
import struct
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

from curate.lacks import MachineError
from curate.llm.batch_gateway import BatchGateway
from curate.llm.chat import Answer, ChatRequest, Failure, Prepared
from curate.llm.gateway import Gateway
from curate.llm.ledger import Ledger
from curate.llm.prices import find_price
from curate.llm.settings import Endpoint
from curate.llm.store import NOTHING, Account, AnswerStore, Limits, Sum, total

CONNECT_S = 20.0

COLLECTED_EVERY = (20_000, 20, 100)
"""Thresholds of the garbage collector while requests are on their way: what they hold is live, and looking through it
as often as Python does by itself takes a fifth of the gateway's time."""

SPARE_BYTES = 1 << 16
"""Room on the disk that is laid by for each answer that may be on its way."""

_LENGTHS = struct.Struct(">II")
"""The lengths of a frame's two parts: what it says, as JSON, and a request's body."""

T = TypeVar("T")


class Chat(Protocol):
    """A chat model that can be asked for many answers at once. `takes_schema`: whether it enforces JSON Schemas."""

    @property
    def takes_schema(self) -> bool:
        """Whether the endpoint enforces a request's `schema`."""

    def ask(self, requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        """The answers in the order of the requests. Raises MachineError where the run ends."""


class GatewayService:
    """The gateway of a run, while `with` lasts; `folder`: where its answers are kept; `account`: whose budget it is."""

    def __init__(self, endpoint: Endpoint, folder: Path, account: str, ip: str = "127.0.0.1") -> None:
        self._endpoint, self._price = endpoint, find_price(endpoint)
        self._store, self._account, self._ip = (
            AnswerStore(folder, endpoint.durable, endpoint.concurrency * SPARE_BYTES),
            account,
            ip,
        )
        self._token = secrets.token_hex(16)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="curate-llm", daemon=True)
        self._talks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> GatewayService:
        self._collected_every = gc.get_threshold()
        gc.set_threshold(*COLLECTED_EVERY)
        self._thread.start()
        try:
            self._do(self._open())
        except BaseException:
            self._end()
            self._store.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._do(self._close())
        finally:
            self._end()

    @property
    def takes_schema(self) -> bool:
        """See `Chat`."""
        return self._endpoint.json_schema

    @property
    def address(self) -> str:
        """The place that `RemoteChat` connects to."""
        return f"{self._token}@{self._ip}:{self._server.sockets[0].getsockname()[1]}"

    def account(self) -> Account:
        """The sums of this account over all runs."""
        return self._store.account(self._account)

    def ask(self, requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        """See `Chat`."""
        return self._do(self._ask(requests))

    async def _ask(self, requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        known, asked_as = self._endpoint.known, (self._endpoint.model, self._endpoint.max_tokens_as)
        keys = [request.key(*known) for request in requests]
        found = self._gateway.find([(key, r.max_tokens) for key, r in zip(keys, requests, strict=True)])
        missing = [number for number, answer in enumerate(found) if answer is None]
        asked = (requests[number].prepare(keys[number], *asked_as) for number in missing)
        tasks = [self._loop.create_task(self._gateway.ask(request)) for request in asked]
        try:
            told = dict(zip(missing, await asyncio.gather(*tasks), strict=True))
        finally:
            await asyncio.gather(*tasks, return_exceptions=True)
        return [answer or told[number] for number, answer in enumerate(found)]

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        limits, price = Limits.of(self._endpoint.budget), self._price
        self._gateway: Gateway | BatchGateway
        if self._endpoint.batch is not None:
            self._gateway = BatchGateway(self._endpoint, self._store, self._account, limits, price)
        else:
            self._gateway = Gateway(self._endpoint, Ledger(self._store, self._account, limits), price)
        await self._gateway.__aenter__()
        self._server = await asyncio.start_server(self._talk, self._ip, 0)

    async def _close(self) -> None:
        self._server.close()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._gateway.__aexit__()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        gc.set_threshold(*self._collected_every)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one worker until its connection ends."""
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            async with asyncio.timeout(CONNECT_S):
                if not hmac.compare_digest(await reader.readline(), f"{self._token}\n".encode()):
                    return
            _write_frame(writer, _hello(self._endpoint))
            while True:
                said, body = await _read_frame(reader)
                if body:
                    answering = self._loop.create_task(self._answer(said, body, writer))
                    self._talks.add(answering)
                    answering.add_done_callback(self._talks.discard)
                else:
                    self._tell_kept(said, writer)
        except (OSError, ValueError, EOFError, TimeoutError, asyncio.CancelledError):
            pass  # a worker that died, or somebody else
        finally:
            self._talks.discard(talk)
            writer.transport.abort()

    def _tell_kept(self, said: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        """Tell which of a worker's requests have an answer."""
        try:
            known = self._gateway.find([(bytes.fromhex(key), tokens) for key, tokens in said["keys"]])
            _write_frame(writer, {"kept": [asdict(answer) if answer else None for answer in known]})
        except MachineError as err:
            _write_frame(writer, {"end": str(err)})

    async def _answer(self, said: Mapping[str, Any], body: bytes, writer: asyncio.StreamWriter) -> None:
        key, max_tokens, text_bytes, pictures = said["request"]
        told: dict[str, Any]
        try:
            request = Prepared(bytes.fromhex(key), max_tokens, text_bytes, pictures, body)
            # Another worker's may have come since this one looked.
            (known,) = self._gateway.find([(request.key, max_tokens)])
            found = known or await self._gateway.ask(request)
            told = {"answer" if isinstance(found, Answer) else "failure": asdict(found)}
        except MachineError as err:
            told = {"end": str(err)}
        except Exception as err:  # noqa: BLE001 - whoever asked waits for a word, whatever went wrong here
            told = {"end": f"the gateway failed: {type(err).__name__}: {err}; this is our bug"}
        _write_frame(writer, {"number": said["number"], **told})


class RemoteChat:
    """The gateway of a run, asked by a worker; one connection, for one thread."""

    def __init__(self, address: str) -> None:
        self.asked = NOTHING
        """What the answers so far cost when they were paid for, whether now or before."""
        token, _, place = address.partition("@")
        ip, _, port = place.rpartition(":")
        try:
            self._socket = socket.create_connection((ip, int(port)), timeout=CONNECT_S)
        except OSError as err:
            raise MachineError(f"the run's driver is not to be reached at {place}: {err}") from None
        self._stream = self._socket.makefile("rb")
        try:
            self._socket.sendall(f"{token}\n".encode())
            said = self._receive()
        except OSError as err:
            self.close()
            raise MachineError(f"the run's driver does not answer at {place}: {err}") from None
        self._socket.settimeout(None)
        self._known: tuple[str, str] = tuple(said["known"])
        self._asked_as: tuple[str, str] = (said["model"], said["max_tokens_as"])
        self.takes_schema: bool = said["json_schema"]

    def ask(self, requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        """See `Chat`."""
        keys = [request.key(*self._known) for request in requests]
        try:
            self._send({"keys": [[key.hex(), r.max_tokens] for key, r in zip(keys, requests, strict=True)]})
            found: list[Answer | Failure | None] = [_answer_of(kept) for kept in self._receive()["kept"]]
            missing = [number for number, known in enumerate(found) if known is None]
            for number in missing:
                prepared = requests[number].prepare(keys[number], *self._asked_as)
                key, *bounds, body = prepared
                self._send({"number": number, "request": [key.hex(), *bounds]}, body)
            for _ in missing:
                told = self._receive()
                found[told["number"]] = _answer_of(told.get("answer")) or Failure(**told["failure"])
        except OSError as err:
            raise MachineError(f"the run's driver is gone: {err}") from None
        self.asked = total([self.asked, *(_cost_of(one) for one in found if isinstance(one, Answer))])
        return [one for one in found if one is not None]

    def close(self) -> None:
        """End the connection."""
        self._stream.close()
        self._socket.close()

    def _send(self, said: Mapping[str, Any], body: bytes = b"") -> None:
        text = json.dumps(said).encode()
        self._socket.sendall(_LENGTHS.pack(len(text), len(body)) + text + body)

    def _receive(self) -> dict[str, Any]:
        """What the driver says next. Raises MachineError where it says that the run ends."""
        head = self._stream.read(_LENGTHS.size)
        if len(head) < _LENGTHS.size:
            raise ConnectionError("it closed the connection")
        said: dict[str, Any] = json.loads(self._stream.read(_LENGTHS.unpack(head)[0]))
        if "end" in said:
            raise MachineError(said["end"])
        return said


def _cost_of(answer: Answer) -> Sum:
    return Sum(1, (answer.input_tokens or 0) + (answer.output_tokens or 0), answer.nano_usd)


def _hello(endpoint: Endpoint) -> dict[str, Any]:
    """What a worker has to know to name and write requests."""
    said: dict[str, Any] = endpoint.model_dump(include={"model", "max_tokens_as", "json_schema"})
    return said | {"known": endpoint.known}


def _answer_of(kept: Mapping[str, Any] | None) -> Answer | None:
    return Answer(**kept) if kept is not None else None


async def _read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    said, body = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    return json.loads(await reader.readexactly(said)), await reader.readexactly(body)


def _write_frame(writer: asyncio.StreamWriter, said: Mapping[str, Any]) -> None:
    text = json.dumps(said).encode()
    if not writer.is_closing():
        writer.write(_LENGTHS.pack(len(text), 0) + text)
