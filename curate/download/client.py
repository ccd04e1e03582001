"""HTTP client over libcurl on an event loop: single requests, a named error for each failure.

libcurl reads and writes; the loop tells it when. It follows no redirect, keeps no cookie, asks no proxy, and opens a
socket only to an address that the guard lets pass.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pycurl

from curate.download.guard import AddressGuard, PrivateAddressError
from curate.download.names import DNS_TTL_S, DnsCache, LookupFailedError
from curate.download.settings import DownloadSettings
from curate.readers.urls import WebUrl

# Long enough to live from one shard to the next, short enough that a walk over 1e6 hosts leaves few idle sockets.
KEEPALIVE_S = 5
IDLE_CONNECTIONS = 4096
BLOCK_BYTES = 256 << 10
# Bodies larger than this grow further only a few at a time, so that many at once cannot fill the memory.
LARGE_BYTES = 4 << 20
LARGE_BODIES = 8
HEAD_BYTES = 256 << 10
# What this machine has no more of: no host's fault.
LACKS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# libcurl's codes that have one meaning: the error's name, and whether trying again may help.
_NAMED = {
    pycurl.E_COULDNT_RESOLVE_HOST: ("dns", True),
    pycurl.E_URL_MALFORMAT: ("bad_url", False),
    pycurl.E_BAD_CONTENT_ENCODING: ("bad_encoding", False),  # of the transfer, which libcurl undoes itself
    **dict.fromkeys((1, 8), ("bad_response", False)),
    **dict.fromkeys((35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91, 98), ("tls", False)),
    100: ("headers_too_large", False),  # a line of more than 100 kB
}


class FetchError(Exception):
    """One attempt that failed: its name, and whether trying again may help."""

    def __init__(self, error: str, detail: str = "", *, again: bool = False) -> None:
        super().__init__(detail)
        self.error, self.detail, self.again = error, detail, again
        self.http_status: int | None = None
        self.retry_after_s: float | None = None
        self.url: WebUrl | None = None


@dataclass(frozen=True)
class Head:
    """An answer's status line and its header lines."""

    status: int
    reason: str
    lines: tuple[bytes, ...]

    @property
    def is_success(self) -> bool:
        """Whether the status says that the body is what was asked for."""
        return 200 <= self.status < 300

    def all(self, name: str) -> list[str]:
        """Every value of a header; its name in lower case."""
        start = name.encode("ascii") + b":"
        values = [line[len(start) :] for line in self.lines if line[: len(start)].lower() == start]
        return [value.decode("utf-8", "surrogateescape").strip() for value in values]

    def get(self, name: str) -> str | None:
        """The first value of a header."""
        return next(iter(self.all(name)), None)


@dataclass(frozen=True)
class HttpAnswer:
    """An HTTP answer, its body as it came: `is_cut` where that was longer than wanted, and reading stopped."""

    head: Head
    body: bytes
    is_cut: bool


Wanted = Callable[[Head], int]
"""How many bytes of a body are wanted, by its head; the connection of a longer one is closed."""


class Client:
    """Makes requests on the running event loop."""

    def __init__(self, settings: DownloadSettings) -> None:
        self._settings = settings
        self.guard = AddressGuard(settings.allow_private)
        self.large = _LargeBodyTurns(LARGE_BODIES)
        self._names = DnsCache()
        self._loop = asyncio.get_running_loop()
        # A selector of their own, which the loop waits for as for one socket: a third of the cost of the loop's.
        self._sockets = selectors.DefaultSelector()
        self._loop.add_reader(self._sockets.fileno(), self._ready)
        self._timer: asyncio.Handle | None = None
        self._idle: list[_Exchange] = []
        self._under_way: dict[pycurl.Curl, asyncio.Future[int]] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._multi.setopt(pycurl.M_MAXCONNECTS, min(IDLE_CONNECTIONS, max(most_files, 64) // 4))

    async def close(self) -> None:
        """Close every connection; no request may be under way."""
        assert not self._under_way
        for exchange in self._idle:
            exchange.curl.close()
        self._multi.close()
        self._set_timer(-1)
        self._loop.remove_reader(self._sockets.fileno())
        self._sockets.close()
        await self._names.close()

    async def get(self, url: WebUrl, timeout_s: float, wanted: Wanted) -> HttpAnswer:
        """Make one request and return its answer, whatever its status, within `timeout_s`. Raises FetchError."""
        connect_s = min(self._settings.connect_timeout_s, timeout_s)
        started = time.monotonic()
        addresses = await self._resolve(url, connect_s)
        spent_s = time.monotonic() - started
        exchange = self._idle.pop() if self._idle else _Exchange(self)
        try:
            exchange.begin(url, addresses, wanted)
            exchange.limit(timeout_s - spent_s, connect_s - spent_s)
            code = await self._perform_exchange(exchange)
            return exchange.end(code)
        finally:
            self.large.leave(exchange)
            self._idle.append(exchange)

    async def _resolve(self, url: WebUrl, within_s: float) -> list[str]:
        """The addresses of the URL's host as libcurl takes them; none where the host is a number already."""
        host = url.host
        if ":" in host or host.rpartition(".")[2].isdigit():
            return []
        try:
            numbers = await self._names.addresses(host, within_s)
        except TimeoutError:
            raise FetchError("connect_timeout", f"no address of {host} in time", again=True) from None
        except LookupFailedError as err:
            raise FetchError("dns", str(err), again=err.again) from None
        written = ",".join(f"[{number}]" if ":" in number else number for number in numbers)
        return [f"+{host}:{url.port}:{written}"]

    async def _perform_exchange(self, exchange: _Exchange) -> int:
        done: asyncio.Future[int] = self._loop.create_future()
        self._under_way[exchange.curl] = done
        self._multi.add_handle(exchange.curl)
        try:
            return await done
        finally:
            if self._under_way.pop(exchange.curl, None):  # given up before its end
                self._multi.remove_handle(exchange.curl)

    def _watch(self, event: int, fd: int, multi: object, data: object) -> None:
        """libcurl says which sockets it waits for; its numbers for reading and writing are those of a selector."""
        watched = fd in self._sockets.get_map()
        if event & pycurl.POLL_INOUT and event != pycurl.POLL_REMOVE:
            (self._sockets.modify if watched else self._sockets.register)(fd, event)
        elif watched:
            self._sockets.unregister(fd)

    def _set_timer(self, wait_ms: int) -> None:
        """libcurl says when it wants to be called without any socket's being ready."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait_ms >= 0:
            self._timer = self._loop.call_later(wait_ms / 1000, self._wait_is_over)

    def _wait_is_over(self) -> None:
        self._timer = None
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._hand_over()

    def _ready(self) -> None:
        for key, events in self._sockets.select(0):
            self._multi.socket_action(key.fd, events)
        self._hand_over()

    def _hand_over(self) -> None:
        """Wake those whose requests have ended."""
        left = 1
        while left:
            left, well, ill = self._multi.info_read()
            for curl, code in [*((curl, 0) for curl in well), *((curl, code) for curl, code, _ in ill)]:
                self._multi.remove_handle(curl)
                done = self._under_way.pop(curl)
                if not done.done():
                    done.set_result(code)

    def common_options(self) -> dict[int, Any]:
        """The libcurl options that all requests share."""
        # Compression is refused because images gain nothing by it; where a server insists, it is undone later.
        given: dict[int, Any] = {
            pycurl.USERAGENT: self._settings.user_agent,
            pycurl.HTTPHEADER: ["Accept: image/*,*/*;q=0.5"],
            pycurl.ACCEPT_ENCODING: "identity",
            pycurl.HTTP_CONTENT_DECODING: 0,
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
            pycurl.PROXY: "",
            pycurl.PATH_AS_IS: 1,
            pycurl.NOSIGNAL: 1,
            pycurl.MAXFILESIZE_LARGE: self._settings.max_bytes,
            pycurl.BUFFERSIZE: BLOCK_BYTES,
            pycurl.MAXAGE_CONN: KEEPALIVE_S,
            pycurl.DNS_CACHE_TIMEOUT: DNS_TTL_S,
        }
        trust = ssl.get_default_verify_paths()
        # With a file alone libcurl parses the certificates once and not for each connection.
        if trust.cafile:
            given[pycurl.CAINFO] = trust.cafile
        elif trust.capath:
            given[pycurl.CAPATH] = trust.capath
        return given


class _Exchange:
    """One of libcurl's handles, used for one request after another, and what it has received of the present one."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lines: list[bytes] = []
        self.curl = pycurl.Curl()
        for option, value in client.common_options().items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._on_body)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._on_socket)

    def begin(self, url: WebUrl, addresses: list[str], wanted: Wanted) -> None:
        """Forget the last request; the next one is for `url`."""
        self._trusted = self._client.guard.trusts(url.host)
        self._wanted = wanted
        self._lines.clear()
        self._blocks: list[bytes] = []
        self._head: Head | None = None
        self._head_size = self._size = self._most = 0
        self._is_cut = self._opened = False
        self._refusal: PrivateAddressError | None = None
        self._lack: OSError | None = None
        # Of the whole URL libcurl would respell the escapes.
        self.curl.setopt(pycurl.URL, f"{url.scheme}://{url.authority}/")
        self.curl.setopt(pycurl.REQUEST_TARGET, url.target)
        self.curl.setopt(pycurl.RESOLVE, addresses)

    def limit(self, total_s: float, connect_s: float) -> None:
        """Limit the seconds of the request, and of its connection."""
        self.curl.setopt(pycurl.TIMEOUT_MS, max(int(total_s * 1000), 1))
        self.curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(int(connect_s * 1000), 1))

    def end(self, code: int) -> HttpAnswer:
        """End the request by libcurl's code: its answer. Raises FetchError, or OSError for what this machine lacks."""
        body, self._blocks = b"".join(self._blocks), []
        if self._head_size > HEAD_BYTES:
            raise FetchError("headers_too_large", f"more than {HEAD_BYTES} bytes")
        if self._head is None and self._lines:
            self._head = _parse_head(self._lines)
        self._is_cut |= code == pycurl.E_FILESIZE_EXCEEDED
        # Of a refusal the head says everything, even where its body did not come whole.
        if self._head is not None and (code == 0 or self._is_cut or not self._head.is_success):
            return HttpAnswer(self._head, body, self._is_cut)
        raise self._lack or self._error_of(code)

    def _on_header(self, line: bytes) -> int | None:
        self._head_size += len(line)
        if self._head_size > HEAD_BYTES:
            return -1
        self._lines.append(line)
        return None

    def _on_body(self, block: bytes) -> int | None:
        if self._head is None:
            self._head = _parse_head(self._lines)
            self._most = self._wanted(self._head) if self._head else 0
        size = self._size + len(block)
        if size > self._most:
            self._is_cut = True
            return -1
        if size > LARGE_BYTES and not self._client.large.take(self):
            return int(pycurl.WRITEFUNC_PAUSE)  # the block will be offered again
        self._size = size
        self._blocks.append(block)
        return None

    def _on_socket(self, purpose: int, to: tuple[int, int, int, tuple[Any, ...]]) -> _QuietSocket | int:
        family, kind, proto, address = to
        try:
            if self._trusted:
                opened = socket.socket(family, kind, proto)
            else:
                opened = self._client.guard.socket((family, kind, proto, "", address))
            quiet = _QuietSocket(opened.detach())
            os.close(os.dup(quiet.fileno()))  # as libcurl will, which does not tell when no more files may be open
        except PrivateAddressError as err:
            self._refusal = err
            return int(pycurl.SOCKET_BAD)
        except OSError as err:
            self._lack = err if err.errno in LACKS else None
            return int(pycurl.SOCKET_BAD)
        self._opened = True
        return quiet

    def _error_of(self, code: int) -> FetchError:
        detail = self.curl.errstr() or f"libcurl's error {code}"
        if code == pycurl.E_COULDNT_CONNECT:
            if self._refusal is not None and not self._opened:
                return FetchError("private_address", f"{self._refusal.address} is {self._refusal.strerror}")
            return _connection_error(self.curl.getinfo(pycurl.OS_ERRNO), detail)
        if code == pycurl.E_OPERATION_TIMEDOUT:
            if not self.curl.getinfo(pycurl.REQUEST_SIZE):
                return FetchError("connect_timeout", detail, again=True)
            return FetchError("timeout", "no complete answer in time", again=True)
        if code in (pycurl.E_GOT_NOTHING, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR, pycurl.E_PARTIAL_FILE):
            return FetchError("truncated_body" if self._head else "connection_reset", detail, again=True)
        error, again = _NAMED.get(code, ("unexpected_error", False))
        return FetchError(error, detail, again=again)


class _QuietSocket:
    """A socket that libcurl duplicates, and that closes in silence when it has done so."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """Its number."""
        return self._fd

    def __del__(self) -> None:
        os.close(self._fd)


class _LargeBodyTurns:
    """Which exchanges may hold a large body; the others wait, paused."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._holding: set[_Exchange] = set()
        self._waiting: deque[_Exchange] = deque()

    def take(self, exchange: _Exchange) -> bool:
        """Take a turn: whether it may go on; if not, it is resumed when one that holds a turn leaves."""
        if exchange in self._holding:
            return True
        if len(self._holding) < self._most:
            self._holding.add(exchange)
            return True
        self._waiting.append(exchange)
        return False

    def leave(self, exchange: _Exchange) -> None:
        """Give the turn to the next that waits."""
        if exchange in self._waiting:
            self._waiting.remove(exchange)
        if exchange in self._holding:
            self._holding.remove(exchange)
            if self._waiting:
                self._waiting.popleft().curl.pause(pycurl.PAUSE_CONT)


def _parse_head(lines: list[bytes]) -> Head | None:
    """The last head among these lines, since interim ones may come before it; None where it has not come whole."""
    start = max((number for number, line in enumerate(lines) if line.startswith(b"HTTP/")), default=0)
    ends = [number for number, line in enumerate(lines) if number > start and not line.strip()]
    if not ends:
        return None
    _, code, reason = [*lines[start].decode("latin-1").split(None, 2), "", ""][:3]
    if code.startswith("1"):
        return None
    return Head(int(code) if code.isdigit() else 0, reason.strip(), tuple(lines[start + 1 : ends[0]]))


def _connection_error(code: int, detail: str) -> FetchError:
    if code == errno.ECONNREFUSED:
        return FetchError("connection_refused", detail, again=True)
    if code in (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE):
        return FetchError("connection_reset", detail, again=True)
    if code == errno.ETIMEDOUT:
        return FetchError("connect_timeout", detail, again=True)
    if code in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        return FetchError("unreachable", detail, again=True)
    return FetchError("connection_error", detail, again=True)
