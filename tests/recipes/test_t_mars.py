"""The recipe of T-MARS on drawings, half of them with their captions printed on them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from PIL import Image

from curate.engine import run
from curate.engine.explain import column, decisions
from curate.pool.funnel import check_funnel
from curate.recipe.resolve import load
from pipelines.faults.plant import written_over
from pipelines.faults.pools import drawings

pytestmark = pytest.mark.slow

CAPTIONS = ("a red apple on a table", "a house by the sea", "a green car in the rain")


def test_pairs_are_scored_with_print_painted_over_and_the_better_half_by_that_is_kept(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    lines = []
    for number, (_, image) in enumerate(drawings(6)):
        under = Image.new("RGBA", image.size, "white")
        plain = Image.alpha_composite(under, image).convert("RGB")
        text = CAPTIONS[number % len(CAPTIONS)]
        (written_over(plain, text) if number < 3 else plain).save(tmp_path / "images" / f"{number}.png")
        lines.append(json.dumps({"image": f"{number}.png", "title": text}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    places = [f"source.path={tmp_path / 'images'}", f"source.captions={tmp_path / 'captions.jsonl'}"]
    recipe = load(ROOT / "recipes" / "t-mars.yaml", [*places, f"out={tmp_path / 'run'}"])
    summary = run.run(recipe, workers=0)
    check_funnel(summary.funnel)
    rows = [row for path in (summary.pool.folder / "rows").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    printed = {row["uid"]: int(Path(row["origin"]).stem) < 3 for row in rows}
    share, masked, score = (
        {row["uid"]: row[name] for row in column(tmp_path / "run", name).to_pylist()}
        for name in ("text_area_share", "masked_clip_score", "clip_score")
    )
    assert {uid for uid in printed if share[uid] > 0} == {uid for uid in printed if printed[uid]}
    assert all((masked[uid] != score[uid]) == printed[uid] for uid in printed)
    kept = {end["uid"] for end in decisions(tmp_path / "run").to_pylist() if end["outcome"] == "kept"}
    assert kept == set(sorted(masked, key=lambda uid: -masked[uid])[:3])
