"""What a download promises, against real servers on loopback that misbehave in every way that crawls have met."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
import tracemalloc
from typing import Any

import pytest
from fetching import fetch, settings
from hostile import JPEG, Site, cut_off, endless, hang, hang_up, head, late, nonsense, onward, picture, trickle
from pydantic import ValidationError

from curate.download import Downloader, DownloadSettings, sniff


def test_bytes_kept_are_the_servers_and_are_named_by_their_content(site: Site) -> None:
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
def test_server_that_misbehaves_fails_its_row_by_name_and_no_other(site: Site, page: Any, error: str) -> None:
    site.pages["/here"] = page
    before, row, after = fetch(
        site.url(), site.url("/here"), site.url(), timeout_s=1.0 if error == "timeout" else 5.0, max_bytes=1 << 20
    )
    assert (row.status, row.error, row.body, row.sha256) == ("failed_to_download", error, None, None)
    assert row.http_status == (int(page[0][:3]) if error.startswith("http_") else row.http_status)
    assert before.body == after.body == JPEG


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


def test_hanging_row_holds_up_no_other_and_memory_stays_flat_meanwhile(site: Site) -> None:
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


def test_many_large_bodies_at_once_all_come_and_take_turns_in_memory(site: Site) -> None:
    body = JPEG + bytes(12_000_000)
    site.pages["/large"] = ("200 OK", (), body)
    with Downloader(settings(per_host=40, timeout_s=30, buffer_bytes=0)) as downloader:
        rows = downloader.fetch((str(n), site.url(f"/large?{n}")) for n in range(40))
        assert all(row.error is None and row.body == body for row in rows)


def test_body_in_pieces_or_packed_is_put_together(site: Site) -> None:
    async def pieces(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nX-Robots-Tag: noai\r\n\r\n")
        writer.write(head("200 OK", None, "Transfer-Encoding: chunked"))
        for at in range(0, len(JPEG), 100):
            piece = JPEG[at : at + 100]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        writer.write(b"0\r\nX-Robots-Tag: noai\r\n\r\n")

    site.pages |= {"/pieces": pieces, "/packed": ("200 OK", ("Content-Encoding: gzip",), gzip.compress(JPEG))}
    assert [row.body for row in fetch(site.url("/pieces"), site.url("/packed"))] == [JPEG, JPEG]


def test_connection_that_the_server_closed_meanwhile_costs_no_row(site: Site) -> None:
    async def goodbye(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", len(JPEG)) + JPEG)
        await writer.drain()
        writer.close()

    site.pages["/bye"] = goodbye
    rows = fetch(*[site.url("/bye")] * 50, per_host=2)
    assert [row.error for row in rows] == [None] * 50


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


def test_fetch_left_unfinished_does_not_disturb_the_next(site: Site) -> None:
    site.pages["/hang"] = hang
    with Downloader(settings()) as downloader:
        left = downloader.fetch([("a", site.url()), ("b", site.url("/hang"))])
        assert next(left).key == "a"
        assert [row.key for row in downloader.fetch([("c", site.url())])] == ["c"]
        with pytest.raises(ValueError, match="later call"):
            next(left)


def test_rows_are_read_only_a_window_ahead(site: Site) -> None:
    taken = itertools.count()
    with Downloader(settings(window=20)) as downloader:
        rows = downloader.fetch((str(next(taken)), site.url()) for _ in itertools.count())
        assert [next(rows).key for _ in range(100)] == [str(n) for n in range(100)]
    assert next(taken) <= 121


def test_fetch_says_so_when_its_downloader_is_closed(site: Site) -> None:
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


def test_cookie_is_not_carried_from_one_row_to_another(site: Site) -> None:
    """No cookie is carried from one row to another."""
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
