"""Exactly once: kill -9 anything at any moment, run the same command again, and get the bytes of an undisturbed run."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace, kill_group
from engine.test_kinds import OWN as OWN_OF_KINDS
from engine.test_steps import OWN

pytestmark = pytest.mark.slow

ROWS = 120
SEED = 20240229
STEPS: list[dict[str, Any]] = [
    {"op": "text_basic", "keep": {"word_count": {"min": 1}}},
    {"op": "image_size", "keep": {"min_side": {"min": 10}, "pixels": {"top": 0.9}}},
    {"op": "own_ops:rank", "keep": {"rank": {"min": 3}}},
    {"op": "image_ok", "keep": {"image_ok": {"is": True}}},
    {"op": "own_ops:double", "keep": {"double": {"bottom": 0.8}}},
]

DOCUMENT_STEPS: list[dict[str, Any]] = [
    {"op": "own_ops:lines", "keep": {"size": {"max": 100}}},
    {"op": "fetch_images", "keep": {"images_found": {"min": 2}}},
    {"op": "own_ops:weighed", "keep": {"dead": {"max": 1}}},
]

TRAP = """
import atexit, os, signal

ticks, fatal = 0, int(os.environ.get("KILL_AT_TICK", "0"))

def tick():
    global ticks
    ticks += 1
    if ticks == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

def watched(real):
    def call(*args, **kwargs):
        tick()
        found = real(*args, **kwargs)
        tick()
        return found
    return call

if "KILL_AT_TICK" in os.environ:
    for name in ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync"):
        setattr(os, name, watched(getattr(os, name)))
    if not fatal:
        atexit.register(lambda: open(os.environ["TICKS_TO"], "w").write(str(ticks)))
"""
"""Counts what a process does to the file system, and kills it, really and with -9, before or after one of these."""


class Pictures(http.server.BaseHTTPRequestHandler):
    """Serves the workplace's pictures, slowly enough that a kill meets open downloads."""

    protocol_version = "HTTP/1.1"
    folder: Path
    generous = False
    """Whether what was gone is there now."""

    def do_GET(self) -> None:
        time.sleep(0.01)
        path = self.folder / self.path.strip("/")
        there = path.is_file() and (self.generous or not path.name.startswith("gone"))
        body = path.read_bytes() if there else b"none"
        self.send_response(200 if there else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """Clients that were killed are no news."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Killer:
    """A recipe over real downloads, what an undisturbed run of it makes, and ways to disturb another run."""

    def __init__(self, place: Workplace, kind: str = "caption") -> None:
        self.kind = kind
        self.place = place
        place.images(ROWS)
        place.write_module("own_ops", OWN if kind == "caption" else OWN_OF_KINDS)
        place.write_module("sitecustomize", TRAP)
        for number in range(5):
            (place.src / f"gone-{number}.png").write_bytes(place.png(20, 20, 1000 + number))
        self.handler = type("Handler", (Pictures,), {"folder": place.src})
        self.server = Server(("127.0.0.1", 0), self.handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{self.server.server_port}"
        lines = [f"{base}/{n:05d}.png,{'a word ' * (n % 9)}{n}" for n in range(ROWS)]
        lines += [f"{base}/gone-{n}.png,gone" for n in range(5)] + lines[:4]
        (place.root / "urls.csv").write_text("url,text\n" + "\n".join(lines) + "\n")
        pages = [
            f"page {n}\n!{base}/{n:05d}.png\nmore\n!{base}/gone-{n % 5}.png\n!{base}/{n // 2:05d}.png"
            for n in range(ROWS)
        ]
        table = [json.dumps({"url": f"http://x.org/{n}", "html": page}) for n, page in enumerate(pages)]
        (place.root / "pages.jsonl").write_text("\n".join(table) + "\n")
        started = time.monotonic()
        self.expected = self.finish("undisturbed", {"KILL_AT_TICK": "0", "TICKS_TO": str(place.root / "ticks")})
        self.seconds = time.monotonic() - started
        self.ticks = int((place.root / "ticks").read_text())

    def recipe(self, out: str) -> Path:
        """The recipe, with this folder as its `out`."""
        self.place.out = self.place.root / out
        common: dict[str, Any] = {"download": {"allow_private": ["127.0.0.1"]}, "shard_samples": 30}
        if self.kind == "caption":
            source = {"type": "urls", "path": str(self.place.root / "urls.csv")}
            publish = {"shard_samples": 20, "columns": ["width", "rank"]}
            return self.place.recipe(source=source, steps=STEPS, publish=publish, **common)
        source = {"type": "pages", "path": str(self.place.root / "pages.jsonl"), "html": "html"}
        publish = {"shard_samples": 20, "columns": ["dead"]}
        return self.place.recipe(kind=self.kind, source=source, steps=DOCUMENT_STEPS, publish=publish, **common)

    def start(self, out: str, how: list[str], env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start the run in folder `out`."""
        return self.place.start("run", self.recipe(out), "--json", *how, env=env)

    def finish(self, out: str, env: dict[str, str] | None = None, how: str = "--inline") -> dict[str, str]:
        """Run to the end; every file of the dataset and of a manifest of it, by its hash."""
        process = self.start(out, [how], env)
        try:
            _, said = process.communicate(timeout=200)
        finally:
            kill_group(process)
        assert process.returncode == 0, said
        assert self.place.leftovers() == []
        mixed = self.place.curate("mix", self.place.dataset, "-o", self.place.out / "mixture.json")
        assert mixed.code == 0, mixed.stderr
        manifest = (self.place.out / "mixture.json").read_text().replace(out, "OUT")
        return self.place.published() | {"manifest": manifest}

    def kill_at_tick(self, out: str, tick: int) -> None:
        """A run that dies right before or after a change to the file system."""
        process = self.start(out, ["--inline"], {"KILL_AT_TICK": str(tick)})
        _, said = process.communicate(timeout=200)
        assert process.returncode == -signal.SIGKILL, said

    def kill_after(self, out: str, seconds: float, how: str = "--inline") -> bool:
        """A run that is killed with all it started after some time; whether it was still at work."""
        process = self.start(out, how.split())
        with_time = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < with_time:
            time.sleep(0.01)
        alive = process.poll() is None
        os.kill(process.pid, signal.SIGKILL) if alive else None
        process.communicate()
        kill_group(process)
        return alive


@contextlib.contextmanager
def at_work(killer: Killer) -> Iterator[Killer]:
    sys.path.insert(0, str(killer.place.root))
    yield killer
    sys.path.remove(str(killer.place.root))
    sys.modules.pop("own_ops", None)
    killer.server.shutdown()
    killer.server.server_close()


@pytest.fixture(scope="module")
def killer(make_place: Any) -> Iterator[Killer]:
    with at_work(Killer(make_place("kill"))) as found:
        yield found


def moments(count: int) -> list[float]:
    """Seeded moments, one in each of `count` equal parts of a run."""
    chance = random.Random(SEED)
    return [(part + chance.random()) / count for part in range(count)]


@pytest.mark.parametrize("moment", moments(10))
def test_driver_killed_at_any_change_of_the_disk_ends_in_the_same_bytes(killer: Killer, moment: float) -> None:
    out = f"tick-{moment:.4f}"
    killer.kill_at_tick(out, 1 + int(moment * killer.ticks))
    assert killer.finish(out) == killer.expected
    shutil.rmtree(killer.place.out)


def test_driver_killed_again_and_again_ends_in_the_same_bytes(killer: Killer) -> None:
    """Ten random moments over one run's time, each in the run that goes on after the last kill."""
    chance = random.Random(SEED)
    for _ in range(10):
        if not killer.kill_after("often", killer.seconds * chance.uniform(0.3, 1.0)):
            shutil.rmtree(killer.place.out)
    assert killer.finish("often") == killer.expected


@pytest.mark.parametrize("moment", moments(2))
def test_retry_killed_at_any_change_of_the_disk_ends_in_the_same_bytes(
    killer: Killer, moment: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = killer.place

    def done(*words: str) -> None:
        found = place.curate(words[0], recipe, "--inline", *words[1:])
        assert found.code == 0, found.stderr

    recipe = killer.recipe("retry")
    done("run")
    shutil.copytree(place.out, place.root / "before")
    monkeypatch.setattr(killer.handler, "generous", True)
    counting = place.command(
        "retry", recipe, "--inline", env={"KILL_AT_TICK": "0", "TICKS_TO": str(place.root / "ticks")}
    )
    assert "5 came" in counting.stdout
    done("run")
    expected = place.published()
    for steps in (["run", "retry", "run"], ["retry", "run"]):
        shutil.rmtree(place.out)
        shutil.copytree(place.root / "before", place.out)
        tick = 1 + int(moment * int((place.root / "ticks").read_text()))
        killed = place.command("retry", recipe, "--inline", env={"KILL_AT_TICK": str(tick)})
        assert killed.code == -signal.SIGKILL
        for step in steps:
            done(step)
        assert place.published() == expected and place.leftovers() == []
        assert place.curate("verify", place.dataset).code == 0
    shutil.rmtree(place.out)
    shutil.rmtree(place.root / "before")


def children(pid: int) -> dict[int, str]:
    """All processes below `pid` and their command lines."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):  # it may end while we look
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, task.read_text().split()):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
                found |= children(child)
    return found


def busy_worker(process: subprocess.Popen[str], seconds: float = 60) -> int:
    """A Ray worker of this driver that has one of our tasks in hand (Ray writes the task into the title)."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        for pid, line in children(process.pid).items():
            if line.startswith("ray::_do"):
                return pid
    raise AssertionError("no worker of ours was at work")


@pytest.mark.systems
def test_driver_with_ray_killed_at_work_ends_in_the_same_bytes(killer: Killer) -> None:
    process = killer.start("ray-driver", ["--workers", "2"])
    wait_for(killer.place.out, "pool-*/rows/*.parquet", process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert killer.finish("ray-driver") == killer.expected


def test_ray_workers_killed_at_work_are_replaced_and_the_bytes_are_the_same(killer: Killer) -> None:
    """Ray workers killed at work are replaced and the run ends in the same bytes."""
    process = killer.start("ray-worker", ["--workers", "2"])
    try:
        for sign in ("rows/*.parquet", "columns/text_basic-*/*.parquet"):
            wait_for(killer.place.out, f"pool-*/{sign}", process)
            os.kill(busy_worker(process), signal.SIGKILL)
        _, said = process.communicate(timeout=200)
    finally:
        kill_group(process)
    assert process.returncode == 0, said
    assert killer.finish("ray-worker") == killer.expected


def wait_for(out: Path, pattern: str, process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until a file is there."""
    until = time.monotonic() + seconds
    while not list(out.glob(pattern)) and process.poll() is None:
        assert time.monotonic() < until, pattern
        time.sleep(0.01)


@pytest.mark.robust
def test_documents_and_their_images_survive_a_kill_at_any_change_of_disk(make_place: Any) -> None:
    with at_work(Killer(make_place("kill-documents"), "interleaved")) as killer:
        for moment in moments(3):
            out = f"tick-{moment:.4f}"
            killer.kill_at_tick(out, 1 + int(moment * killer.ticks))
            assert killer.finish(out) == killer.expected
            shutil.rmtree(killer.place.out)
