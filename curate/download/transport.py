"""Fetch one URL over shared connections: politeness a host, redirects, limits, retries, opt-out headers.

Lives on one event loop. Each way that a request can end has a name; nothing here raises for what a server does.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial

from curate.download.client import Client, FetchError, Head, HttpAnswer
from curate.download.fetched import Fetched, Wants, is_plain, sha256, sniff, sniff_page
from curate.download.hosts import HostDownError, Hosts
from curate.download.settings import DownloadSettings
from curate.readers.codings import CodingError, UnpackedTooLargeError, undo_codings
from curate.readers.opt_out import RESERVATION, find_forbidding_word, is_reserved
from curate.readers.urls import BadUrlError, WebUrl, parse_url

REDIRECTS = frozenset((301, 302, 303, 307, 308))
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")
# An error page of at most this size is read to its end, because that is cheaper than a new connection.
DRAIN_BYTES = 64 << 10


@dataclass(frozen=True)
class _FoundAnswer:
    status: int
    url: WebUrl
    body: bytes
    ext: str | None
    content_type: str | None


@dataclass
class _Outcome:
    """What a request taught about its host: whether it failed in a way that may pass, and the quiet that it wants."""

    failed: bool | None = None
    quiet_s: float = 0.0


@dataclass
class Transport:
    """Fetches URLs under `settings`, starting requests while `room` is set; for one running event loop."""

    settings: DownloadSettings
    room: asyncio.Event
    hosts: Hosts
    wants: Wants = "image"

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.settings.concurrency)
        self._client = Client(self.settings)

    @property
    def _is_resized(self) -> bool:
        return self.settings.resize is not None and self.wants == "image"

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()
        await self.hosts.close()

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
            content_type=got.content_type,
        )  # fmt: skip

    async def _fetch_with_retries(self, url: WebUrl) -> tuple[int, _FoundAnswer | FetchError]:
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

    async def _attempt(self, url: WebUrl) -> _FoundAnswer:
        """Follow redirects to an answer within `timeout_s`, the turns waited for not counted. Raises FetchError."""
        left_s = self.settings.timeout_s
        seen = {url}
        try:
            for _ in range(self.settings.max_redirects + 1):
                async with self._turn(url.host) as outcome:
                    started = time.monotonic()
                    answer = await self._request(url, left_s, outcome)
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
    async def _turn(self, host: str) -> AsyncIterator[_Outcome]:
        """Wait for a turn at this host, then for one of ours: rows that wait for a slow host hold up nobody else.

        Raises FetchError for a host that has lately failed so often in a row that its rows are not kept waiting.
        """
        try:
            turn = await self.hosts.enter(host.rstrip("."))
        except HostDownError as err:
            said = f"{err.failures} requests to {host} failed in a row; it is left alone"
            raise FetchError("host_down", said) from None
        outcome = _Outcome()
        try:
            async with self._slots:
                await self.room.wait()
                yield outcome
            outcome.failed = False
        except FetchError as err:
            outcome.failed = err.again
            raise
        finally:
            self.hosts.leave(turn, outcome.failed, outcome.quiet_s)

    async def _request(self, url: WebUrl, left_s: float, outcome: _Outcome) -> _FoundAnswer | WebUrl:
        answer = await self._client.get(url, left_s, self._body_limit)
        head = answer.head
        location = head.get("location")
        if head.status in REDIRECTS and location is not None:
            return parse_url(location, base=url)
        if not head.is_success:
            raise self._refusal(head, outcome)
        try:
            return _FoundAnswer(head.status, url, *self._wanted_body(answer), head.get("content-type"))
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

    def _wanted_body(self, answer: HttpAnswer) -> tuple[bytes, str | None]:
        """A body that is what was wanted, without its codings, and its extension. Raises FetchError for any other."""
        head = answer.head
        if forbidden := self._opt_out_header(head):
            raise FetchError("opt_out", forbidden)
        if answer.is_cut:
            raise FetchError("body_too_large", f"more than {self.settings.max_bytes} bytes")
        try:
            listed = ",".join(head.all("content-encoding"))
            body = undo_codings(answer.body, listed, self.settings.max_bytes, partial(is_plain, wants=self.wants))
        except CodingError as err:
            raise FetchError("bad_encoding", str(err)) from None
        except UnpackedTooLargeError as err:
            raise FetchError("body_too_large", str(err)) from None
        ext, error = (sniff if self.wants == "image" else sniff_page)(body)
        if error:
            raise FetchError(error, f"status {head.status}, content-type {head.get('content-type') or '-'}")
        return body, ext

    def _refusal(self, head: Head, outcome: _Outcome) -> FetchError:
        status, asked = head.status, head.get("retry-after")
        err = FetchError(f"http_{status}", head.reason, again=status == 429 or status >= 500)
        err.http_status = status
        err.retry_after_s = seconds_to_wait(asked) if err.again else None
        if err.retry_after_s is not None:
            err.detail = f"{head.reason}; Retry-After: {asked}"
            # The server asked for quiet: the other rows of this host wait as well.
            outcome.quiet_s = min(err.retry_after_s, self.settings.retry_after_max_s)
        return err


def backoff_s(url: str, attempt: int, base_s: float) -> float:
    """Seconds before attempt + 1: doubling, times a jitter in [0.5, 1) that depends on (url, attempt) only."""
    digest = hashlib.blake2b(f"{attempt} {url}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return float(base_s * 2 ** (attempt - 1) * (0.5 + int.from_bytes(digest, "little") / 2**65))


def seconds_to_wait(value: str | None) -> float | None:
    """A Retry-After header (seconds or an HTTP date) as seconds from now, or None where it says nothing usable."""
    value = (value or "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        return max((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
