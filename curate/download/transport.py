"""Fetch one URL over shared connections: politeness a host, redirects, limits, retries, opt-out headers.

Lives on one event loop. Each way that a request can end has a name; nothing here raises for what a server does.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from yarl import URL

from curate.download.client import Client, FetchError, Head, HttpAnswer
from curate.download.fetched import Fetched, Wants, sha256, sniff, sniff_page
from curate.download.guard import BadUrlError, parse_url
from curate.download.settings import DownloadSettings
from curate.readers.opt_out import RESERVATION, find_forbidding_word, is_reserved

REDIRECTS = frozenset((301, 302, 303, 307, 308))
DOWN_S = 60
# An error page of at most this size is read to its end, because that is cheaper than a new connection.
DRAIN_BYTES = 64 << 10


@dataclass(frozen=True)
class _FoundAnswer:
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
    wants: Wants = "image"
    _hosts: dict[str, _Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.settings.concurrency)
        self._client = Client(self.settings)

    @property
    def _is_resized(self) -> bool:
        return self.settings.resize is not None and self.wants == "image"

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def fetch(self, key: str, text: str | None) -> Fetched:
        """Fetch one URL in at most `retries` further attempts; no sha256 of what is to be resized."""
        try:
            url = parse_url(text)
        except BadUrlError as err:
            return Fetched(key, text, "failed_to_download", err.error, str(err))
        attempts, got = await self._fetch_with_retries(url)
        if isinstance(got, FetchError):
            return Fetched(
                key, text, "failed_to_download", got.error, got.detail[:500], got.http_status, str(got.url),
                attempts=attempts,
            )  # fmt: skip
        return Fetched(
            key, text, "success", http_status=got.status, final_url=str(got.url), body=got.body,
            attempts=attempts, ext=got.ext, sha256=None if self._is_resized else sha256(got.body),
        )  # fmt: skip

    async def _fetch_with_retries(self, url: URL) -> tuple[int, _FoundAnswer | FetchError]:
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

    async def _attempt(self, url: URL) -> _FoundAnswer:
        """Follow redirects to an answer within `timeout_s`, the turns waited for not counted. Raises FetchError."""
        left_s = self.settings.timeout_s
        seen = {url}
        try:
            for _ in range(self.settings.max_redirects + 1):
                assert url.host is not None
                async with self._wait_for_turn(url.host) as host:
                    started = time.monotonic()
                    answer = await self._request_politely(host, url, left_s)
                    left_s = max(left_s - (time.monotonic() - started), 0.001)
                if isinstance(answer, _FoundAnswer):
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
    async def _wait_for_turn(self, name: str) -> AsyncIterator[_Host]:
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

    async def _request_politely(self, host: _Host, url: URL, left_s: float) -> _FoundAnswer | URL:
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

    async def _request(self, url: URL, left_s: float, host: _Host) -> _FoundAnswer | URL:
        answer = await self._client.get(url, left_s, self._body_limit)
        head = answer.head
        location = head.get("location")
        if head.status in REDIRECTS and location is not None:
            return parse_url(location, base=url)
        if not head.is_success:
            raise self._refusal(head, host)
        try:
            return _FoundAnswer(head.status, url, answer.body, self._body_extension(answer))
        except FetchError as err:
            err.http_status = head.status
            raise

    def _body_limit(self, head: Head) -> int:
        """How many bytes of a body are read; none of one that may not be used."""
        if not head.is_success:
            return DRAIN_BYTES
        return 0 if self._opt_out_header(head) else self.settings.max_bytes

    def _opt_out_header(self, head: Head) -> str | None:
        """The header by which this answer may not be used, if any."""
        words, token = self.settings.respect_opt_out, self.settings.user_agent_token
        for value in head.all("x-robots-tag"):
            if find_forbidding_word(value, (token,), words):
                return f"X-Robots-Tag: {value[:200]}"
        reserved = RESERVATION in words and is_reserved(head.get(RESERVATION))
        return f"{RESERVATION}: 1" if reserved else None

    def _body_extension(self, answer: HttpAnswer) -> str | None:
        """The extension of a body that is what was wanted. Raises FetchError for any other, or one not to be used."""
        head = answer.head
        if forbidden := self._opt_out_header(head):
            raise FetchError("opt_out", forbidden)
        if answer.is_cut:
            raise FetchError("body_too_large", f"more than {self.settings.max_bytes} bytes")
        ext, error = (sniff if self.wants == "image" else sniff_page)(answer.body)
        if error:
            raise FetchError(error, f"status {head.status}, content-type {head.get('content-type') or '-'}")
        return ext

    def _refusal(self, head: Head, host: _Host) -> FetchError:
        status = head.status
        err = FetchError(f"http_{status}", head.reason, again=status == 429 or status >= 500)
        err.http_status = status
        err.retry_after_s = seconds_to_wait(head.get("retry-after")) if err.again else None
        if err.retry_after_s is not None:
            # The server asked for quiet: the other rows of this host wait as well.
            pause_s = min(err.retry_after_s, self.settings.retry_after_max_s)
            host.quiet_until = max(host.quiet_until, time.monotonic() + pause_s)
        return err


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
