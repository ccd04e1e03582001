"""URLs: what is valid goes out as it stands, what is not is encoded, references are joined as RFC 3986 says."""

from __future__ import annotations

import pytest

from curate.readers.opt_out import host_of
from curate.readers.urls import BadUrlError, parse_url

SIGNED = "/b/k.jpg?X-Amz-Credential=AK%2F2024%2fs3&X-Amz-Signature=a%2Bb%3d%3D&t=~*'()!$,;:@"


@pytest.mark.parametrize(
    "url",
    [
        f"https://bucket.example{SIGNED}",
        "http://h/a%2Cb%7Ec%27%28d%29.jpg",
        "http://h/lower%2fcase%c3%a9.jpg",
        "http://h/A%2f%2F//double//./a/../b%2e%2E/",
        "http://h/(round)'quote'!*;:@&=+$,.jpg",
        "http://h/a?",
        "http://h/a?b=c?d/e&&=",
        "http://h/a+b%20c",
        "http://h:80/default-port",
        "http://user:pa%40ss@h/",
        "http://[2001:4860::8888]:8080/x",
        "http://under_score.example/",
    ],
)
def test_what_is_valid_goes_out_as_it_stands(url: str) -> None:
    assert str(parse_url(url)) == url


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("http://h/café.jpg", "http://h/caf%C3%A9.jpg"),
        ("http://h/caf\udce9.jpg", "http://h/caf%E9.jpg"),
        ("http://h/日本?q=日%E6", "http://h/%E6%97%A5%E6%9C%AC?q=%E6%97%A5%E6"),
        ("http://h/a b.jpg?c d", "http://h/a%20b.jpg?c%20d"),
        ('http://h/a"<>`{}|^[].jpg', "http://h/a%22%3C%3E%60%7B%7D%7C%5E%5B%5D.jpg"),
        ("http://h/100%.jpg", "http://h/100%25.jpg"),
        ("http://h/100%zz%4", "http://h/100%25zz%254"),
        ("http://h/a\x00b\x7f", "http://h/a%00b%7F"),
        ("http://h/a#fragment", "http://h/a"),
        ("http://h/a?b#c?d", "http://h/a?b"),
        (" http://h/a\n", "http://h/a"),
        ("\x00http://h/a\u3000", "http://h/a"),
        ("http://h/a\r\n\tb", "http://h/ab"),
        ("http://h\\a\\b?c\\d", "http://h/a/b?c%5Cd"),
        ("HTTP://Example.ORG", "http://example.org/"),
        ("http://h?q", "http://h/?q"),
        ("http://h:/a", "http://h/a"),
        ("http://BÜCHER.example/ü", "http://xn--bcher-kva.example/%C3%BC"),
        ("http://faß.example/", "http://xn--fa-hia.example/"),
        ("http://ex%61mple.org/%61", "http://example.org/%61"),
        ("http://例え。テスト/", "http://xn--r8jz45g.xn--zckzah/"),
        ("http://i❤.ws/", "http://xn--i-7iq.ws/"),
        ("http://１２７.0.0.1/", "http://127.0.0.1/"),
    ],
)
def test_what_is_not_valid_is_encoded_as_browsers_do(written: str, asked: str) -> None:
    assert str(parse_url(written)) == asked


@pytest.mark.parametrize(
    ("reference", "asked"),
    [
        ("https://other.example/x%2fy", "https://other.example/x%2fy"),
        ("//cdn.example/x", "http://cdn.example/x"),
        ("/x%2fy?z", "http://u@h:8080/x%2fy?z"),
        ("x", "http://u@h:8080/a/b/x"),
        ("x?", "http://u@h:8080/a/b/x?"),
        ("?x=%2c", "http://u@h:8080/a/b/c%2Fd?x=%2c"),
        ("../x/./y", "http://u@h:8080/a/x/y"),
        ("../../../../x", "http://u@h:8080/x"),
        ("..", "http://u@h:8080/a/"),
        (".", "http://u@h:8080/a/b/"),
        ("#top", "http://u@h:8080/a/b/c%2Fd?q=1"),
        ("caf\udce9.jpg", "http://u@h:8080/a/b/caf%E9.jpg"),
        ("\\x\\y", "http://u@h:8080/x/y"),
        ("a:b/c", None),
        ("file:///etc/passwd", None),
        ("http://[", None),
        ("", None),
    ],
)
def test_reference_is_joined_to_where_it_was_found(reference: str, asked: str | None) -> None:
    base = parse_url("http://u@h:8080/a/b/c%2Fd?q=1")
    if asked is None:
        with pytest.raises(BadUrlError):
            parse_url(reference, base)
    else:
        assert str(parse_url(reference, base)) == asked


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://good.example\\@evil.example/", "good.example", 80),
        ("https://evil.example@good.example/", "good.example", 443),
        ("https://a:b@c@good.example:8443/", "good.example", 8443),
        ("http://[FE80::1%25lo]/", "FE80::1%lo", 80),
        ("http://good.example?@evil.example/", "good.example", 80),
        ("http://good.example#@evil.example/", "good.example", 80),
    ],
)
def test_host_is_the_one_that_a_browser_would_ask(url: str, host: str, port: int) -> None:
    found = parse_url(url)
    assert (found.host, found.port) == (host, port)
    assert host_of(url) == host


@pytest.mark.parametrize(
    "url",
    ["http:///a", "http:a", "http://:80/", "http://h:70000/", "http://h:8o/", "http://a b/", "http://h<x>/", "http://[::g]/",
     "http://[1.2.3.4]/", "http://a\ud800.example/", "http://h/\ud800", "http://h%00/", "http://u@/", "http://%ff/"],
)  # fmt: skip
def test_host_that_is_none_is_refused_by_name(url: str) -> None:
    with pytest.raises(BadUrlError) as told:
        parse_url(url)
    assert told.value.error == "bad_url" and host_of(url) == ""
