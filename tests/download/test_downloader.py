"""What a download promises, against real servers on loopback that misbehave in every way that crawls have met."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
import socket
import ssl
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from hostile import JPEG, Site, cut_off, endless, hang, hang_up, head, late, nonsense, onward, picture, trickle
from pydantic import ValidationError

from curate.download import Downloader, DownloadSettings, Fetched, sniff
from curate.download.guard import AddressGuard, PrivateAddressError
from curate.download.transport import backoff_s, seconds_to_wait


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


def settings(**knobs: Any) -> DownloadSettings:
    usual = {"allow_private": ("127.0.0.1",), "timeout_s": 5, "retries": 0, "backoff_s": 0.01}
    return DownloadSettings.model_validate(usual | knobs)


def fetch(*urls: str | None, **knobs: Any) -> list[Fetched]:
    with Downloader(settings(**knobs)) as downloader:
        return list(downloader.fetch((f"{number:032x}", url) for number, url in enumerate(urls)))


def test_the_bytes_kept_are_the_servers_and_are_named_by_their_content(site: Site) -> None:
    png = picture(kind="png")
    site.pages["/a.jpg"] = ("200 OK", ("Content-Type: image/jpeg",), png)
    (row,) = fetch(site.url("/a.jpg"))
    assert (row.status, row.error, row.body, row.ext, row.attempts) == ("success", None, png, "png", 1)
    assert row.sha256 == hashlib.sha256(png).hexdigest()
    assert (row.http_status, row.final_url) == (200, site.url("/a.jpg"))


@pytest.mark.parametrize(
    ("page", "error"),
    [
        (("404 Not Found", (), b"gone"), "http_404"),
        (("503 Busy", (), b""), "http_503"),
        (("304 Not Modified", (), b""), "http_304"),
        (("302 Found", (), b"no place is given"), "http_302"),
        (("200 OK", (), b""), "empty_body"),
        (("204 No Content", (), b""), "empty_body"),
        (("200 OK", ("Content-Type: image/jpeg",), b"\n<!DOCTYPE html><html>gone</html>"), "html_instead_of_image"),
        (("200 OK", ("Content-Type: image/jpeg",), b"sorry, gone"), "not_an_image"),
        (("200 OK", ("Content-Encoding: gzip",), gzip.compress(bytes(1 << 24))), "body_too_large"),
        (("200 OK", ("Content-Encoding: gzip",), b"not gzip at all"), "bad_encoding"),
        (("302 Found", ("Location: /here",), b""), "redirect_loop"),
        (("302 Found", ("Location: file:///etc/passwd",), b""), "forbidden_scheme"),
        (("302 Found", ("Location: http://127.0.0.2/",), b""), "private_address"),
        (("302 Found", ("Location: //169.254.169.254/latest/meta-data",), b""), "private_address"),
        (("302 Found", ("Location: http://[::1]/",), b""), "private_address"),
        (("302 Found", ("Location: http://[",), b""), "bad_url"),
        (hang, "timeout"),
        (trickle, "timeout"),
        (endless, "body_too_large"),
        (cut_off, "truncated_body"),
        (hang_up, "connection_reset"),
        (nonsense, "bad_response"),
    ],
)
def test_a_server_that_misbehaves_fails_its_row_by_name_and_no_other(site: Site, page: Any, error: str) -> None:
    site.pages["/here"] = page
    before, row, after = fetch(
        site.url(), site.url("/here"), site.url(), timeout_s=1.0 if error == "timeout" else 5.0, max_bytes=1 << 20
    )
    assert (row.status, row.error, row.body, row.sha256) == ("failed_to_download", error, None, None)
    assert row.http_status == (int(page[0][:3]) if error.startswith("http_") else row.http_status)
    assert before.body == after.body == JPEG


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
def test_what_is_no_web_address_is_named_and_never_tried(url: str | None, error: str) -> None:
    (row,) = fetch(url)
    assert (row.error, row.attempts, row.url) == (error, 0, url)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "192.168.1.1", "172.16.0.1",
     "169.254.169.254", "100.64.0.1", "224.0.0.1", "240.0.0.1", "[fe80::1]", "[fc00::1]", "[2002:7f00:1::]",
     "[64:ff9b::7f00:1]", "[::7f00:1]"],
)  # fmt: skip
def test_a_private_address_is_refused_however_it_is_written(site: Site, host: str) -> None:
    (row,) = fetch(f"http://{host}:{site.port}/ok", allow_private=())
    assert (row.error, site.connections) == ("private_address", 0)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1"])
def test_an_address_in_disguise_reaches_nobody(site: Site, host: str) -> None:
    (row,) = fetch(f"http://{host}:{site.port}/ok", allow_private=())
    assert row.error in ("private_address", "bad_url", "dns")
    assert site.connections == 0


def test_the_address_that_is_connected_to_is_checked_whatever_a_name_resolved_to_before() -> None:
    guard = AddressGuard(["10.1.0.0/16"])
    for address in ("127.0.0.1", "10.2.0.1", "::1", "::ffff:10.2.0.1", "fe80::1%lo"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with pytest.raises(PrivateAddressError):
            guard.socket((family, socket.SOCK_STREAM, 0, "", (address, 80)))
    for address in ("93.184.216.34", "10.1.2.3", "::ffff:10.1.2.3", "2606:2800:220:1::1"):
        guard.check(address)


def test_a_private_host_is_fetched_only_where_the_recipe_names_it(site: Site) -> None:
    by_name, by_number = f"http://localhost:{site.port}/ok", site.url()
    assert [row.error for row in fetch(by_name, by_number, allow_private=("LocalHost",))] == [None, "private_address"]
    assert [row.error for row in fetch(by_name, by_number, allow_private=("127.0.0.0/8",))] == [None, None]


def test_a_closed_port_a_full_port_and_an_unknown_name_are_named(site: Site) -> None:
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


def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    secure = Site(tls=tls)
    (row,) = fetch(secure.url())
    secure.close()
    assert (row.error, row.attempts, secure.requests) == ("tls", 1, [])


def test_a_certificate_that_the_system_vouches_for_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    secure = Site(tls=tls)
    rows = fetch(*[secure.url()] * 20, per_host=2)
    secure.close()
    assert [row.error for row in rows] == [None] * 20
    assert secure.connections <= 2


def test_redirects_are_followed_up_to_the_limit(site: Site) -> None:
    site.pages["/onward"] = onward
    near, far = fetch(site.url("/onward?2"), site.url("/onward?3"), max_redirects=3)
    assert (near.status, near.final_url, near.attempts) == ("success", site.url(), 1)
    assert far.error == "too_many_redirects"


def test_rows_come_back_in_their_order_and_the_same_each_time(site: Site) -> None:
    site.pages["/late"] = late
    urls = [site.url(f"/late?{0.2 - n * 0.005}") for n in range(40)]
    first, second = fetch(*urls, per_host=40), fetch(*urls, per_host=40)
    assert [row.url for row in first] == urls
    assert first == second


def test_a_hanging_row_holds_up_no_other_and_memory_stays_flat_meanwhile(site: Site) -> None:
    body = JPEG + bytes(200_000)
    site.pages |= {"/hang": hang, "/big": ("200 OK", (), body)}
    urls = ["/hang", *(f"/big?{n}" for n in range(400))]
    with Downloader(settings(timeout_s=3, buffer_bytes=4_000_000)) as downloader:
        tracemalloc.start()
        rows = downloader.fetch((str(n), site.url(url)) for n, url in enumerate(urls))
        assert next(rows).error == "timeout"
        # The 80 MB that waited behind the first row are on disk by now; the server's own copies are few.
        assert all(row.body == body for row in rows)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 30_000_000
    served = [at for at, path, _ in site.requests if path.startswith("/big")]
    assert max(served) - min(served) < 2.5


def test_a_slow_host_is_spared_and_does_not_keep_the_others_waiting(site: Site) -> None:
    slow = Site("127.0.0.2")
    slow.pages["/late"] = late
    rows = [slow.url("/late?0.1")] * 40 + [site.url()] * 200
    found = fetch(*rows, allow_private=("127.0.0.0/8",), per_host=2, concurrency=8)
    slow.close()
    assert all(row.status == "success" for row in found)
    assert slow.most_at_once == 2 >= site.most_at_once
    assert max(at for at, _, _ in site.requests) < slow.requests[-1][0]


def test_many_large_bodies_at_once_all_come_and_take_turns_in_memory(site: Site) -> None:
    body = JPEG + bytes(12_000_000)
    site.pages["/large"] = ("200 OK", (), body)
    with Downloader(settings(per_host=40, timeout_s=30, buffer_bytes=0)) as downloader:
        rows = downloader.fetch((str(n), site.url(f"/large?{n}")) for n in range(40))
        assert all(row.error is None and row.body == body for row in rows)


def test_a_body_in_pieces_or_packed_is_put_together(site: Site) -> None:
    async def pieces(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nX-Robots-Tag: noai\r\n\r\n")
        writer.write(head("200 OK", None, "Transfer-Encoding: chunked"))
        for at in range(0, len(JPEG), 100):
            piece = JPEG[at : at + 100]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        writer.write(b"0\r\nX-Robots-Tag: noai\r\n\r\n")

    site.pages |= {"/pieces": pieces, "/packed": ("200 OK", ("Content-Encoding: gzip",), gzip.compress(JPEG))}
    assert [row.body for row in fetch(site.url("/pieces"), site.url("/packed"))] == [JPEG, JPEG]


def test_a_connection_that_the_server_closed_meanwhile_costs_no_row(site: Site) -> None:
    async def goodbye(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", len(JPEG)) + JPEG)
        await writer.drain()
        writer.close()

    site.pages["/bye"] = goodbye
    rows = fetch(*[site.url("/bye")] * 50, per_host=2)
    assert [row.error for row in rows] == [None] * 50


def test_no_proxy_of_the_environment_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Site()
    for name in ("http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, other.url(""))
    (row,) = fetch(site.url())
    other.close()
    assert (row.error, other.connections) == (None, 0)


def test_connections_are_reused_from_row_to_row_and_from_shard_to_shard(site: Site) -> None:
    with Downloader(settings(per_host=4)) as downloader:
        for _ in range(3):
            assert all(row.status == "success" for row in downloader.fetch([("k", site.url())] * 100))
    assert len(site.requests) == 300
    assert site.connections <= 4


def test_shards_may_be_fetched_as_one_or_one_after_the_other(site: Site) -> None:
    shards = [[(f"{shard}/{n}", site.url()) for n in range(50)] for shard in range(3)]
    with Downloader(settings()) as downloader:
        together = [row.key for row in downloader.fetch(itertools.chain(*shards))]
        apart = [row.key for shard in shards for row in downloader.fetch(shard)]
    assert together == apart == [key for shard in shards for key, _ in shard]


def test_a_fetch_left_unfinished_does_not_disturb_the_next(site: Site) -> None:
    site.pages["/hang"] = hang
    with Downloader(settings()) as downloader:
        left = downloader.fetch([("a", site.url()), ("b", site.url("/hang"))])
        assert next(left).key == "a"
        assert [row.key for row in downloader.fetch([("c", site.url())])] == ["c"]
        with pytest.raises(ValueError, match="later call"):
            next(left)


def test_what_may_pass_is_tried_again_and_what_may_not_is_not(site: Site) -> None:
    tries: Counter[str] = Counter()

    async def recovers(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
        tries[path] += 1
        writer.write(head("503 Busy", 0) if tries[path] < 3 else head("200 OK", len(JPEG)) + JPEG)

    site.pages |= {"/recovers": recovers, "/busy": ("500 Oh", (), b""), "/gone": ("404 No", (), b"")}
    rows = fetch(site.url("/recovers"), site.url("/busy"), site.url("/gone"), retries=2)
    assert [(row.error, row.attempts) for row in rows] == [(None, 3), ("http_500", 3), ("http_404", 1)]


def test_retry_after_quiets_the_whole_host_and_is_not_waited_for_beyond_the_bound(site: Site) -> None:
    tries: Counter[str] = Counter()

    async def busy_once(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
        tries[path] += 1
        again = head("429 Slow Down", 0, "Retry-After: 1")
        writer.write(again if tries[path] == 1 else head("200 OK", len(JPEG)) + JPEG)

    site.pages |= {"/once": busy_once, "/never": ("503 Down", ("Retry-After: 86400",), b"")}
    rows = fetch(site.url("/once"), site.url(), retries=1, per_host=1)
    (first, *later) = [at for at, _, _ in site.requests]
    assert [row.error for row in rows] == [None, None]
    assert min(later) - first >= 0.99
    (row,) = fetch(site.url("/never"), retries=3, retry_after_max_s=0.1)
    assert (row.error, row.attempts) == ("http_503", 1)


def test_a_host_that_is_down_costs_a_few_timeouts_and_not_one_a_row(site: Site) -> None:
    dead = Site("127.0.0.2")
    dead.pages["/hang"] = hang
    urls = [dead.url("/hang")] * 200 + [site.url()] * 20
    start = time.monotonic()
    rows = fetch(*urls, allow_private=("127.0.0.0/8",), timeout_s=0.3, per_host=4, host_failures=8, retries=1)
    spent_s = time.monotonic() - start
    dead.close()
    assert spent_s < 15  # a timeout for each row, four at a time
    assert len(dead.requests) <= 12
    assert {row.error for row in rows[:200]} == {"timeout", "host_down"}
    assert all(row.status == "success" for row in rows[200:])


def test_waits_between_tries_grow_and_depend_on_the_url_alone() -> None:
    waits = [backoff_s("http://a/", attempt, 1.0) for attempt in (1, 2, 3)]
    assert waits == [backoff_s("http://a/", attempt, 1.0) for attempt in (1, 2, 3)]
    assert all(0.5 * 2**n <= wait < 2**n for n, wait in enumerate(waits))
    assert backoff_s("http://b/", 1, 1.0) != waits[0]
    assert seconds_to_wait("7") == 7.0
    assert seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert seconds_to_wait("soon") is seconds_to_wait(None) is None


@pytest.mark.parametrize(("value", "refused"), [("1", True), (" 1 ", True), ("0", False), ("yes", False)])
def test_a_file_whose_owner_reserves_text_and_data_mining_is_not_taken(site: Site, value: str, refused: bool) -> None:
    site.pages["/reserved"] = ("200 OK", (f"TDM-Reservation: {value}", "tdm-policy: https://a.org/p.json"), JPEG)
    (row,) = fetch(site.url("/reserved"))
    assert (row.error, row.body is None) == (("opt_out", True) if refused else (None, False))
    (asked,) = fetch(site.url("/reserved"), respect_opt_out=("noai",))
    assert asked.status == "success"


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        ("noai", True),
        ("nofollow, NoImageAI", True),
        ("curate-mm: noindex", True),
        ("*: noai", True),
        ("otherbot: noai", False),
        ("nofollow", False),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST", False),
        ("noai, unavailable_after: 25 Jun 2010 15:00:00 PST", True),
        ("none", True),
    ],
)
def test_an_opt_out_header_is_honoured_when_it_is_meant_for_us(site: Site, value: str, refused: bool) -> None:
    site.pages["/tagged"] = ("200 OK", (f"X-Robots-Tag: {value}",), JPEG)
    (row,) = fetch(site.url("/tagged"))
    (asked,) = fetch(site.url("/tagged"), respect_opt_out=())
    assert (row.error, row.body is None) == (("opt_out", True) if refused else (None, False))
    assert asked.status == "success"


def test_the_user_agent_says_who_we_are(site: Site) -> None:
    fetch(site.url(), user_agent="pictures-for-science/2 (+https://example.org/bot)")
    fetch(site.url())
    assert "User-Agent: pictures-for-science/2 (+https://example.org/bot)\r\n" in site.requests[0][2]
    assert "User-Agent: curate-mm/" in site.requests[1][2]


def test_the_rows_are_read_only_a_window_ahead(site: Site) -> None:
    taken = itertools.count()
    with Downloader(settings(window=20)) as downloader:
        rows = downloader.fetch((str(next(taken)), site.url()) for _ in itertools.count())
        assert [next(rows).key for _ in range(100)] == [str(n) for n in range(100)]
    assert next(taken) <= 121


def test_a_fetch_says_so_when_its_downloader_is_closed(site: Site) -> None:
    site.pages["/hang"] = hang
    downloader = Downloader(settings(timeout_s=60))
    rows = downloader.fetch([("a", site.url()), ("b", site.url("/hang"))])
    assert next(rows).key == "a"
    downloader.close()
    with pytest.raises(ValueError, match="closed"):
        next(rows)
    with pytest.raises(ValueError, match="closed"):
        next(downloader.fetch([("a", site.url())]))
    downloader.close()


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "bmp", "tiff", "ico", "avif"])
def test_image_files_are_recognised_by_their_first_bytes(kind: str) -> None:
    assert sniff(picture(kind=kind)) == ({"jpeg": "jpg"}.get(kind, kind), None)
    assert sniff(b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>') == ("svg", None)
    assert sniff(b"<?xml version='1.0'?><!DOCTYPE html><html/>") == (None, "html_instead_of_image")


def test_no_cookie_is_carried_from_one_row_to_another(site: Site) -> None:
    site.pages["/cookie"] = ("200 OK", ("Set-Cookie: seen=1",), JPEG)
    fetch(site.url("/cookie"), site.url("/cookie"), per_host=1)
    assert not any("cookie:" in request.lower() for _, _, request in site.requests)


@pytest.mark.parametrize(
    "wrong",
    [
        {"allow_private": ["http://localhost"]},
        {"allow_private": ["10.0.0.1/8"]},
        {"allow_private": ["*"]},
        {"user_agent": "two\nlines"},
        {"timeout_s": 0},
        {"timeout": 5},
        {"resize": {"mode": "keep_ratio", "format": "png", "quality": 95}},
        {"resize": {"mode": "squash"}},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DownloadSettings.model_validate(wrong)
