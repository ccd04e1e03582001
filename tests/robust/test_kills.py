"""Kill -9 every part of every command at seeded moments; the same command again ends in the same bytes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import kill_group
from engine.test_kill import SEED, Killer, at_work, children
from train_samples import TINY, command, lines, settings

from curate.commit import file_sha256

pytestmark = pytest.mark.robust

MOMENTS = 3
VICTIMS = {
    "driver": "",
    "worker": "ray::",
    "raylet": "/raylet\0",
    "gcs": "/gcs_server\0",
    "agents": "agent",
    "everything": "",
}
"""The victims, and what their command line holds."""


@pytest.fixture(scope="module")
def killer(make_place: Any) -> Iterator[Killer]:
    with at_work(Killer(make_place("robust"))) as found:
        yield found


def strike(process: subprocess.Popen[str], victim: str) -> int:
    """Kill the victim; how many processes that were."""
    if victim == "everything":
        found = [process.pid, *children(process.pid)]
    elif victim == "driver":
        found = [process.pid]
    else:
        found = [pid for pid, line in children(process.pid).items() if VICTIMS[victim] in line]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(found)


def moments(victim: str, command: str, seconds: float) -> list[float]:
    """Seeded moments of a command that takes so many seconds, one in each part of it."""
    chance = random.Random(f"{SEED} {victim} {command}")
    return [seconds * (part + chance.random()) / MOMENTS for part in range(MOMENTS)]


@pytest.fixture(scope="module")
def ray_seconds(killer: Killer) -> float:
    """How long an undisturbed run on two workers takes."""
    started = time.monotonic()
    assert killer.finish("quiet", how="--workers=2") == killer.expected
    shutil.rmtree(killer.place.out)
    return time.monotonic() - started


@pytest.mark.parametrize("victim", VICTIMS)
def test_run_ends_in_the_same_bytes_whatever_was_killed(
    killer: Killer, ray_seconds: float, victim: str, table: list[dict[str, Any]]
) -> None:
    deaths = 0
    for number, moment in enumerate(moments(victim, "run", ray_seconds)):
        process = killer.start(f"run-{victim}-{number}", ["--workers", "2"])
        try:
            time.sleep(moment)
            deaths += strike(process, victim) if process.poll() is None else 0
            process.communicate(timeout=180)
        finally:
            kill_group(process)
        assert killer.finish(f"run-{victim}-{number}") == killer.expected
        shutil.rmtree(killer.place.out)
    table.append({"victim": victim, "command": "run", "deaths": deaths, "outcome": f"{MOMENTS} times the same bytes"})


class Trial:
    """A command on a finished run, as often as wanted: prepared, its words, and what it made."""

    def __init__(self, killer: Killer, name: str) -> None:
        self.place, self.name = killer.place, name
        self.recipe = killer.recipe("others")
        killer.finish("others")

    def prepare(self, folder: str) -> Path:
        out = self.place.root / folder
        shutil.rmtree(out, ignore_errors=True)
        if self.name in ("index", "mix"):
            out.mkdir()
        if self.name == "index":
            for tar in self.place.dataset.glob("*.tar"):
                shutil.copy(tar, out)
        return out

    def words(self, out: Path) -> list[str | Path]:
        return {
            "retry": ["retry", self.recipe, "--inline"],
            "convert": ["convert", self.place.dataset, "--to", "datasets", "-o", out],
            "index": ["index", out, "--workers", "2"],
            "mix": ["mix", self.place.dataset, "-o", out / "mixture.json"],
        }[self.name]

    def made(self, out: Path) -> dict[str, str]:
        if self.name == "retry":
            assert self.place.curate("run", self.recipe, "--inline").code == 0
            return self.place.published()
        return {p.relative_to(out).as_posix(): file_sha256(p) for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ["retry", "convert", "index", "mix"])
def test_other_commands_end_in_the_same_bytes_when_killed(
    killer: Killer, name: str, table: list[dict[str, Any]]
) -> None:
    trial = Trial(killer, name)
    out = trial.prepare("made")
    started = time.monotonic()
    assert trial.place.command(*trial.words(out)).code == 0
    seconds = time.monotonic() - started
    expected, deaths = trial.made(out), 0
    for moment in moments("everything", name, seconds):
        trial.prepare("made")
        process = trial.place.start(*trial.words(out))
        time.sleep(moment)
        deaths += strike(process, "everything") if process.poll() is None else 0
        process.communicate(timeout=60)
        kill_group(process)
        done = trial.place.command(*trial.words(out))
        assert done.code == 0, done.stderr
        assert trial.made(out) == expected
    row = {"victim": "everything", "command": name, "deaths": deaths, "outcome": f"{MOMENTS} times the same bytes"}
    table.append(row)


def test_training_ends_in_the_same_bits_when_killed(
    tmp_path: Path, killer: Killer, table: list[dict[str, Any]]
) -> None:
    manifest = killer.place.root / "mixture.json"
    killer.finish("trained")
    assert killer.place.curate("mix", killer.place.dataset, "-o", manifest).code == 0
    changed = {"optim": {**TINY["optim"], "steps": 40}, "run": {**TINY["run"], "checkpoint_every": 2}}
    config = settings(tmp_path, **changed)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    started = time.monotonic()
    subprocess.run([sys.executable, *command(manifest, config, whole)], check=True, capture_output=True)
    seconds = time.monotonic() - started
    deaths = 0
    for moment in moments("driver", "train", seconds):
        process = subprocess.Popen(
            [sys.executable, *command(manifest, config, killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moment)
        deaths += process.poll() is None
        process.kill()
        process.wait()
    subprocess.run([sys.executable, *command(manifest, config, killed)], check=True, capture_output=True)
    assert lines(killed) == lines(whole)
    newest = [file_sha256(max((out / "checkpoints").iterdir()) / "model.safetensors") for out in (killed, whole)]
    assert newest[0] == newest[1]
    table.append({"victim": "driver", "command": "train", "deaths": deaths, "outcome": "the same weights"})
