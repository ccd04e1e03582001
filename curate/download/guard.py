"""SSRF guard: the addresses that may be fetched from. An address is checked when it is connected to, so no DNS answer
that changes between look-up and connection can pass.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from curate.readers.urls import ascii_host

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IANA's registries of special-purpose addresses (RFC 6890) as of 2025, all that is not globally reachable, by table and
# not by the library, which knows what was registered when it was released; and multicast.
_CLOSED_IPV4 = tuple(
    map(
        ipaddress.IPv4Network,
        ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
         "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
         "224.0.0.0/3",
         "168.63.129.16/32"),  # Azure's host, which gives out keys: public by its number alone
    )
)  # fmt: skip
# Of IPv6, global unicast is all that is given out, and within it these are set apart.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_CLOSED_IPV6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20")))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)


class PrivateAddressError(OSError):
    """A connection refused by us, because the address is not on the public internet; `address` says which."""

    def __init__(self, address: str) -> None:
        # One sentence for every address: a host with several is then reported as this error, not as a mixture.
        super().__init__(0, "not a public address; name the host in allow_private to fetch from it")
        self.address = address


def is_public(address: Address) -> bool:
    """Whether `address` is on the public internet, looking through IPv6 forms that carry an IPv4 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _CLOSED_IPV4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64:
        return is_public(low)
    if address not in _GLOBAL_IPV6 or any(address in network for network in _CLOSED_IPV6):
        return False
    carried = low if int(address) >> 32 & 0xFFFFFFFF in _ISATAP else address.sixtofour
    return carried is None or is_public(carried)


class AddressGuard:
    """The recipe's `allow_private`, split into host names and networks."""

    def __init__(self, allow_private: Sequence[str]) -> None:
        networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        names: set[str] = set()
        for entry in allow_private:
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]")))
            except ValueError:
                names.add(ascii_host(entry).rstrip("."))
        self._networks = tuple(networks)
        self._names = frozenset(names)

    def trusts(self, host: str) -> bool:
        """Whether the recipe allows this host by its name, whatever its address."""
        return bool(self._names) and ascii_host(host).rstrip(".") in self._names

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
