"""Send a body to an endpoint and tell what came of it; the only place that knows the key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from curate.extras import require
from curate.llm.chat import Failure
from curate.llm.outcomes import Again, EndpointError, Outcome, judge
from curate.llm.settings import Endpoint

if TYPE_CHECKING:
    import aiohttp

MOST_BYTES = 16 << 20
"""The longest reply that is read."""

CONNECT_S = 20.0

UNREACHED = "connection_failed"
"""A request that never reached the endpoint: no request's own fault, and counted by nobody."""


class Sender:
    """Connections to an endpoint, for the running event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        require("a chat model", "aiohttp")
        import aiohttp

        self._endpoint, self._key = endpoint, key_of(endpoint)
        self._url = f"{endpoint.url}/chat/completions"
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session: aiohttp.ClientSession = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the pace bounds them
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout_s, sock_connect=CONNECT_S),
            headers=headers,
            proxy=_proxy(endpoint.url),
        )

    async def post(self, body: bytes) -> Outcome:
        """Send a request's body and read the reply."""
        import aiohttp

        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as reply:
                said = await _read(reply)
        except aiohttp.ConnectionTimeoutError:
            return Again(Failure(UNREACHED, f"{self._endpoint.url}: no connection within {CONNECT_S:g} s"))
        except TimeoutError:
            return Again(Failure("endpoint_timeout", f"no answer within {self._endpoint.timeout_s:g} s"), in_doubt=True)
        except aiohttp.ClientConnectorError as err:
            return Again(Failure(UNREACHED, f"{self._endpoint.url}: {err}"))
        except (aiohttp.ClientError, OSError) as err:
            failure = Failure("connection_broken", f"{self._endpoint.url}: {err or type(err).__name__}")
            return Again(failure, in_doubt=True)
        return judge(self._endpoint, reply.status, reply.headers, hide_key(said, self._key, self._endpoint))

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()


def hide_key(said: bytes, key: str | None, endpoint: Endpoint) -> bytes:
    """A reply in which no key stands: some endpoints, and models, say it again."""
    return said.replace(key.encode(), f"[{endpoint.key}]".encode()) if key else said


def key_of(endpoint: Endpoint, environment: Mapping[str, str] = os.environ) -> str | None:
    """The endpoint's key from the environment. Raises EndpointError where there is none."""
    if endpoint.key is None or endpoint.is_served_here:
        return None
    key = environment.get(endpoint.key, "").strip()
    if not key:
        raise EndpointError(
            f"no key for {endpoint.url}: set the environment variable {endpoint.key}, name another as `key`, or write"
            " key: null where the endpoint wants none"
        )
    if not key.isascii() or not key.isprintable():
        raise EndpointError(f"the key in {endpoint.key} is none: only printable ASCII fits in an HTTP header")
    return key


def _proxy(url: str) -> str | None:
    """The proxy that the environment names: looked up once, since aiohttp would do so for each request, in a thread."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


async def _read(reply: Any) -> bytes:
    """A reply's body. Raises aiohttp.ClientError where it is cut or longer than any answer."""
    import aiohttp

    if (
        reply.content_length is not None
        and reply.content_length <= MOST_BYTES
        and not reply.headers.get("Content-Encoding")
    ):
        return bytes(await reply.read())
    said = bytearray()
    async for piece in reply.content.iter_chunked(1 << 16):
        said += piece
        if len(said) > MOST_BYTES:
            raise aiohttp.ClientPayloadError(f"a reply of more than {MOST_BYTES} bytes")
    return bytes(said)
