"""DNS look-ups by c-ares on the event loop, cached for a while."""

from __future__ import annotations

import asyncio
import socket
import time

import aiodns

DNS_TTL_S = 600
DNS_NAMES = 4096
# c-ares and getaddrinfo: the name does not exist or has no address. Every other lookup error may pass.
NO_SUCH_NAME = frozenset((1, 4, 8, -2, -5))


class LookupFailedError(OSError):
    """A name without addresses; `again` says whether asking again may help."""

    def __init__(self, detail: str, again: bool) -> None:
        super().__init__(detail)
        self.again = again


class DnsCache:
    """Addresses of host names, each looked up once in DNS_TTL_S; the last DNS_NAMES are cached."""

    def __init__(self) -> None:
        self._resolver = aiodns.DNSResolver()
        self._known: dict[str, tuple[float, asyncio.Task[list[str]]]] = {}

    async def addresses(self, host: str, within_s: float) -> list[str]:
        """Look up a host's addresses as numbers, best first. Raises LookupFailedError, TimeoutError."""
        until, lookup = self._known.get(host, (0.0, None))
        if lookup is None or until < time.monotonic():
            lookup = self._begin(host)
        if not lookup.done():
            await asyncio.wait((lookup,), timeout=within_s)
        if not lookup.done():
            raise TimeoutError
        if lookup.exception() is not None:
            self._known.pop(host, None)
        return lookup.result()

    async def close(self) -> None:
        """End what is under way."""
        lookups = [lookup for _, lookup in self._known.values()]
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        await self._resolver.close()

    def _begin(self, host: str) -> asyncio.Task[list[str]]:
        self._known.pop(host, None)
        while len(self._known) >= DNS_NAMES:
            del self._known[next(iter(self._known))]
        lookup = asyncio.ensure_future(self._look_up(host))
        self._known[host] = time.monotonic() + DNS_TTL_S, lookup
        return lookup

    async def _look_up(self, host: str) -> list[str]:
        try:
            found = await self._resolver.getaddrinfo(host, type=socket.SOCK_STREAM, family=socket.AF_UNSPEC)
        except aiodns.error.DNSError as err:
            raise LookupFailedError(f"{host}: {err.args[-1]}", again=err.args[0] not in NO_SUCH_NAME) from None
        return [_text(node.addr[0]) for node in found.nodes]


def _text(number: bytes | str) -> str:
    return number.decode("ascii") if isinstance(number, bytes) else number
