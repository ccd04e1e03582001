"""Workers of one run treat a host as one would: their requests at once, its quiet and its rest are counted together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fetching import fetch, settings
from hostile import Site, hang, late

from curate.download import Downloader, HostServer, share_hosts
from curate.download.hosts import DriverGoneError, LocalHosts

WORKER = """
import sys
from fetching import fetch
from curate.download import share_hosts
share_hosts(sys.argv[1])
fetch(*sys.argv[2:], timeout_s=60)
"""


def workers(*shares: list[str], **knobs: object) -> Counter[str | None]:
    """Fetch each worker's share of URLs at the same time; how their rows ended."""
    usual = {"allow_private": ("127.0.0.0/8",)} | knobs
    with ThreadPoolExecutor(len(shares)) as threads:
        found = threads.map(lambda urls: fetch(*urls, **usual), shares)
        return Counter(row.error for rows in found for row in rows)


@contextlib.contextmanager
def sharing(address: str) -> Iterator[None]:
    share_hosts(address)
    try:
        yield
    finally:
        share_hosts(None)


async def slow(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    await late(site, "/late?0.05", writer)


def test_workers_together_ask_a_host_for_no_more_at_once_than_per_host(site: Site) -> None:
    site.pages["/slow"] = slow
    with HostServer(3, 16) as address, sharing(address):
        assert workers([site.url("/slow")] * 40, [site.url("/slow")] * 40, per_host=3) == {None: 80}
    assert site.most_at_once == 3


def test_many_hosts_are_asked_at_once_by_all_workers() -> None:
    sites = [Site(f"127.0.0.{n}") for n in range(2, 6)]
    for each in sites:
        each.pages["/slow"] = slow
    with HostServer(2, 16) as address, sharing(address):
        started = time.monotonic()
        assert workers(*[[each.url("/slow") for _ in range(10) for each in sites]] * 3, per_host=2) == {None: 120}
        assert time.monotonic() - started < 4  # one after another they take six seconds
    assert [each.most_at_once for each in sites] == [2, 2, 2, 2]
    for each in sites:
        each.close()


def test_worker_that_is_killed_frees_its_turns_at_once(site: Site) -> None:
    site.pages["/hang"] = hang
    with HostServer(2, 16) as address, sharing(address):
        path = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
        dies = subprocess.Popen(
            [sys.executable, "-c", WORKER, address, *[site.url("/hang")] * 4], env=os.environ | {"PYTHONPATH": path}
        )
        while site.now < 2:
            time.sleep(0.01)
        threading.Timer(1, dies.kill).start()
        started = time.monotonic()
        assert workers([site.url()] * 4, timeout_s=60) == {None: 4}
        dies.wait()
    asked = [(path, at - started > 0.9) for at, path, _ in site.requests]
    assert asked == [("/hang", False)] * 2 + [("/ok", True)] * 4


def test_quiet_that_one_worker_was_asked_for_is_kept_by_all(site: Site) -> None:
    site.pages["/busy"] = ("429 Too Many Requests", ("Retry-After: 2",), b"")
    with HostServer(4, 16) as address, sharing(address):
        assert workers([site.url("/busy")]) == {"http_429": 1}
        assert workers([site.url()] * 4, [site.url()] * 4) == {None: 8}
    told, *later = [at for at, _, _ in site.requests]
    assert min(later) - told >= 1.99


def test_host_that_fails_all_workers_is_left_alone_by_all(site: Site) -> None:
    dead = Site("127.0.0.2")
    dead.pages["/gone"] = ("500 Broken", (), b"")
    with HostServer(1, 6) as address, sharing(address):
        assert workers([dead.url("/gone")] * 20, [dead.url("/gone")] * 20) == {"http_500": 6, "host_down": 34}
        assert workers([dead.url("/gone"), site.url()]) == {"host_down": 1, None: 1}
    assert len(dead.requests) == 6
    dead.close()


def test_download_whose_driver_has_gone_stops_and_fails_no_row(site: Site) -> None:
    site.pages["/slow"] = slow
    with HostServer(1, 16) as address, sharing(address):
        downloader = Downloader(settings(per_host=1))
        rows = downloader.fetch((str(n), site.url("/slow")) for n in range(100))
        assert next(rows).error is None
    with pytest.raises(DriverGoneError):
        list(rows)
    downloader.close()
    with sharing(address), pytest.raises(DriverGoneError, match="not to be reached at 127"):
        Downloader(settings())


def test_stranger_who_does_not_know_the_word_is_told_nothing(site: Site) -> None:
    with HostServer(1, 16) as address, sharing(address):
        ip, _, port = address.partition("@")[2].rpartition(":")
        with socket.create_connection((ip, int(port)), timeout=5) as stranger:
            stranger.sendall(b'wrong\n[0, "127.0.0.1"]\n')
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(100) == b""
        with Downloader(settings()) as downloader:
            assert [row.error for row in downloader.fetch([("a", site.url())])] == [None]


def test_caller_that_stops_in_the_middle_holds_no_turn_of_others(site: Site) -> None:
    site.pages["/hang"] = hang
    with HostServer(1, 16) as address, sharing(address), Downloader(settings(timeout_s=60)) as downloader:
        rows = downloader.fetch([("a", site.url()), ("b", site.url("/hang"))])
        assert next(rows).key == "a"
        rows.close()
        assert workers([site.url()]) == {None: 1}


def test_hosts_that_are_through_are_forgotten() -> None:
    async def walk() -> int:
        hosts = LocalHosts(2, 16)
        tracemalloc.start()
        for n in range(20_000):
            hosts.leave(await hosts.enter(f"host-{n}.example"), n % 2 == 0)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held

    assert asyncio.run(walk()) < 1_000_000
