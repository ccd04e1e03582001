"""A process of a killed run that lives on, without the lock, puts nothing into the folder that the next run holds."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace, kill_group
from engine.test_kinds import OWN

from curate.commit import TakenOverError, commit_text, held_folders, join, take_over

TRAP = '''
import os, signal, time
from pathlib import Path

HERE = Path(__file__).parent
real = os.replace

def outlive_the_run():
    """The run dies by kill -9; what it had begun goes on in a child, which has no lock, once the test says so."""
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    os.setsid()
    for number in (1, 2):
        os.dup2(os.open(HERE / "orphan.log", os.O_WRONLY | os.O_CREAT, 0o600), number)
    for number in map(int, os.listdir("/proc/self/fd")):
        if os.path.exists(f"/proc/self/fd/{number}") and os.readlink(f"/proc/self/fd/{number}").endswith("/.lock"):
            os.dup2(os.open(os.devnull, os.O_RDONLY), number)
    (HERE / "orphan").write_text(str(os.getpid()))
    while not (HERE / "go").exists():
        time.sleep(0.01)

def orphan_ends():
    """Let the orphan go on, and wait until it is through."""
    (HERE / "go").touch()
    status = Path("/proc", (HERE / "orphan").read_text(), "stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)

def called(name, target):
    return name in os.environ and os.environ[name] in str(target) and os.environ.pop(name)

def replace(source, target):
    if called("MEETS_AT", target):
        orphan_ends()
    if called("DIES_BEFORE", target):
        outlive_the_run()
    real(source, target)
    if called("DIES_AFTER", target):
        outlive_the_run()

os.replace = replace
'''
"""Right before, or after, it commits the first file whose path holds a word, the process dies and leaves an orphan;
before it commits one whose path holds MEETS_AT, it lets the orphan do what it wants to."""


class Fickle(http.server.BaseHTTPRequestHandler):
    """Serves pages and pictures, none of them twice the same; what is called late comes only later."""

    place: Workplace
    late = True
    served = 0

    def do_GET(self) -> None:
        type(self).served += 1
        seen = type(self).served
        name = self.path.strip("/")
        there = not (self.late and name.startswith("late"))
        page = f"page {name} {'very ' * (seen % 3)}\n!http://{self.headers['Host']}/{name}.png\n"
        body = self.place.png(9, 9, seen) if name.endswith("png") else f"<html>\n{page}".encode()
        self.send_response(200 if there else 503)
        self.send_header("Content-Type", "image/png" if name.endswith("png") else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Haunted:
    """A workplace with a recipe of pages from a fickle server, in whose folder a killed run left an orphan."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        place.write_module("own_ops", OWN)
        place.write_module("sitecustomize", TRAP)
        self.handler = type("Handler", (Fickle,), {"place": place})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{self.server.server_port}"
        rows = [f"{base}/{'late' if n % 4 == 3 else ''}{n}" for n in range(8)]
        (place.root / "pages.csv").write_text("url\n" + "\n".join(rows) + "\n")

    def recipe(self, longest: int) -> Path:
        source = {"type": "pages", "path": str(self.place.root / "pages.csv")}
        steps = [{"op": "own_ops:lines", "keep": {"size": {"max": longest}}}, {"op": "fetch_images"}]
        more = {"download": {"allow_private": ["127.0.0.1"], "retries": 0}, "limits": {"failed": 1.0}}
        return self.place.recipe(kind="interleaved", source=source, steps=steps, shard_samples=4, **more)

    def dies(self, what: str, recipe: Path, after: str, how: str = "DIES_AFTER") -> None:
        """A command is killed after it commits a file (or before), and leaves an orphan that waits to go on."""
        process = self.place.start(what, recipe, "--inline", env={how: after})
        assert process.communicate(timeout=120) is not None and process.returncode == -signal.SIGKILL
        until = time.monotonic() + 60
        while not (self.place.root / "orphan").exists():
            assert time.monotonic() < until
            time.sleep(0.01)

    def run(self, recipe: Path, meets_at: str | None = None) -> None:
        """A run to its end; the orphan goes on before the first commit of a file that is so named."""
        done = self.place.command("run", recipe, "--inline", env={"MEETS_AT": meets_at} if meets_at else {})
        assert done.code == 0, done.stderr

    def orphan_ends(self) -> str:
        """Let the orphan go on, to its end; what it said."""
        (self.place.root / "go").touch()
        status = Path("/proc", (self.place.root / "orphan").read_text(), "stat")
        until = time.monotonic() + 60
        with contextlib.suppress(FileNotFoundError):
            while status.read_text().rpartition(")")[2].split()[0] != "Z":
                assert time.monotonic() < until
                time.sleep(0.01)
        return (self.place.root / "orphan.log").read_text()

    def everything(self) -> dict[str, str]:
        """Whatever lies in the folder; files by their hashes."""
        found = sorted(self.place.out.rglob("*"))
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in found}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self.place.root / "orphan").read_text()), signal.SIGKILL)


@pytest.fixture
def haunted(place: Workplace) -> Iterator[Haunted]:
    found = Haunted(place)
    yield found
    found.close()


ROBUST = pytest.mark.robust


AT = [(".0.tar", "DIES_AFTER"), ("kept-", "DIES_AFTER"), ("/rows/", "DIES_BEFORE"), ("/publish-", "DIES_BEFORE")]


@pytest.mark.parametrize(
    ("at", "how"), [("columns/lines", "DIES_AFTER"), *(pytest.param(*where, marks=ROBUST) for where in AT)]
)
def test_what_an_orphan_commits_after_the_next_run_is_not_there(haunted: Haunted, at: str, how: str) -> None:
    """The next run has another rule: the orphan's columns would lack rows that it needs, and it has other bytes."""
    haunted.dies("run", haunted.recipe(longest=12), at, how)
    haunted.run(haunted.recipe(longest=100))
    before = haunted.everything()
    assert haunted.place.leftovers() == []
    said = haunted.orphan_ends()
    assert haunted.everything() == before
    assert "another run has taken this folder over" in said


@ROBUST
@pytest.mark.parametrize(
    ("at", "meets_at"),
    [("/rows/", "columns/lines"), (".0.tar", "kept-"), ("columns/fetch_images", "kept-"), ("columns/lines", "kept-")],
)
def test_what_an_orphan_commits_within_the_next_run_is_not_taken(haunted: Haunted, at: str, meets_at: str) -> None:
    haunted.dies("run", haunted.recipe(longest=12), at)
    haunted.run(haunted.recipe(longest=100), meets_at)
    said = haunted.orphan_ends()
    assert haunted.place.leftovers() == []
    published = haunted.place.published()
    for made in ("stages", "decisions", "dataset"):
        os.rename(haunted.place.out / made, haunted.place.root / made)
    again = haunted.place.run(haunted.recipe(longest=100))
    assert {step: line["computed"] for step, line in again.steps.items() if line["computed"]} == {}
    assert haunted.place.published() == published, "what is in the pool is what the run said"
    assert "another run has taken this folder over" in said


@pytest.mark.slow
def test_orphan_of_a_retry_leaves_the_rows_of_the_next_run_alone(haunted: Haunted) -> None:
    haunted.run(haunted.recipe(longest=100))
    haunted.handler.late = False  # type: ignore[attr-defined]
    haunted.dies("retry", haunted.recipe(longest=100), "/rows/")
    haunted.run(haunted.recipe(longest=100))
    before = haunted.everything()
    said = haunted.orphan_ends()
    assert haunted.everything() == before and haunted.place.leftovers() == []
    assert "another run has taken this folder over" in said


SLOW_OP = '''
import time
import pyarrow as pa
from curate.ops import op

@op(reads="text", writes={"size": pa.int32()}, version=1)
def slow(texts):
    """Takes its time."""
    time.sleep(0.4)
    return {"size": [len(text) for text in texts]}
'''


@ROBUST
def test_workers_of_a_killed_driver_write_into_the_folder_of_their_own_run_alone(place: Workplace) -> None:
    """Ray's workers live on for seconds; the next run begins at once, with another rule, and ends before or after."""
    place.images(12)
    place.write_module("own_ops", SLOW_OP)

    def recipe(longest: int) -> Path:
        steps = [{"op": "own_ops:slow", "keep": {"size": {"max": longest}}}, {"op": "image_size"}]
        return place.recipe(steps=steps, shard_samples=1)

    expected = place.run(recipe(1000))
    assert expected.code == 0, expected.stderr
    published = place.published()
    shutil.rmtree(place.out)
    process = place.start("run", recipe(8), "--workers", "2")
    until = time.monotonic() + 120
    while not list(place.out.glob("pool-*/columns/slow-*/*.parquet")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    (own,) = place.out.glob(".run-*")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert place.run(recipe(1000)).code == 0
    before = {path: path.stat().st_mtime_ns for path in place.out.rglob("*")}
    time.sleep(5)
    kill_group(process)
    process.communicate()
    assert not own.exists() and place.leftovers() == []
    assert {path: path.stat().st_mtime_ns for path in place.out.rglob("*")} == before
    assert place.published() == published and place.curate("verify", place.out).code == 0


def test_folder_that_another_has_taken_over_is_committed_to_no_more(tmp_path: Path) -> None:
    """Not even where two hold it at once, as on a disk whose locks do nothing."""
    with take_over(tmp_path):
        commit_text(tmp_path / "new" / "first.txt", "ours")
        ours = held_folders()
        with take_over(tmp_path):
            theirs = held_folders()
            assert ours.keys() == theirs.keys() and ours != theirs
        join(ours)  # as the other process, which is still at work, has it
        with pytest.raises(TakenOverError, match="another run has taken this folder over"):
            commit_text(tmp_path / "late" / "second.txt", "ours too")
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["new", "new/first.txt"]


def test_name_as_long_as_a_disk_allows_can_be_committed(tmp_path: Path) -> None:
    for folder in (tmp_path / "held", tmp_path / "free"):
        name = "ø" * 127
        folder.mkdir()
        with take_over(tmp_path / "held"):
            commit_text(folder / name, json.dumps(name))
        assert [path.name for path in folder.iterdir()] == [name]
