"""SSRF guard: the URLs and addresses that may be fetched. An address is checked when it is connected to, so no DNS
answer that changes between look-up and connection can pass.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_CHARS = 16384
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PrivateAddressError(OSError):
    """A connection refused by us, because the address is not on the public internet; `address` says which."""

    def __init__(self, address: str) -> None:
        # One sentence for every address: a host with several is then reported as this error, not as a mixture.
        super().__init__(0, "not a public address; name the host in allow_private to fetch from it")
        self.address = address


class BadUrlError(ValueError):
    """A URL that is not fetched; `error` is its name in the funnel: bad_url or forbidden_scheme."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error


def parse_url(text: str | None, base: URL | None = None) -> URL:
    """Parse the http(s) URL in `text` (relative to `base` if given), without its fragment. Raises BadUrlError."""
    if not text or not text.strip():
        raise BadUrlError("bad_url", "the url is empty")
    if len(text) > MAX_URL_CHARS:
        raise BadUrlError("bad_url", f"{len(text)} characters; at most {MAX_URL_CHARS} are tried")
    try:
        url = URL(text.strip())
        url = (base.join(url) if base else url).with_fragment(None)
        scheme, host, _ = url.scheme, url.host, url.port
    except (ValueError, UnicodeError) as err:
        raise BadUrlError("bad_url", str(err)) from None
    if scheme and scheme not in ("http", "https"):
        raise BadUrlError("forbidden_scheme", f"{scheme}: is not fetched, only http and https")
    if not scheme or not host:
        raise BadUrlError("bad_url", "no scheme and host; expected http://... or https://...")
    return url


def is_public(address: Address) -> bool:
    """Whether `address` is on the public internet, looking through IPv6 forms that carry an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = _embedded_ipv4(address)
        if carried is not None:
            return is_public(carried)
        if address.is_site_local:
            return False
    refused = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    return address.is_global and not (refused or address.is_reserved or address.is_unspecified)


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None


class AddressGuard:
    """The recipe's `allow_private`, split into host names and networks."""

    def __init__(self, allow_private: Sequence[str]) -> None:
        networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        names: set[str] = set()
        for entry in allow_private:
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]")))
            except ValueError:
                names.add(entry.lower().rstrip("."))
        self._networks = tuple(networks)
        self._names = frozenset(names)

    def trusts(self, host: str) -> bool:
        """Whether the recipe allows this host by its name, whatever its address."""
        return bool(self._names) and host.lower().rstrip(".") in self._names

    def check(self, host: str) -> None:
        """Raise PrivateAddressError unless the numeric address `host` is public or lies in an allowed network."""
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        if is_public(address) or any((mapped or address) in network for network in self._networks):
            return
        raise PrivateAddressError(host)

    def socket(self, info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        """Make the socket for one `getaddrinfo` answer, if its address may be connected to."""
        family, kind, proto, _, address = info
        self.check(str(address[0]))
        return socket.socket(family=family, type=kind, proto=proto)
