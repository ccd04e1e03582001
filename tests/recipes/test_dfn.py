"""A network that our trainer made filters a pool: the recipe takes its export by its path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from train_samples import mixture, settings, square

from curate.engine import run
from curate.engine.explain import column, decisions
from curate.recipe.resolve import load
from pipelines.materials.drawings import roc_auc
from train.__main__ import main

pytestmark = pytest.mark.slow


def test_network_trained_on_good_pairs_keeps_true_captions_before_swapped_ones(tmp_path: Path) -> None:
    trained = ["--out", str(tmp_path / "out"), "--export", str(tmp_path / "dfn.safetensors"), "--set", "optim.steps=80"]
    assert main([str(mixture(tmp_path)), "--config", str(settings(tmp_path)), *trained]) == 0
    (tmp_path / "crawl").mkdir()
    squares = [square(90_000 + n) for n in range(60)]
    for number, (image, text) in enumerate(squares):
        said = text if number % 2 else next(t for _, t in squares[number:] + squares if t != text)
        (tmp_path / "crawl" / f"{number:02d}.png").write_bytes(image)
        (tmp_path / "crawl" / f"{number:02d}.txt").write_text(said)
    places = [f"out={tmp_path / 'run'}", f"source={{type: folder, path: {tmp_path / 'crawl'}}}"]
    model = f"steps.clip_score.with.model={tmp_path / 'dfn.safetensors'}"
    recipe = load(ROOT / "recipes" / "dfn.yaml", [*places, model, "steps.image_size.keep.min_side.min=32"])
    summary = run.run(recipe, workers=0)
    assert summary.dataset.samples == 9  # 15 % of 60
    scores, ends = column(tmp_path / "run", "clip_score"), decisions(tmp_path / "run")
    true = {row["uid"]: int(Path(row["origin"]).stem) % 2 for row in _origins(summary)}
    numbers = dict(zip(scores["uid"].to_pylist(), scores["clip_score"].to_pylist(), strict=True))
    right, wrong = (np.array([numbers[uid] for uid in numbers if true[uid] == wanted]) for wanted in (1, 0))
    assert roc_auc(right, wrong) > 0.8
    kept = [end["uid"] for end in ends.to_pylist() if end["outcome"] == "kept"]
    assert sum(true[uid] for uid in kept) >= 8


def _origins(summary: run.Summary) -> list[dict[str, str]]:
    return [row for path in (summary.pool.folder / "rows").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
