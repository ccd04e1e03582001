"""Whole runs through the command line: what is printed and written, what is refused, what a kill leaves behind."""

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
import torch
from conftest import ROOT
from train_samples import MULTIMODAL, TINY, composed, dataset, mixture, of_every_kind, settings_file

from curate.commit import file_sha256
from curate.mix.count_tokens import add_text_tokens
from train.__main__ import main
from train.models.dual_encoder import export, load_export

CAPTION = {
    "type": "caption",
    "train_tower": True,
    "text_length": 24,
    "language": {"width": 32, "layers": 1, "heads": 2},
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_every_kind(tmp_path_factory.mktemp("kinds"))


def settings(folder: Path, **changed: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return settings_file(folder, {**TINY, **changed})


def lines(out: Path) -> list[dict[str, Any]]:
    """The metrics without what the clock decides."""
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "samples_per_s"} for line in found]


def weights(out: Path) -> str:
    return file_sha256(max((out / "checkpoints").iterdir()) / "model.safetensors")


def command(manifest: Path, config: Path, out: Path, *more: str) -> list[str]:
    return ["-m", "train", str(manifest), "--config", str(config), "--out", str(out), *more]


def two_steps(manifest: Path, folder: Path) -> list[str]:
    """The arguments of a run of two steps."""
    config = str(settings(folder))
    return [str(manifest), "--config", config, "--out", str(folder / "out"), "--set", "optim.steps=2"]


def test_a_run_prints_one_json_line_and_writes_metrics_and_checkpoints(
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
    assert set(metrics[0]) == {"step", "position", "loss", "lr", "grad_norm", "served", "alarms"}
    assert metrics[-1]["served"] == summary["served"]
    assert metrics[-1]["alarms"] == summary["alarms"] == []


def test_a_finished_run_asked_again_computes_nothing(
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
def test_a_run_gone_on_from_a_checkpoint_ends_in_the_same_bits(
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


def test_a_run_on_packs_of_every_kind_learns_and_tells_tokens_images_and_waste(kinds: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, objective=MULTIMODAL, data={"batch_size": 4}, optim={**TINY["optim"], "steps": 30})
    assert main([str(kinds), "--config", str(config), "--out", str(tmp_path / "out")]) == 0
    first, *_, last = lines(tmp_path / "out")
    assert last["loss"] < 0.7 * first["loss"]
    assert 0 < last["padding_waste"] < 0.5
    assert last["alarms"] == []
    for name, served in last["served"].items():
        assert served["samples"] and served["text_tokens"] > 20
        assert (served["images"] == 0) == (name == "text")


def test_a_checkpoint_that_cannot_be_read_is_named(
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


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"optim.lr": "0.5"}, "optim.lr: 0.002 -> 0.5"), ({"seed": "1"}, "seed: 0 -> 1")],
)
def test_a_checkpoint_of_another_configuration_is_refused_and_the_change_named(
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


def test_a_run_goes_on_with_a_mixture_that_continues_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.cli.main import main as curate

    home = mixture(tmp_path / "mixture").parent
    for name, many, few in (("old", 3, 1), ("new", 1, 3)):
        sources = f"[{{path: many, weight: {many}}}, {{path: few, weight: {few}}}]"
        (home / f"{name}.yaml").write_text(f"seed: 7\nbatch: 16\nsources: {sources}\n")
    old, later = home / "old.json", home / "new.json"
    assert curate(["mix", str(home / "old.yaml"), "-o", str(old)]) == 0
    config, out = settings(tmp_path), tmp_path / "out"
    assert main([str(old), "--config", str(config), "--out", str(out), "--set", "run.keep=9"]) == 0
    first, *others = sorted((out / "checkpoints").iterdir())
    for folder in others:  # as if the run had been killed after its first checkpoint
        shutil.rmtree(folder)
    step = int(first.name)
    assert curate(["mix", str(home / "new.yaml"), "--continue", f"{old}@{step}", "-o", str(later)]) == 0
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


def test_a_run_takes_the_texts_that_the_mixture_chooses_and_refuses_what_it_cannot_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.cli.main import main as curate

    home, config, losses = mixture(tmp_path / "mixture").parent, settings(tmp_path), {}
    spec, made = home / "spec.yaml", home / "made.json"
    for number, entry in enumerate(["texts: [txt]", "texts: [meta.names]", "weight: 1", "system: [be brief]"]):
        spec.write_text(f"seed: 7\nsources: [{{path: many, {entry}}}]\n")
        assert curate(["mix", str(spec), "-o", str(made)]) == 0
        out = tmp_path / str(number)
        code = main([str(made), "--config", str(config), "--out", str(out), "--set", "optim.steps=2"])
        losses[number] = [line["loss"] for line in lines(out)] if code == 0 else [code]
    assert losses[0] == losses[2] != losses[1]
    assert losses[3] == [2] and not (tmp_path / "3").exists()
    assert "'many' chooses a system" in capsys.readouterr().err


def test_a_checkpoint_of_another_mixture_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--set", "optim.lrr=1"], 2, "did you mean 'lr'"),
        (["--set", "data.batch_size=0"], 2, "data.batch_size"),
        (["--set", "optim.accumulate=3"], 2, "must be a multiple of optim.accumulate"),
        (["--set", "model.tokenizer=simpel"], 2, "did you mean 'simple'"),
        (["--set", "model.weights=gone.safetensors"], 2, "no such file"),
        (["--colour", "red"], 2, "No such option"),
        (["--set", "objective.type=caption", "--export", "x.safetensors"], 2, "for a dual encoder"),
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


def test_a_loss_that_is_not_finite_stops_the_run_with_code_1(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, optim={"steps": 12, "warmup": 0, "lr": 1e30, "clip_norm": 1e30})
    assert main([str(manifest), "--config", str(config), "--out", str(tmp_path / "out")]) == 1
    assert "lower optim.lr" in capsys.readouterr().err


def test_unreadable_samples_are_counted_in_the_metrics_and_listed(tmp_path: Path) -> None:
    manifest = mixture(tmp_path / "mixture", many=(3, 44))
    assert main([str(manifest), "--config", str(settings(tmp_path)), "--out", str(tmp_path / "out")]) == 0
    listed = [json.loads(line) for line in (tmp_path / "out" / "unreadable.00000.jsonl").read_text().splitlines()]
    served = lines(tmp_path / "out")[-1]["served"]
    assert (served["many"]["replaced"], served["few"]["replaced"]) == (len(listed), 0)
    assert {item["row"] for item in listed} == {3, 44}


def test_an_alarm_is_said_once_and_stands_in_every_line_from_then_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = mixture(tmp_path / "mixture", many=(3, 8, 9, 44))
    config = settings(tmp_path, data={"batch_size": 16, "max_unreadable": 0.5})
    assert main([str(manifest), "--config", str(config), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    alarmed = [line["alarms"] for line in lines(tmp_path / "out")]
    first = next(number for number, alarms in enumerate(alarmed) if alarms)
    assert not any(alarmed[:first]) and all(len(alarms) == 1 for alarms in alarmed[first:])
    assert said.err.count("alarm at step") == 1
    assert f"alarm at step {first + 1}: {alarmed[first][0]}" in said.err
    assert json.loads(said.out)["alarms"] == alarmed[-1]


def test_a_share_of_tokens_that_leaves_its_bound_is_an_alarm_in_the_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = mixture(tmp_path / "mixture").parent
    for name in ("many", "few"):
        add_text_tokens(home / name, "words")
    path = composed(home, "seed: 2\nunit: text_tokens\nsources: [{path: many, weight: 3}, {path: few}]", "tokens.json")
    add_text_tokens(home / "few", "bytes")  # its texts are longer than the mixture was told
    assert main([str(path), "--config", str(settings(tmp_path)), "--out", str(tmp_path / "out")]) == 0
    alarms = lines(tmp_path / "out")[-1]["alarms"]
    assert len(alarms) == 2 and alarms[0].startswith("many: 720 text tokens, ")
    assert capsys.readouterr().err.count("alarm at step") == 2
    served = lines(tmp_path / "out")[-1]["served"]
    assert served["few"]["units_share"] == served["few"]["text_tokens_share"] > 0.5


def test_text_tokens_and_images_are_in_the_metrics_where_indexes_tell_them(tmp_path: Path) -> None:
    manifest = mixture(tmp_path / "mixture")
    for name in ("many", "few"):
        add_text_tokens(manifest.parent / name, "words")
    config, out = settings(tmp_path), tmp_path / "out"
    assert main([str(manifest), "--config", str(config), "--out", str(out)]) == 0
    served = lines(out)[-1]["served"]["few"]
    assert (served["samples"], served["text_tokens"], served["images"]) == (48, 48 * 5, 48)
    assert (served["epochs"], served["off"], served["text_tokens_share"]) == (48 / 21, 0.0, 0.25)


@pytest.mark.parametrize(("accumulate", "last"), [(1, 5), (2, 5), (4, 5)])
def test_a_run_ends_where_its_mixture_does_and_says_so(
    tmp_path: Path, accumulate: int, last: int, capsys: pytest.CaptureFixture[str]
) -> None:
    home = mixture(tmp_path / "mixture").parent
    spec = "seed: 7\nbatch: 16\nat_limit: stop\nmax_epochs: 1\nsources: [{path: many, weight: 3}, {path: few}]"
    arguments = [
        str(composed(home, spec, "ends.json")),
        "--config",
        str(settings(tmp_path)),
        "--out",
        str(tmp_path / "out"),
    ]
    arguments += ["--set", f"optim.accumulate={accumulate}"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert (summary["steps"], summary["position"], summary["alarms"]) == (last, 80, [])
    assert "the mixture ends at position 80: step 5 was the last" in said.err
    assert Path(summary["checkpoint"]).name == "00000005"
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["steps_now"] == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == files


SMALL_DISK = """
import resource, sys
from train.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_checkpoint_for_which_there_is_no_room_leaves_the_one_before_and_a_sentence(
    manifest: Path, tmp_path: Path
) -> None:
    config, out = settings(tmp_path), tmp_path / "out"
    assert main(command(manifest, config, out, "--set", "optim.steps=12")[2:]) == 0
    shutil.rmtree(out / "checkpoints" / "00000012")
    limited = [sys.executable, "-c", SMALL_DISK, "300000", *command(manifest, config, out)[2:]]
    done = subprocess.run(limited, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert "00000012: the checkpoint could not be written" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["00000010"]
    assert main(command(manifest, config, out)[2:]) == 0


def test_a_checkpoint_of_an_older_version_is_refused(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(manifest), "--config", str(settings(tmp_path)), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--set", "optim.steps=2"]) == 0
    [state] = (tmp_path / "out" / "checkpoints").glob("*/state.json")
    state.write_text(state.read_text().replace('"version": 3', '"version": 1'))
    assert main([*arguments, "--set", "optim.steps=2"]) == 2
    assert "00000002: is of version 1" in capsys.readouterr().err


def test_a_trained_encoder_is_exported_and_opens_in_open_clip(
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
    ids = ours.tokenizer(["a red square on blue"])
    assert metadata["tokenizer"] == "simple:1024"
    with torch.inference_mode():
        assert torch.equal(theirs.encode_text(ids), ours.net.encode_text(ids))  # type: ignore[operator]
    again = tmp_path / "again.safetensors"
    export(ours, again, "fp16")
    assert file_sha256(again) == file_sha256(file)


def test_the_weights_of_one_run_can_start_another(manifest: Path, tmp_path: Path) -> None:
    arguments = [str(manifest), "--config", str(settings(tmp_path)), "--set", "optim.steps=20"]
    assert main([*arguments, "--out", str(tmp_path / "one"), "--export", str(tmp_path / "one.safetensors")]) == 0
    weights_only = ["--set", "model.weights=one.safetensors", "--set", "optim.lr=0.0001"]
    assert main([*arguments, "--out", str(tmp_path / "two"), *weights_only]) == 0
    whole = settings(tmp_path / "whole", model={"clip": "../one.safetensors"})
    assert (
        main([str(manifest), "--config", str(whole), "--set", "optim.lr=0.0001", "--out", str(tmp_path / "three")]) == 0
    )
    assert lines(tmp_path / "two")[0]["loss"] < lines(tmp_path / "one")[0]["loss"]
    assert lines(tmp_path / "three")[0]["loss"] == lines(tmp_path / "two")[0]["loss"]


def test_metrics_go_to_tensorboard_too(manifest: Path, tmp_path: Path) -> None:
    arguments = [str(manifest), "--config", str(settings(tmp_path)), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--set", "optim.steps=2", "--set", "run.tensorboard=true"]) == 0
    [events] = (tmp_path / "out" / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()
    assert b"samples/many" in events.read_bytes()


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on_and_exits_with_130(manifest: Path, tmp_path: Path) -> None:
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
@pytest.mark.parametrize("mixed", ["manifest", "kinds"])
def test_a_run_killed_at_any_moment_and_run_again_ends_in_the_same_bits(
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "begun"),
    [(CAPTION, False), ({"type": "contrastive"}, True), (MULTIMODAL, False)],
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
