"""A signal ends a command in a sentence, in time, with the exit code that shells know, and with all it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Workplace, kill_group

from curate.process import MARK

OPS = """
import ctypes, hashlib, time
import pyarrow as pa
from curate.ops import op

@op(reads="text", writes={"slow": pa.int32()}, version=1, batch_size=1)
def slow(texts):
    '''Take half a second for each.'''
    time.sleep(0.5)
    return {"slow": [1 for _ in texts]}

@op(reads="text", writes={"deep": pa.int32()}, version=1)
def deep(texts):
    '''Stay in a library for minutes, where no handler of a signal runs.'''
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)
    return {"deep": [1 for _ in texts]}
"""
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
WITHIN_S = 10.0


def started(place: Workplace, op: str, *how: str, waits_for: str) -> subprocess.Popen[str]:
    """A run that is at work: something that matches `waits_for` is there."""
    place.images(30)
    place.write_module("slow_ops", OPS)
    process = place.start("run", place.recipe(steps=[{"op": f"slow_ops:{op}"}]), *how)
    until = time.monotonic() + 120
    while not list(place.out.glob(waits_for)) and process.poll() is None:
        assert time.monotonic() < until, waits_for
        time.sleep(0.05)
    return process


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str, float]:
    """Its exit code, what it said on stderr, and how long it took after the signal."""
    since = time.monotonic()
    process.send_signal(number)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        kill_group(process)
    return process.returncode, said, time.monotonic() - since


def alive(pid: int) -> bool:
    """Whether a process is there, and more than a zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return False


def marked(by: int) -> set[int]:
    """Processes that a command started which are to end with it: those with a mark, below it in the tree."""
    found = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and f"{MARK}=".encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
    return {pid for pid in found if os.getsid(pid) == by}


@pytest.mark.slow
@pytest.mark.parametrize("number", STATUS)
def test_signal_ends_a_run_in_a_sentence_with_its_exit_code(place: Workplace, number: signal.Signals) -> None:
    code, said, seconds = ended(started(place, "slow", "--inline", waits_for="pool-*/rows/*.parquet"), number)
    assert code == STATUS[number] and seconds < WITHIN_S, said
    assert said.rstrip().endswith("stopped; run the same command to go on") and "Traceback" not in said


IMPORTS = """
import os, sys, time
print("begun", flush=True)
try:
    time.sleep(1.0)
except KeyboardInterrupt:
    os.abort()  # as extension modules do that are interrupted while they set themselves up
print("done", flush=True)
"""
COMMAND = """
import sys, time
from pipelines.cli.errors import run_guarded
def work():
    import imported_in_a_second
    time.sleep(30)
def fails():
    import imported_in_a_second
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        raise SystemError("initialization failed")
sys.exit(run_guarded({"work": work, "fails": fails}[sys.argv[1]]))
"""


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("how", ["work", "fails"])
def test_signal_while_a_library_is_imported_waits_for_it_and_then_ends_the_command(
    tmp_path: Path, number: signal.Signals, how: str
) -> None:
    (tmp_path / "imported_in_a_second.py").write_text(IMPORTS, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    since = time.monotonic()
    process.send_signal(number)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (STATUS[number], "done\n"), said
    assert said == "stopped; run the same command to go on\n" and 0.5 < time.monotonic() - since < 5.0


@pytest.mark.slow
def test_command_that_is_deep_in_a_library_ends_in_time(place: Workplace) -> None:
    process = started(place, "deep", "--inline", waits_for="pool-*/plans/*/ingest.json")
    time.sleep(1)
    code, said, seconds = ended(process, signal.SIGTERM)
    assert code == 143 and seconds < WITHIN_S and said.rstrip().endswith("stopped; run the same command to go on")


@pytest.mark.slow
def test_signal_that_is_ignored_stays_so(place: Workplace) -> None:
    """Behind nohup, a closed terminal ends nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = started(place, "slow", "--inline", waits_for="pool-*/rows/*.parquet")
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    assert ended(process, signal.SIGTERM)[0] == 143


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        *(pytest.param(at, marks=pytest.mark.robust) for at in (".lock", "pool-*/rows/*.parquet")),
        pytest.param("pool-*/columns/*/*.parquet", marks=pytest.mark.systems),
    ],
)
def test_sigterm_leaves_nothing_of_ray_behind(place: Workplace, moment: str) -> None:
    """While Ray starts, while rows are taken in, while an op computes."""
    process = started(place, "slow", "--workers", "2", waits_for=moment)
    time.sleep(4 if moment == ".lock" else 0)
    agents = marked(process.pid)
    code, said, seconds = ended(process, signal.SIGTERM)
    assert code == 143 and seconds < WITHIN_S and "stopped; run the same command to go on" in said
    assert "Traceback" not in said
    time.sleep(0.5)
    assert not [pid for pid in agents if alive(pid)]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["driver", pytest.param("raylet", marks=pytest.mark.robust)])
def test_what_dies_below_is_told_in_a_sentence_and_takes_ray_along(place: Workplace, victim: str) -> None:
    """The driver is killed, or Ray's raylet, upon which the driver may be ended by Ray itself."""
    process = started(place, "slow", "--workers", "2", waits_for="pool-*/columns/*/*.parquet")
    agents = marked(process.pid)
    pid = process.pid if victim == "driver" else next(pid for pid in agents if "raylet/raylet" in command_line(pid))
    os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == (-signal.SIGKILL if victim == "driver" else 1)
    assert "error: " in said and "run the same command to go on" in said.lower() and "Traceback" not in said
    time.sleep(1)
    assert agents and not [pid for pid in agents if alive(pid)]


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"RAY_ADDRESS": "127.0.0.1:9"}, ["RAY_ADDRESS=127.0.0.1:9", "no Ray can be reached there", "ray start"]),
        ({"HOME": "/proc"}, ["Ray could not authenticate", "RAY_AUTH_MODE=disabled", "/proc/.ray"]),
    ],
)
def test_ray_that_cannot_be_had_is_told_in_one_sentence(
    place: Workplace, env: dict[str, str], words: list[str]
) -> None:
    place.images(3)
    found = place.command("run", place.recipe(), "--workers", "1", env=env)
    assert found.code == 1 and all(word in found.stderr for word in words), found.stderr
    assert "Traceback" not in found.stderr
