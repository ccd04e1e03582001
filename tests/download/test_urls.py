"""The URL that a server sees is the one of the table, or of its redirect, to the byte."""

from __future__ import annotations

import asyncio

import pytest
from fetching import fetch
from hostile import JPEG, Site, head, picture

PATHS = [
    "/get?path=x%2Fy%3A1&Signature=q%2Bz%2f9%3D%3d",
    "/a%2Cb%7Ec%27d%28e%29.jpg",
    "/lower%2fcase%c3%a9.jpg",
    "/a'b(c)~d!e*f;g,h.jpg",
    "//double//slash",
    "/empty-query?",
    "/dots/../%2e%2e/./x",
    "/a+b%20c?d+e=%20",
]


@pytest.mark.parametrize("path", PATHS)
def test_server_is_asked_for_the_url_of_the_table_to_the_byte(site: Site, path: str) -> None:
    (row,) = fetch(site.url(path))
    assert [asked for _, asked, _ in site.requests] == [path]
    assert (row.url, row.final_url) == (site.url(path), site.url(path))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("whole", [True, False])
def test_server_is_asked_for_the_url_of_a_redirect_to_the_byte(site: Site, path: str, whole: bool) -> None:
    whole = whole or path.startswith("//") or "/../" in path  # such a reference alone means another place
    site.pages["/go"] = ("302 Found", (f"Location: {site.url(path) if whole else path}",), b"")
    (row,) = fetch(site.url("/go"))
    assert [asked for _, asked, _ in site.requests] == ["/go", path]
    assert (row.error, row.final_url) == (None, site.url(path))


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        (b"/caf\xe9.jpg", "/caf%E9.jpg"),
        (b"/caf\xc3\xa9.jpg", "/caf%C3%A9.jpg"),
        (b"/\x93quoted\x94?\xff", "/%93quoted%94?%FF"),
        (b"/a b.jpg", "/a%20b.jpg"),
        (b"/100%.jpg", "/100%25.jpg"),
        (b"caf\xe9.jpg", "/caf%E9.jpg"),
    ],
)
def test_location_with_raw_bytes_leads_to_the_picture_that_is_meant(site: Site, location: bytes, asked: str) -> None:
    async def go(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")

    red, blue = picture((255, 0, 0)), picture((0, 0, 255))
    site.pages |= {"/go": go, asked.partition("?")[0]: ("200 OK", (), red)}
    site.pages |= {f"/{path}": ("200 OK", (), blue) for path in ("caf.jpg", "caf?.jpg", "a", "quoted", "100.jpg")}
    (row,) = fetch(site.url("/go"))
    assert (row.error, row.body, row.final_url) == (None, red, site.url(asked))


def test_url_with_other_letters_is_asked_for_as_browsers_do(site: Site) -> None:
    fetch(site.url("/日本 é.jpg?q=ü#part"))
    assert [asked for _, asked, _ in site.requests] == ["/%E6%97%A5%E6%9C%AC%20%C3%A9.jpg?q=%C3%BC"]


def test_user_and_password_of_a_url_are_sent_to_its_host_alone(site: Site) -> None:
    other = Site("127.0.0.2")
    site.pages["/go"] = ("302 Found", (f"Location: {other.url()}",), b"")
    url = site.url("/go").replace("http://", "http://anna:se%40cret@")
    (row,) = fetch(url, allow_private=("127.0.0.0/8",))
    other.close()
    assert row.body == JPEG
    assert "Authorization: Basic YW5uYTpzZUBjcmV0" in site.requests[0][2]
    assert "authorization" not in other.requests[0][2].lower()


def test_request_holds_nothing_that_a_redirect_put_into_it(site: Site) -> None:
    async def go(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head("302 Found", 0, "Location: /x\tHTTP/1.1\x0bInjected: 1"))

    site.pages["/go"] = go
    fetch(site.url("/go"))
    assert not any("injected:" in line.lower() for line in site.requests[-1][2].split("\r\n")[1:])
