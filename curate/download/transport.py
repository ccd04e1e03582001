"""One URL at a time over shared connections: politeness a host, redirects, limits, retries, opt-out headers.

Lives on one event loop. Each way that a request can end has a name; nothing here raises for what a server does.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from curate.download.fetched import Fetched, sniff
from curate.download.guard import BadUrlError, Guard, PrivateAddressError, parse_url
from curate.download.settings import DownloadSettings

REDIRECTS = frozenset((301, 302, 303, 307, 308))
DNS_TTL_S = 600
DOWN_S = 60
# Long enough to live from one shard to the next, short enough that a walk over 1e6 hosts leaves few idle sockets.
KEEPALIVE_S = 5
# An error page of at most this size is read to its end, because that is cheaper than a new connection.
DRAIN_BYTES = 64 << 10
# Bodies larger than this grow further only a few at a time, so that many at once cannot fill the memory.
LARGE_BYTES = 4 << 20
LARGE_BODIES = 8
# c-ares and getaddrinfo: the name does not exist or has no address. Every other lookup error may pass.
NO_SUCH_NAME = frozenset((1, 4, 8, -2, -5))


class FetchError(Exception):
    """One attempt that failed: its name, and whether trying again may help."""

    def __init__(self, error: str, detail: str = "", *, again: bool = False) -> None:
        super().__init__(detail)
        self.error, self.detail, self.again = error, detail, again
        self.http_status: int | None = None
        self.retry_after_s: float | None = None
        self.url: URL | None = None


@dataclass(frozen=True)
class _Answer:
    status: int
    url: URL
    body: bytes
    ext: str | None


@dataclass
class _Host:
    gate: asyncio.Semaphore
    users: int = 0
    quiet_until: float = 0.0
    failures: int = 0
    down_until: float = 0.0

    def pause_s(self) -> float:
        """Seconds of quiet that this host asked for; none while it is given up on, since nobody asks it then."""
        now = time.monotonic()
        return 0.0 if now < self.down_until else max(self.quiet_until - now, 0.0)


@dataclass
class Transport:
    """Fetches URLs under `settings`, starting requests while `room` is set; for one running event loop."""

    settings: DownloadSettings
    room: asyncio.Event
    _hosts: dict[str, _Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.settings.concurrency)
        self._large = asyncio.Semaphore(LARGE_BODIES)
        self._guard = Guard(self.settings.allow_private)
        self._guarded = _session(self.settings, self._guard)
        # Hosts allowed by name have connections of their own: a pooled one is never shared with the rest.
        self._trusted = _session(self.settings, None)

    async def close(self) -> None:
        """Close every connection."""
        await self._guarded.close()
        await self._trusted.close()

    async def fetch(self, key: str, text: str | None) -> Fetched:
        """The outcome of one URL after at most `retries` further attempts; the body without its sha256 yet."""
        try:
            url = parse_url(text)
        except BadUrlError as err:
            return Fetched(key, text, "failed_to_download", err.error, str(err))
        attempts, got = await self._insist(url)
        if isinstance(got, FetchError):
            return Fetched(
                key, text, "failed_to_download", got.error, got.detail[:500], got.http_status, str(got.url),
                attempts=attempts,
            )  # fmt: skip
        return Fetched(
            key, text, "success", http_status=got.status, final_url=str(got.url), body=got.body,
            attempts=attempts, ext=got.ext,
        )  # fmt: skip

    async def _insist(self, url: URL) -> tuple[int, _Answer | FetchError]:
        """The number of attempts made, and the answer or the last failure."""
        failure: FetchError | None = None
        for attempt in itertools.count(1):
            try:
                return attempt, await self._attempt(url)
            except FetchError as err:
                if err.error == "host_down":  # nothing was asked: what this row itself met says more
                    return attempt - 1, failure or err
                failure = err
            wait_s = self._wait_before_retry(failure, str(url), attempt)
            if wait_s is None:
                break
            await asyncio.sleep(wait_s)
        assert failure is not None
        return attempt, failure

    def _wait_before_retry(self, err: FetchError, url: str, attempt: int) -> float | None:
        settings = self.settings
        if not err.again or attempt > settings.retries:
            return None
        if err.retry_after_s is not None and err.retry_after_s > settings.retry_after_max_s:
            return None
        return max(backoff_s(url, attempt, settings.backoff_s), err.retry_after_s or 0.0)

    async def _attempt(self, url: URL) -> _Answer:
        """Follow redirects to an answer within `timeout_s`, the turns waited for not counted. Raises FetchError."""
        left_s = self.settings.timeout_s
        seen = {url}
        try:
            for _ in range(self.settings.max_redirects + 1):
                assert url.host is not None
                async with self._turn(url.host) as host:
                    started = time.monotonic()
                    answer = await self._ask(host, url, left_s)
                    left_s = max(left_s - (time.monotonic() - started), 0.001)
                if isinstance(answer, _Answer):
                    return answer
                if answer in seen:
                    raise FetchError("redirect_loop", f"back to {answer}")
                seen.add(answer)
                url = answer
            raise FetchError("too_many_redirects", f"more than {self.settings.max_redirects}")
        except FetchError as err:
            err.url = url
            raise
        except BadUrlError as err:  # where a redirect points
            refused = FetchError(err.error, f"redirected by {url}: {err}")
            refused.url = url
            raise refused from None

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[_Host]:
        """Wait for a place at this host, then for one of ours: rows that wait for a slow host hold up nobody else."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(asyncio.Semaphore(self.settings.per_host))
        host.users += 1
        try:
            async with host.gate:
                while (pause_s := host.pause_s()) > 0:
                    await asyncio.sleep(pause_s)
                async with self._slots:
                    await self.room.wait()
                    yield host
        finally:
            host.users -= 1
            if not host.users and max(host.quiet_until, host.down_until) <= time.monotonic():
                self._hosts.pop(name, None)

    async def _ask(self, host: _Host, url: URL, left_s: float) -> _Answer | URL:
        """A request, unless this host has lately failed so often in a row that its other rows are not kept waiting."""
        if time.monotonic() < host.down_until:
            raise FetchError("host_down", f"{host.failures} requests to {url.host} failed in a row; it is left alone")
        try:
            answer = await self._request(url, left_s, host)
            host.failures = 0
            return answer
        except FetchError as err:
            host.failures = host.failures + 1 if err.again else 0
            if host.failures >= self.settings.host_failures:
                host.down_until = time.monotonic() + DOWN_S
            raise

    async def _request(self, url: URL, left_s: float, host: _Host) -> _Answer | URL:
        session = self._trusted if self._guard.trusts(url.host or "") else self._guarded
        timeout = aiohttp.ClientTimeout(total=left_s, connect=min(self.settings.connect_timeout_s, left_s))
        try:
            async with session.get(url, allow_redirects=False, timeout=timeout) as response:
                return await self._read(response, url, host)
        except (FetchError, BadUrlError):
            raise
        except Exception as err:
            raise named(err) from err

    async def _read(self, response: aiohttp.ClientResponse, url: URL, host: _Host) -> _Answer | URL:
        status = response.status
        if status in REDIRECTS and "Location" in response.headers:
            await _drain(response)
            return parse_url(response.headers["Location"], base=url)
        if not 200 <= status < 300:
            await _drain(response)
            raise self._refused(response, host)
        words = opted_out(response.headers, self.settings.user_agent_token, self.settings.respect_opt_out)
        if words:
            raise FetchError("opt_out", f"X-Robots-Tag: {words}")
        try:
            body = await self._body(response)
            ext, error = sniff(body)
            if error:
                raise FetchError(error, f"status {status}, content-type {response.headers.get('Content-Type', '-')}")
        except FetchError as err:
            err.http_status = status
            raise
        return _Answer(status, url, body, ext)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        most, length = self.settings.max_bytes, response.content_length
        if length is not None and length > most:
            raise FetchError("body_too_large", f"{length} bytes announced; at most {most} are taken")
        if length is not None and length <= LARGE_BYTES and "Content-Encoding" not in response.headers:
            return await response.read()
        body = bytearray()
        async with AsyncExitStack() as turn:
            async for block in response.content.iter_any():
                if len(body) <= LARGE_BYTES < len(body) + len(block):
                    await turn.enter_async_context(self._large)
                body += block
                if len(body) > most:
                    raise FetchError("body_too_large", f"more than {most} bytes")
        return bytes(body)

    def _refused(self, response: aiohttp.ClientResponse, host: _Host) -> FetchError:
        status = response.status
        err = FetchError(f"http_{status}", response.reason or "", again=status == 429 or status >= 500)
        err.http_status = status
        err.retry_after_s = seconds_to_wait(response.headers.get("Retry-After")) if err.again else None
        if err.retry_after_s is not None:
            # The server asked for quiet: the other rows of this host wait as well.
            pause_s = min(err.retry_after_s, self.settings.retry_after_max_s)
            host.quiet_until = max(host.quiet_until, time.monotonic() + pause_s)
        return err


def _session(settings: DownloadSettings, guard: Guard | None) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=0,
        ttl_dns_cache=DNS_TTL_S,
        keepalive_timeout=KEEPALIVE_S,
        socket_factory=guard.socket if guard else None,
    )
    # Compression is refused because images gain nothing by it; cookies, because a row must not depend on another.
    headers = {"User-Agent": settings.user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
    return aiohttp.ClientSession(
        connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=1 << 18
    )


async def _drain(response: aiohttp.ClientResponse) -> None:
    taken = 0
    async for block in response.content.iter_any():
        taken += len(block)
        if taken > DRAIN_BYTES:
            response.close()
            return


def backoff_s(url: str, attempt: int, base_s: float) -> float:
    """Seconds before attempt + 1: doubling, times a jitter in [0.5, 1) that depends on (url, attempt) only."""
    digest = hashlib.blake2b(f"{attempt} {url}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return float(base_s * 2 ** (attempt - 1) * (0.5 + int.from_bytes(digest, "little") / 2**65))


def seconds_to_wait(value: str | None) -> float | None:
    """A Retry-After header (seconds or an HTTP date) as seconds from now, or None where it says nothing usable."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value.strip()[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def opted_out(headers: CIMultiDictProxy[str], token: str, disallowed: tuple[str, ...]) -> str | None:
    """The X-Robots-Tag value that forbids the use, if any: `noai, noindex`, or the same for one agent by its name."""
    for value in headers.getall("X-Robots-Tag", ()):
        addressee, colon, rest = value.partition(":")
        if colon and addressee.strip().lower() not in (token, "*"):
            continue
        if any(word.strip().lower() in disallowed for word in (rest if colon else value).split(",")):
            return value[:200]
    return None


def named(err: Exception) -> FetchError:
    """The FetchError for whatever aiohttp raised."""
    detail = f"{type(err).__name__}: {err}" if str(err) else type(err).__name__
    if isinstance(err, aiohttp.ConnectionTimeoutError):
        return FetchError("connect_timeout", detail, again=True)
    if isinstance(err, asyncio.TimeoutError):
        return FetchError("timeout", "no complete answer in time", again=True)
    if isinstance(err, aiohttp.ClientConnectorDNSError):
        return FetchError("dns", str(err.os_error), again=_lookup_may_pass(err.os_error))
    if isinstance(err, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)):
        return FetchError("tls", detail)
    if isinstance(err, aiohttp.ClientConnectorError):
        return _named_connection(err.os_error)
    if isinstance(err, aiohttp.ClientPayloadError):
        bad_encoding = "content-encoding" in str(err).lower() or "decode" in str(err).lower()
        return FetchError("bad_encoding" if bad_encoding else "truncated_body", detail, again=not bad_encoding)
    if isinstance(err, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)):
        return FetchError("connection_reset", detail, again=True)
    if isinstance(err, aiohttp.ClientResponseError):
        return FetchError("bad_response", detail)
    if isinstance(err, (aiohttp.InvalidURL, ValueError)):
        return FetchError("bad_url", detail)
    return FetchError("unexpected_error", detail)


def _named_connection(err: OSError) -> FetchError:
    if isinstance(err, PrivateAddressError):
        return FetchError("private_address", f"{err.address} is {err.strerror}")
    # A host of several addresses that fail in several ways gives one error that only quotes them.
    if err.errno == errno.ECONNREFUSED or (err.errno is None and f"Errno {errno.ECONNREFUSED}]" in str(err)):
        return FetchError("connection_refused", str(err), again=True)
    if isinstance(err, ConnectionError):
        return FetchError("connection_reset", str(err), again=True)
    if err.errno == errno.ETIMEDOUT:
        return FetchError("connect_timeout", str(err), again=True)
    if err.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        return FetchError("unreachable", str(err), again=True)
    return FetchError("connection_error", str(err), again=True)


def _lookup_may_pass(err: OSError) -> bool:
    cause = err.__cause__
    code = cause.args[0] if cause is not None and cause.args else err.errno
    return code not in NO_SUCH_NAME
