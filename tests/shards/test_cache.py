"""The host's cache of tars: its budget, what makes room for what, and what a killed process leaves behind."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT

from curate.commit import file_sha256
from curate.shards import ShardCache
from curate.shards.ranges import merge_spans


def test_ranges_join_across_small_gaps_only() -> None:
    assert merge_spans([(50, 60), (0, 10), (11, 20), (5, 8)], gap=5) == ([(0, 20), (50, 60)], [1, 0, 0, 0])
    assert merge_spans([(0, 10), (10, 20)], gap=0, most=15) == ([(0, 10), (10, 20)], [0, 1])


def kept(cache: ShardCache, tmp_path: Path, number: int) -> Path | None:
    """A shard of 1,000 bytes, fetched through the cache."""
    content = f"{number}".encode().ljust(1000, b".")
    (tmp_path / "source").write_bytes(content)
    return cache.get(f"{number}.tar", 1000, file_sha256(tmp_path / "source"), lambda part: _write(part, content))


def _write(part: Path, content: bytes) -> None:
    part.write_bytes(content)


def test_cache_keeps_its_budget_and_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 3500)
    first, second, third = (kept(cache, tmp_path, number) for number in range(3))
    assert first and second and third and cache.used_bytes() == 3000
    kept(cache, tmp_path, 0)
    fourth = kept(cache, tmp_path, 3)
    assert fourth and cache.used_bytes() == 3000
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)


def test_prefetch_takes_room_only_from_what_is_idle_or_needed_later(tmp_path: Path) -> None:
    """What is fetched ahead of its use takes room only from what is idle or needed later."""
    cache = ShardCache(tmp_path / "cache", 2500)

    def fetched_ahead(number: int, later: set[str]) -> Path | None:
        content = f"{number}".encode().ljust(1000, b".")
        sha256 = hashlib.sha256(content).hexdigest()
        return cache.get(f"{number}.tar", 1000, sha256, lambda part: _write(part, content), later)

    first, second = (kept(cache, tmp_path, number) for number in range(2))
    assert first and second
    assert fetched_ahead(2, set()) is None and first.exists() and second.exists()
    assert fetched_ahead(2, {second.stem}) and first.exists() and not second.exists()
    os.utime(first, (0, 0))  # not used since 1970
    assert fetched_ahead(3, set()) and not first.exists()
    assert cache.used_bytes() == 2000


def test_shard_larger_than_the_budget_is_not_kept(tmp_path: Path) -> None:
    assert kept(ShardCache(tmp_path / "cache", 999), tmp_path, 0) is None


def test_one_of_many_that_ask_at_once_fetches(tmp_path: Path) -> None:
    content, fetched = b"x" * 1000, []
    (tmp_path / "source").write_bytes(content)
    sha256 = file_sha256(tmp_path / "source")

    def fetch(part: Path) -> None:
        fetched.append(part)
        time.sleep(0.1)
        part.write_bytes(content)

    caches = [ShardCache(tmp_path / "cache", 5000) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda cache: cache.get("a.tar", 1000, sha256, fetch), caches))
    assert len(fetched) == len(paths) == 1


KILLED = """
import sys, time
from pathlib import Path
from curate.shards import ShardCache

def fetch(part):
    part.open("r+b").write(b"half")
    print("fetching", flush=True)
    time.sleep(60)

ShardCache(Path(sys.argv[1]), 2500).get("a.tar", 2000, "a" * 64, fetch)
"""


@pytest.mark.slow
def test_killed_download_leaves_neither_a_lock_nor_its_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "cache")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert running.stdout is not None and running.stdout.readline() == b"fetching\n"
    cache = ShardCache(tmp_path / "cache", 2500)
    assert cache.used_bytes() == 2000 and kept(cache, tmp_path, 0) is None  # a living download keeps its room
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    assert kept(cache, tmp_path, 0) and cache.used_bytes() == 1000
