"""`curate train --dry-run`: what a run would be, before it is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from train_samples import CAPTION, TINY, settings

from train.__main__ import main


def test_dry_run_names_parts_rates_a_step_and_the_first_batch_and_writes_nothing(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    optim = {**TINY["optim"], "accumulate": 2, "groups": [{"match": ["connector"], "lr": 0.01}]}
    config = settings(tmp_path, objective={**CAPTION, "train_tower": False}, optim=optim)
    out = tmp_path / "out"
    assert main([str(manifest), "--config", str(config), "--out", str(out), "--dry-run"]) == 0
    told = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line}
    assert rows["tower"][1] == "frozen"
    assert rows["connector"] == ["2,112", "0.01"]
    assert rows["language"][1] == "0.002"
    assert "16 samples in 2 parts; 12 steps, cosine from 0.002 to 0" in told
    assert "image 8 x 1 x 3 x 32 x 32" in told
    assert not out.exists()


def test_dry_run_refuses_what_the_run_would(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settings(tmp_path, optim={**TINY["optim"], "groups": [{"match": ["conector"]}]}, objective=CAPTION)
    assert main([str(manifest), "--config", str(config), "--dry-run"]) == 2
    assert "did you mean 'connector'" in capsys.readouterr().err
