"""Whole runs through the command line: what is printed and written, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from train_samples import CAPTION, MULTIMODAL, TINY, command, dataset, lines, mixture, settings

from curate.commit import file_sha256
from curate.stream.tokens import token_ids
from train.__main__ import main
from train.models.dual_encoder import export, load_export


def test_run_prints_one_json_line_and_writes_metrics_and_checkpoints(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(manifest), "--config", str(settings(tmp_path)), "--out", str(out)]) == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert summary["steps"] == 12
    assert {name: served["samples"] for name, served in summary["served"].items()} == {"many": 144, "few": 48}
    assert all(json.loads(line)["samples_per_s"] > 0 for line in (out / "metrics.jsonl").read_text().splitlines())
    assert "step 12/12" in said.err
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["00000010", "00000012"]
    metrics = lines(out)
    assert [line["step"] for line in metrics] == list(range(1, 13))
    assert metrics[-1]["position"] == 192
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert set(metrics[0]) == {"step", "position", "loss", "lr", "grad_norm", "skipped", "served", "alarms"}
    assert metrics[-1]["served"] == summary["served"]
    assert metrics[-1]["alarms"] == summary["alarms"] == []


def test_run_on_packs_of_every_kind_learns_and_tells_what_it_used(kinds: Path, tmp_path: Path) -> None:
    """A run on packs of every kind learns and tells tokens, images and waste."""
    config = settings(tmp_path, objective=MULTIMODAL, data={"batch_size": 4}, optim={**TINY["optim"], "steps": 30})
    assert main([str(kinds), "--config", str(config), "--out", str(tmp_path / "out")]) == 0
    first, *_, last = lines(tmp_path / "out")
    assert last["loss"] < 0.7 * first["loss"]
    assert 0 < last["padding_waste"] < 0.5
    assert last["alarms"] == []
    for name, served in last["served"].items():
        assert served["samples"] and served["text_tokens"] > 20
        assert (served["images"] == 0) == (name == "text")


def test_accumulated_captions_give_the_same_losses_as_a_whole_batch(manifest: Path, tmp_path: Path) -> None:
    runs = {}
    for parts in (1, 4):
        config = settings(tmp_path / str(parts), objective=CAPTION, optim={**TINY["optim"], "accumulate": parts})
        assert main([str(manifest), "--config", str(config), "--out", str(tmp_path / str(parts) / "out")]) == 0
        runs[parts] = [line["loss"] for line in lines(tmp_path / str(parts) / "out")]
    assert runs[4] == pytest.approx(runs[1], rel=1e-3)


def test_bf16_trains_too(manifest: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, optim={**TINY["optim"], "precision": "bf16", "steps": 4})
    assert main([str(manifest), "--config", str(config), "--out", str(tmp_path / "out")]) == 0
    assert lines(tmp_path / "out")[-1]["loss"] < 10


def test_run_goes_on_with_a_mixture_that_continues_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.cli.main import main as curate

    home = mixture(tmp_path / "mixture").parent
    for name, many, few in (("old", 3, 1), ("new", 1, 3)):
        sources = f"[{{path: many, weight: {many}}}, {{path: few, weight: {few}}}]"
        (home / f"{name}.yaml").write_text(f"seed: 7\nbatch: 16\nsources: {sources}\n")
    old, later = home / "old.json", home / "new.json"
    with chdir(home):
        assert curate(["mix", "old.yaml", "-o", str(old)]) == 0
    config, out = settings(tmp_path), tmp_path / "out"
    assert main([str(old), "--config", str(config), "--out", str(out), "--set", "run.keep=9"]) == 0
    first, *others = sorted((out / "checkpoints").iterdir())
    for folder in others:  # as if the run had been killed after its first checkpoint
        shutil.rmtree(folder)
    step = int(first.name)
    with chdir(home):
        assert curate(["mix", "new.yaml", "--continue", f"{old}@{step}", "-o", str(later)]) == 0
    capsys.readouterr()
    assert main([str(later), "--config", str(config), "--out", str(out)]) == 0
    assert f"going on after step {step}, from {out / 'checkpoints'}" in capsys.readouterr().err
    assert main([str(later), "--config", str(config), "--out", str(out)]) == 0
    assert "step 12 was the last: nothing is left to do" in capsys.readouterr().err
    before, after = lines(out)[step - 1]["served"], lines(out)[-1]["served"]
    many, few = (after[name]["samples"] - before[name]["samples"] for name in ("many", "few"))
    assert before["many"]["samples"] > 2 * before["few"]["samples"]
    assert few > 2 * many
    assert after["few"]["wanted"] - before["few"]["wanted"] == 3 * 16 * (12 - step) / 4
    assert max(abs(served["off"]) for served in after.values()) < 2
    assert lines(out)[-1]["alarms"] == []


def test_run_takes_the_texts_that_the_mixture_chooses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run takes the texts that the mixture chooses and refuses what it cannot use."""
    from pipelines.cli.main import main as curate

    home, config, losses = mixture(tmp_path / "mixture").parent, settings(tmp_path), {}
    spec, made = home / "spec.yaml", home / "made.json"
    for number, entry in enumerate(["texts: [txt]", "texts: [meta.names]", "weight: 1", "system: [be brief]"]):
        spec.write_text(f"seed: 7\nsources: [{{path: many, {entry}}}]\n")
        with chdir(home):
            assert curate(["mix", str(spec), "-o", str(made)]) == 0
        out = tmp_path / str(number)
        code = main([str(made), "--config", str(config), "--out", str(out), "--set", "optim.steps=2"])
        losses[number] = [line["loss"] for line in lines(out)] if code == 0 else [code]
    assert losses[0] == losses[2] != losses[1]
    assert losses[3] == [2] and not (tmp_path / "3").exists()
    assert "'many' chooses a system" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--set", "optim.lrr=1"], 2, "did you mean 'lr'"),
        (["--set", "data.batch_size=0"], 2, "data.batch_size"),
        (["--set", "optim.accumulate=3"], 2, "must be a multiple of optim.accumulate"),
        (["--set", "model.tokenizer=simpel"], 2, "did you mean 'simple'"),
        (["--set", "model.weights=gone.safetensors"], 2, "no such file"),
        (["--colour", "red"], 2, "No such option"),
        (["--set", "objective.type=caption", "--evaluate", "many"], 2, "measures a dual encoder"),
    ],
)
def test_wrong_use_is_refused_with_code_2_and_the_place(
    manifest: Path, tmp_path: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(manifest), "--config", str(settings(tmp_path)), "--out", str(out), *arguments]) == code
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert not out.exists()


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "Example: python -m train" in " ".join(capsys.readouterr().out.split())


def test_loss_that_is_not_finite_stops_the_run_with_code_1(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, optim={"steps": 12, "warmup": 0, "lr": 1e30, "clip_norm": 1e30})
    assert main([str(manifest), "--config", str(config), "--out", str(tmp_path / "out")]) == 1
    assert "lower optim.lr" in capsys.readouterr().err


def test_trained_encoder_is_exported_and_opens_in_open_clip(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import open_clip
    from safetensors import safe_open

    out, file = tmp_path / "out", tmp_path / "clip" / "open_clip_model.safetensors"
    fresh = dataset(tmp_path / "fresh", 40, seed=9)
    arguments = [str(manifest), "--config", str(settings(tmp_path)), "--out", str(out), "--export", str(file)]
    more = ["--export-precision", "fp16", "--set", "optim.steps=80", "--evaluate", str(fresh)]
    assert main([*arguments, *more]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["evaluate"]["pairs"] == 40
    assert summary["evaluate"]["auc"] > 0.8
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    (file.parent / "open_clip_config.json").write_text(metadata["open_clip_config"])
    theirs = open_clip.create_model(f"local-dir:{file.parent}").eval()
    ours = load_export(file)
    ours.net.eval()
    ids = token_ids(ours.tokenizer, ["a red square on blue"])
    assert metadata["tokenizer"] == "simple:1024"
    with torch.inference_mode():
        assert torch.equal(theirs.encode_text(ids), ours.net.encode_text(ids))  # type: ignore[operator]
    again = tmp_path / "again.safetensors"
    export(ours, again, "fp16")
    assert file_sha256(again) == file_sha256(file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "begun"),
    [
        pytest.param(CAPTION, False, marks=pytest.mark.robust),
        pytest.param({"type": "contrastive"}, True, marks=pytest.mark.systems),
        (MULTIMODAL, False),
    ],
    ids=["caption", "contrastive, begun alone", "multimodal"],
)
def test_two_ranks_train_as_one(
    tmp_path: Path, objective: dict[str, Any], begun: bool, request: pytest.FixtureRequest
) -> None:
    manifest = request.getfixturevalue("kinds" if objective is MULTIMODAL else "manifest")
    config = settings(tmp_path, objective=objective, run={**TINY["run"], "keep": 9})
    one, two = tmp_path / "one", tmp_path / "two"
    assert main([str(manifest), "--config", str(config), "--out", str(one)]) == 0
    if begun:
        shutil.copytree(one / "checkpoints" / "00000005", two / "checkpoints" / "00000005")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, *command(manifest, config, two)], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["served"] == lines(one)[-1]["served"]
    for alone, together in zip(lines(one)[5 if begun else 0 :], lines(two), strict=True):
        assert together["position"] == alone["position"]
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-3)


@pytest.mark.slow
def test_the_command_trains_on_several_ranks_under_torchrun(manifest: Path, tmp_path: Path) -> None:
    config, script = settings(tmp_path), tmp_path / "bin" / "curate"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom pipelines.__main__ import start\nstart()\n")  # as pip writes it
    script.chmod(0o755)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    words = [str(script), "train", str(manifest), "--config", str(config), "--out", str(tmp_path / "out")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([*torchrun, *words], env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert lines(tmp_path / "out")[-1]["step"] == 12
    assert len(done.stdout.splitlines()) == 1, "one rank speaks"
