"""Start weights: a run takes by name what an earlier run has trained, and says what it did not take."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from train_samples import CAPTION, MULTIMODAL, TINY, lines, settings

from train.__main__ import main

TOWER = "net.towers.clip.net"
STILL = {**TINY["optim"], "steps": 1, "groups": [{"match": ["*.bias"], "lr": 1e-9}, {"match": ["*"], "lr": 1e-9}]}
"""One step that moves nothing to speak of."""


def run(manifest: Path, folder: Path, **changed: object) -> Path:
    assert main([str(manifest), "--config", str(settings(folder, **changed)), "--out", str(folder / "out")]) == 0
    return folder / "out"


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(max((out / "checkpoints").iterdir()) / "model.safetensors")


def test_stage_two_begins_with_the_parts_that_stage_one_trained(
    kinds: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dual = run(manifest, tmp_path / "one")
    start = {"run": str(dual), "rename": {"net.visual": TOWER}, "match": ["tower"]}
    capsys.readouterr()
    data = {"batch_size": 4}
    out = run(kinds, tmp_path / "two", objective=MULTIMODAL, start=start, optim=STILL, data=data)
    said = capsys.readouterr().err
    there, here = weights(dual), weights(out)
    towers = [name for name in here if name.startswith(TOWER)]
    assert f"start: {len(towers)} of {len(towers)} tensors taken from" in said and "left there: net.ln_final" in said
    for name in towers:
        torch.testing.assert_close(here[name], there[name.replace(TOWER, "net.visual")], rtol=0, atol=1e-6)
    again = run(kinds, tmp_path / "three", objective=MULTIMODAL, start={"run": str(out)}, optim=STILL, data=data)
    for name, value in weights(again).items():
        torch.testing.assert_close(value, here[name], rtol=0, atol=1e-6)


def test_start_weights_are_part_of_what_is_trained_and_taken_but_once(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {**TINY["optim"], "steps": 2}
    first = run(manifest, tmp_path / "one", optim=short)
    again = settings(tmp_path / "two", start={"run": str(first)}, optim=short)
    arguments = [str(manifest), "--config", str(again), "--out", str(tmp_path / "two" / "out")]
    assert main(arguments) == 0
    assert lines(tmp_path / "two" / "out")[0]["loss"] < lines(first)[0]["loss"]
    capsys.readouterr()
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["steps_now"] == 0
    file = max((first / "checkpoints").iterdir()) / "model.safetensors"
    save_file({name: value + 1 for name, value in load_file(file).items()}, file)
    assert main(arguments) == 2
    assert 'start.run: "sha256:' in capsys.readouterr().err


def test_start_that_fits_nothing_or_another_shape_is_refused(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(manifest, tmp_path / "one", optim={**TINY["optim"], "steps": 1})
    wider = {**TINY["model"], "clip": {**TINY["model"]["clip"], "embed_dim": 64}}
    for number, (changed, message) in enumerate(
        [
            (
                {"start": {"run": str(first)}, "objective": CAPTION},
                "nothing in .* is named as what is wanted; there net.",
            ),
            (
                {"start": {"run": str(first)}, "model": wider},
                r"text_projection is \(32, 32\) in .* and \(32, 64\) here",
            ),
            (
                {"start": {"run": str(first), "match": ["imgae"]}},
                "start.match: unknown part or parameter 'imgae'.*'image'",
            ),
            ({"start": {"run": str(tmp_path / "gone")}}, "no weights in .*gone; name the --out of a run"),
        ]
    ):
        config, out = settings(tmp_path / str(number), **changed), tmp_path / str(number) / "out"
        assert main([str(manifest), "--config", str(config), "--out", str(out)]) == 2
        assert re.search(message, capsys.readouterr().err)
        assert not (out / "metrics.jsonl").exists()
