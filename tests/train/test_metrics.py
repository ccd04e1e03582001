"""What a run tells of itself: losses, tokens and images, unreadable samples, and alarms that are said once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from train_samples import composed, lines, mixture, settings

from curate.mix.count_tokens import add_text_tokens
from train.__main__ import main


def test_unreadable_samples_are_counted_in_the_metrics_and_listed(tmp_path: Path) -> None:
    manifest = mixture(tmp_path / "mixture", many=(3, 44))
    assert main([str(manifest), "--config", str(settings(tmp_path)), "--out", str(tmp_path / "out")]) == 0
    listed = [json.loads(line) for line in (tmp_path / "out" / "unreadable.00000.jsonl").read_text().splitlines()]
    served = lines(tmp_path / "out")[-1]["served"]
    assert (served["many"]["replaced"], served["few"]["replaced"]) == (len(listed), 0)
    assert {item["row"] for item in listed} == {3, 44}


def test_alarm_is_said_once_and_stands_in_every_line_from_then_on(
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


def test_share_of_tokens_that_leaves_its_bound_is_an_alarm_in_the_metrics(
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
def test_run_ends_where_its_mixture_does_and_says_so(
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


def test_metrics_go_to_tensorboard_too(manifest: Path, tmp_path: Path) -> None:
    arguments = [str(manifest), "--config", str(settings(tmp_path)), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--set", "optim.steps=2", "--set", "run.tensorboard=true"]) == 0
    [events] = (tmp_path / "out" / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()
    assert b"samples/many" in events.read_bytes()
