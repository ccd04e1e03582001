"""How servers are treated: waits and retries within bounds, opt-outs honoured, a slow or dead host left alone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from math import inf

import pytest
from fetching import fetch
from hostile import JPEG, Site, hang, head, late

from curate.download.transport import backoff_s, seconds_to_wait


def test_slow_host_is_spared_and_does_not_keep_the_others_waiting(site: Site) -> None:
    slow = Site("127.0.0.2")
    slow.pages["/late"] = late
    rows = [slow.url("/late?0.1")] * 40 + [site.url()] * 200
    found = fetch(*rows, allow_private=("127.0.0.0/8",), per_host=2, concurrency=8)
    slow.close()
    assert all(row.status == "success" for row in found)
    assert slow.most_at_once == 2 >= site.most_at_once
    assert max(at for at, _, _ in site.requests) < slow.requests[-1][0]


def test_failure_that_may_pass_is_tried_again_and_no_other(site: Site) -> None:
    """What may pass is tried again and what may not is not."""
    tries: Counter[str] = Counter()

    async def recovers(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
        tries[path] += 1
        writer.write(head("503 Busy", 0) if tries[path] < 3 else head("200 OK", len(JPEG)) + JPEG)

    site.pages |= {"/recovers": recovers, "/busy": ("500 Oh", (), b""), "/gone": ("404 No", (), b"")}
    rows = fetch(site.url("/recovers"), site.url("/busy"), site.url("/gone"), retries=2)
    assert [(row.error, row.attempts) for row in rows] == [(None, 3), ("http_500", 3), ("http_404", 1)]


def test_retry_after_quiets_whole_host_and_is_not_waited_for_beyond_bound(site: Site) -> None:
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


def test_host_that_is_down_costs_a_few_timeouts_and_not_one_a_row(site: Site) -> None:
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


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7), (" 7 ", 7, 7), ("7.5", 7.5, 7.5), ("0", 0, 0), ("9" * 500, 1e300, inf),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("Sunday, 06-Nov-94 08:49:37 GMT", 0, 0),
        ("Sun Nov  6 08:49:37 1994", 0, 0), ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9, inf),
        ("IN 60 SECONDS", 58, 60), ("IN 60 SECONDS, without a zone", 58, 60),
    ],
)  # fmt: skip
def test_wait_that_a_server_asks_for_is_read_in_each_of_its_forms(value: str, least: float, most: float) -> None:
    if value.startswith("IN"):
        then = datetime.now(UTC) + timedelta(seconds=60)
        value = then.strftime("%a, %d %b %Y %H:%M:%S" if "zone" in value else "%a, %d %b %Y %H:%M:%S GMT")
    found = seconds_to_wait(value)
    assert found is not None and least <= found <= most


@pytest.mark.parametrize(
    "value",
    [None, "", "soon", "-5", "+5", "²", "７", "1e9", "nan", "inf", "7 seconds", "7, 8", "0x10", "2026-11-29T01:00:00Z",
     "Mon, 00 Foo 0000 99:99:99 GMT", "Fri, 31 Dec 99999 23:59:59 GMT", "(" * 9999],
)  # fmt: skip
def test_wait_that_cannot_be_meant_changes_nothing(site: Site, value: str | None) -> None:
    assert seconds_to_wait(value) is None
    site.pages["/busy"] = ("429 Slow Down", (f"Retry-After: {value or ''}",), b"")
    (row,) = fetch(site.url("/busy"), retries=1)
    assert (row.error, row.attempts, row.http_status) == ("http_429", 2, 429)


def test_wait_beyond_what_is_waited_for_is_told(site: Site) -> None:
    site.pages["/busy"] = ("503 Busy", ("Retry-After: 86400",), b"")
    (row,) = fetch(site.url("/busy"), retries=1)
    assert (row.error, row.attempts, row.detail) == ("http_503", 1, "Busy; Retry-After: 86400")


@pytest.mark.parametrize(("value", "refused"), [("1", True), (" 1 ", True), ("0", False), ("yes", False)])
def test_file_whose_owner_reserves_text_and_data_mining_is_not_taken(site: Site, value: str, refused: bool) -> None:
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
def test_opt_out_header_is_honoured_when_it_is_meant_for_us(site: Site, value: str, refused: bool) -> None:
    site.pages["/tagged"] = ("200 OK", (f"X-Robots-Tag: {value}",), JPEG)
    (row,) = fetch(site.url("/tagged"))
    (asked,) = fetch(site.url("/tagged"), respect_opt_out=())
    assert (row.error, row.body is None) == (("opt_out", True) if refused else (None, False))
    assert asked.status == "success"


def test_user_agent_says_who_we_are(site: Site) -> None:
    fetch(site.url(), user_agent="pictures-for-science/2 (+https://example.org/bot)")
    fetch(site.url())
    assert "User-Agent: pictures-for-science/2 (+https://example.org/bot)\r\n" in site.requests[0][2]
    assert "User-Agent: curate-mm/" in site.requests[1][2]
