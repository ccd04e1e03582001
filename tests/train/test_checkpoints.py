"""Checkpoints: a run that goes on ends in the same bits, whatever stopped it, and no foreign checkpoint is taken."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from train_samples import CAPTION, MULTIMODAL, TINY, command, lines, mixture, settings

from curate.commit import file_sha256
from train.__main__ import main


def weights(out: Path) -> str:
    return file_sha256(max((out / "checkpoints").iterdir()) / "model.safetensors")


def two_steps(manifest: Path, folder: Path) -> list[str]:
    """The arguments of a run of two steps."""
    config = str(settings(folder))
    return [str(manifest), "--config", config, "--out", str(folder / "out"), "--set", "optim.steps=2"]


def test_finished_run_asked_again_computes_nothing(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(manifest), "--config", str(settings(tmp_path)), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    capsys.readouterr()
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["steps_now"] == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == files


@pytest.mark.parametrize(
    ("objective", "mixed"),
    [({"type": "contrastive"}, "manifest"), (CAPTION, "manifest"), (MULTIMODAL, "kinds")],
    ids=["contrastive", "caption", "multimodal"],
)
def test_run_gone_on_from_a_checkpoint_ends_in_the_same_bits(
    tmp_path: Path, objective: dict[str, Any], mixed: str, request: pytest.FixtureRequest
) -> None:
    manifest = request.getfixturevalue(mixed)
    data = {"batch_size": 4 if mixed == "kinds" else 16, "augment": {"crop_min_area": 0.5}}
    config = settings(tmp_path, objective=objective, data=data)
    whole, gone_on = tmp_path / "whole", tmp_path / "gone_on"
    assert main([str(manifest), "--config", str(config), "--out", str(whole), "--set", "run.keep=9"]) == 0
    shutil.copytree(whole / "checkpoints" / "00000005", gone_on / "checkpoints" / "00000005")
    written = (whole / "metrics.jsonl").read_text().splitlines(keepends=True)
    (gone_on / "metrics.jsonl").write_text("".join(written[:8]) + written[8][:30])
    assert main([str(manifest), "--config", str(config), "--out", str(gone_on)]) == 0
    assert lines(gone_on) == lines(whole)
    assert weights(gone_on) == weights(whole)


def test_checkpoint_that_cannot_be_read_is_named(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(manifest), "--config", str(settings(tmp_path)), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    broken = tmp_path / "out" / "checkpoints" / "00000012" / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:100])
    assert main(arguments) == 2
    assert "00000012: cannot be read" in capsys.readouterr().err
    shutil.rmtree(broken.parent)
    assert main(arguments) == 0


@pytest.mark.parametrize("cut", ["", "{", '{"step": 12, "ver', "[]", "\0\0\0"])
def test_state_that_was_cut_is_named_with_what_to_do(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: str
) -> None:
    arguments = two_steps(manifest, tmp_path)
    assert main(arguments) == 0
    (state,) = (tmp_path / "out" / "checkpoints").glob("*/state.json")
    state.write_text(cut, encoding="utf-8")
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert f"{state}: cannot be read" in said and f"remove the folder {state.parent} to go on" in said
    assert "Traceback" not in said
    shutil.rmtree(state.parent)
    assert main(arguments) == 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"optim.lr": "0.5"}, "optim.lr: 0.002 -> 0.5"), ({"seed": "1"}, "seed: 0 -> 1")],
)
def test_checkpoint_of_another_configuration_is_refused_and_change_named(
    manifest: Path, tmp_path: Path, changed: dict[str, str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(manifest), "--config", str(settings(tmp_path)), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--set", "optim.steps=2"]) == 0
    capsys.readouterr()
    sets = [part for key, value in changed.items() for part in ("--set", f"{key}={value}")]
    assert main([*arguments, "--set", "optim.steps=2", *sets]) == 2
    said = capsys.readouterr()
    assert named in said.err
    assert said.out == ""


def test_checkpoint_of_another_mixture_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from curate import mix

    manifest = mixture(tmp_path / "mixture")
    arguments = two_steps(manifest, tmp_path)
    assert main(arguments) == 0
    mix.build([(tmp_path / "mixture" / "many", 1.0)], 7, manifest)
    assert main(arguments) == 2
    assert "the mixture manifest" in capsys.readouterr().err


def test_how_a_run_is_carried_out_may_change_between_runs(manifest: Path, tmp_path: Path) -> None:
    arguments = two_steps(manifest, tmp_path)
    assert main(arguments) == 0
    assert main([*arguments, "--set", "run.log_every=5", "--set", "run.decode_threads=1"]) == 0


SMALL_DISK = """
import resource, sys
from train.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_checkpoint_without_room_leaves_the_one_before_and_a_sentence(manifest: Path, tmp_path: Path) -> None:
    """A checkpoint for which there is no room leaves the one before and a sentence."""
    config, out = settings(tmp_path), tmp_path / "out"
    assert main(command(manifest, config, out, "--set", "optim.steps=12")[2:]) == 0
    shutil.rmtree(out / "checkpoints" / "00000012")
    limited = [sys.executable, "-c", SMALL_DISK, "300000", *command(manifest, config, out)[2:]]
    done = subprocess.run(limited, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert "00000012: the checkpoint could not be written" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["00000010"]
    assert main(command(manifest, config, out)[2:]) == 0


def test_checkpoint_of_an_older_version_is_refused(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(manifest), "--config", str(settings(tmp_path)), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--set", "optim.steps=2"]) == 0
    [state] = (tmp_path / "out" / "checkpoints").glob("*/state.json")
    state.write_text(state.read_text().replace('"version": 4', '"version": 1'))
    assert main([*arguments, "--set", "optim.steps=2"]) == 2
    assert "00000002: is of version 1" in capsys.readouterr().err


def test_weights_of_one_run_can_start_another(manifest: Path, tmp_path: Path) -> None:
    arguments = [str(manifest), "--config", str(settings(tmp_path)), "--set", "optim.steps=20"]
    assert main([*arguments, "--out", str(tmp_path / "one"), "--export", str(tmp_path / "one.safetensors")]) == 0
    weights_only = ["--set", f"model.weights={tmp_path / 'one.safetensors'}", "--set", "optim.lr=0.0001"]
    assert main([*arguments, "--out", str(tmp_path / "two"), *weights_only]) == 0
    whole = settings(tmp_path / "whole", model={"clip": str(tmp_path / "one.safetensors")})
    assert (
        main([str(manifest), "--config", str(whole), "--set", "optim.lr=0.0001", "--out", str(tmp_path / "three")]) == 0
    )
    assert lines(tmp_path / "two")[0]["loss"] < lines(tmp_path / "one")[0]["loss"]
    assert lines(tmp_path / "three")[0]["loss"] == lines(tmp_path / "two")[0]["loss"]


@pytest.mark.slow
def test_interrupted_run_says_how_to_go_on_and_exits_with_130(manifest: Path, tmp_path: Path) -> None:
    config, out = settings(tmp_path, optim={"steps": 100_000}), tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, *command(manifest, config, out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and _steps(out) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, progress = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    assert "interrupted; run the same command to go on" in progress


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [pytest.param("manifest", marks=pytest.mark.robust), "kinds"])
def test_run_killed_at_any_moment_and_run_again_ends_in_the_same_bits(
    tmp_path: Path, mixed: str, request: pytest.FixtureRequest
) -> None:
    manifest, packed = request.getfixturevalue(mixed), mixed == "kinds"
    objective, data = (MULTIMODAL, {"batch_size": 4}) if packed else (TINY["objective"], TINY["data"])
    changed = {"optim": {**TINY["optim"], "steps": 60}, "run": {**TINY["run"], "checkpoint_every": 2}}
    config = settings(tmp_path, objective=objective, data=data, **changed)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([str(manifest), "--config", str(config), "--out", str(whole)]) == 0
    for step in (1, 25):
        process = subprocess.Popen(
            [sys.executable, *command(manifest, config, killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and _steps(killed) < step and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([sys.executable, *command(manifest, config, killed)], check=True, capture_output=True)
    assert lines(killed) == lines(whole)
    assert weights(killed) == weights(whole)
    assert not list((killed / "checkpoints").glob(".*"))


def _steps(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0
