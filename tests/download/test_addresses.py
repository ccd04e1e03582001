"""Where a download goes: no private address however it is written, certificates checked, no proxy asked."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme
from fetching import fetch
from hostile import Site

from curate.download.guard import AddressGuard, PrivateAddressError


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (None, "bad_url"),
        ("", "bad_url"),
        ("http://", "bad_url"),
        ("/only/a/path", "bad_url"),
        ("http://host:port/", "bad_url"),
        ("http://[::1", "bad_url"),
        ("http://example.org/" + "a" * 20_000, "bad_url"),
        ("http://\ud800.example/", "bad_url"),
        ("file:///etc/passwd", "forbidden_scheme"),
        ("FTP://example.org/a.jpg", "forbidden_scheme"),
        ("data:image/png;base64,AAAA", "forbidden_scheme"),
    ],
)
def test_url_that_is_no_web_address_is_named_and_never_tried(url: str | None, error: str) -> None:
    """What is no web address is named and never tried."""
    (row,) = fetch(url)
    assert (row.error, row.attempts, row.url) == (error, 0, url)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "192.168.1.1", "172.16.0.1",
     "169.254.169.254", "100.64.0.1", "224.0.0.1", "240.0.0.1", "[fe80::1]", "[fc00::1]", "[2002:7f00:1::]",
     "[64:ff9b::7f00:1]", "[::7f00:1]"],
)  # fmt: skip
def test_private_address_is_refused_however_it_is_written(site: Site, host: str) -> None:
    (row,) = fetch(f"http://{host}:{site.port}/ok", allow_private=())
    assert (row.error, site.connections) == ("private_address", 0)


# Where clouds give out keys: AWS, GCP, Azure and most others; ECS; Oracle; Azure's host; Alibaba; AWS, GCP and Scaleway
# by IPv6.
METADATA = """169.254.169.254 169.254.170.2 192.0.0.192 168.63.129.16 100.100.100.200 fd00:ec2::254 fd20:ce::254
fd00:42::42"""

# The same, and this machine, carried in IPv6: mapped, compatible, translated; NAT64 for all and for one's own; 6to4;
# Teredo; ISATAP.
CARRIED = """::ffff:168.63.129.16 ::ffff:192.0.0.192 ::168.63.129.16 ::ffff:0:127.0.0.1
64:ff9b::168.63.129.16 64:ff9b::169.254.169.254 64:ff9b:1::7f00:1 64:ff9b:1:fffe::a00:1
2002:a83f:8110::1 2002:c000:c0:: 2002:6464:64c8::
2001:0:4136:e378:8000:63bf:807f:fffe 2a00:1450::5efe:a00:1 2a00:1450::200:5efe:7f00:1"""

# https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry, and multicast.
REGISTERED = """0.0.0.0 0.1.2.3 100.127.255.255 192.0.0.8 192.0.0.170 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255
198.51.100.1 203.0.113.1 224.0.0.251 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 100::1 100:0:0:1::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2620:4f:8000::1 3fff::1 3fff:fff:ffff::1 5f00::1
fc00::1 fe80::1 fec0::1 ff02::1 4000::1 1::1"""

PUBLIC = """8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.1 168.63.129.15 172.32.0.1 192.0.1.1 198.17.255.255 223.255.255.255
2001:4860:4860::8888 2606:4700::1111 2a00:1450::5efe:808:808 64:ff9b::808:808 2002:808:808::1 ::ffff:8.8.8.8 2001:200::1
3ffe::1"""


@pytest.mark.parametrize("address", f"{METADATA} {CARRIED} {REGISTERED}".split())
def test_address_that_is_not_on_the_public_internet_is_refused(address: str) -> None:
    with pytest.raises(PrivateAddressError):
        AddressGuard(()).check(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_address_on_the_public_internet_is_not_refused(address: str) -> None:
    AddressGuard(()).check(address)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1"])
def test_address_in_disguise_reaches_nobody(site: Site, host: str) -> None:
    (row,) = fetch(f"http://{host}:{site.port}/ok", allow_private=())
    assert row.error in ("private_address", "bad_url", "dns")
    assert site.connections == 0


def test_connected_address_is_checked_whatever_its_name_meant_before() -> None:
    """The address that is connected to is checked whatever a name resolved to before."""
    guard = AddressGuard(["10.1.0.0/16"])
    for address in ("127.0.0.1", "10.2.0.1", "::1", "::ffff:10.2.0.1", "fe80::1%lo"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with pytest.raises(PrivateAddressError):
            guard.socket((family, socket.SOCK_STREAM, 0, "", (address, 80)))
    for address in ("93.184.216.34", "10.1.2.3", "::ffff:10.1.2.3", "2606:2800:220:1::1"):
        guard.check(address)


def test_private_host_is_fetched_only_where_the_recipe_names_it(site: Site) -> None:
    by_name, by_number = f"http://localhost:{site.port}/ok", site.url()
    assert [row.error for row in fetch(by_name, by_number, allow_private=("LocalHost",))] == [None, "private_address"]
    assert [row.error for row in fetch(by_name, by_number, allow_private=("127.0.0.0/8",))] == [None, None]


def test_private_host_is_named_in_letters_of_its_own_as_well() -> None:
    guard = AddressGuard(("BÜCHER.local",))
    assert guard.trusts("xn--bcher-kva.local") and guard.trusts("bücher.local.") and not guard.trusts("bucher.local")


def test_closed_port_a_full_port_and_an_unknown_name_are_named(site: Site) -> None:
    with socket.socket() as closed, socket.socket() as full:
        for sock in (closed, full):
            sock.bind(("127.0.0.1", 0))
        full.listen(0)
        crowd = [socket.socket() for _ in range(4)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        urls = [f"http://127.0.0.1:{sock.getsockname()[1]}/" for sock in (closed, full)]
        rows = fetch(*urls, "http://no-such-name.invalid/", connect_timeout_s=1)
        for one in crowd:
            one.close()
    assert [row.error for row in rows] == ["connection_refused", "connect_timeout", "dns"]


def test_certificate_that_nobody_vouches_for_is_refused() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    secure = Site(tls=tls)
    (row,) = fetch(secure.url())
    secure.close()
    assert (row.error, row.attempts, secure.requests) == ("tls", 1, [])


def test_certificate_that_the_system_vouches_for_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    secure = Site(tls=tls)
    rows = fetch(*[secure.url()] * 20, per_host=2)
    secure.close()
    assert [row.error for row in rows] == [None] * 20
    assert secure.connections <= 2


def test_proxy_of_the_environment_is_not_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment is asked."""
    other = Site()
    for name in ("http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, other.url(""))
    (row,) = fetch(site.url())
    other.close()
    assert (row.error, other.connections) == (None, 0)
