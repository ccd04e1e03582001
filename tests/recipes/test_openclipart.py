"""The recipe of Openclipart on all its drawings: its header tells the truth."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from curate.engine import run
from curate.engine.explain import explain
from curate.pool.funnel import check_funnel
from curate.recipe.resolve import load
from pipelines.materials.openclipart import PreparedClipart, prepare
from pipelines.materials.packages import PackageUnavailableError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.systems,
    pytest.mark.xdist_group("openclipart"),
]  # one process makes what they look at

RECIPE = ROOT / "recipes" / "openclipart.yaml"

FLOATS_DECIDE = ("duplicate_images", "clip_score")
"""Steps whose counts may differ by a few rows between kinds of processor; all others are exact."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedClipart:
    try:
        return prepare(tmp_path_factory.mktemp("openclipart"))
    except PackageUnavailableError as err:
        pytest.skip(f"Debian's openclipart packages cannot be had here: {err}")


@pytest.fixture(scope="module")
def summary(prepared: PreparedClipart) -> run.Summary:
    out = prepared.images.parents[1]
    places = [f"out={out}", f"source.path={prepared.images}", f"source.captions={prepared.captions}"]
    return run.run(load(RECIPE, places), workers=0)


def header() -> dict[str, tuple[int, int]]:
    """Step -> rows kept and rows in, as the recipe's header says: `#   language   1,234 of 2,345`."""
    lines = re.findall(r"^#\s+(\w+)\s+([\d,]+) of ([\d,]+)", RECIPE.read_text(encoding="utf-8"), re.MULTILINE)
    return {step: (int(kept.replace(",", "")), int(rows.replace(",", ""))) for step, kept, rows in lines}


def test_openclipart_is_laid_down_whole_and_only_once(prepared: PreparedClipart) -> None:
    assert (prepared.rows, prepared.pairs, prepared.pictures_alone, prepared.drawings_alone) == (7459, 6899, 1, 559)
    assert prepared.refused == {}
    rows = [json.loads(line) for line in prepared.captions.read_text(encoding="utf-8").splitlines()]
    there = sum((prepared.images / row["image"]).is_file() for row in rows)
    assert there == prepared.pairs + prepared.pictures_alone == len(list(prepared.images.rglob("*.png")))
    assert sum(row["title"] == "gramastar" for row in rows) == 1375
    before = prepared.captions.stat().st_mtime_ns
    assert prepare(prepared.images.parents[1]) == prepared
    assert prepared.captions.stat().st_mtime_ns == before


def test_recipe_keeps_what_its_header_says(summary: run.Summary) -> None:
    check_funnel(summary.funnel)
    said = header()
    assert [count.step for count in summary.funnel] == list(said)
    for count in summary.funnel:
        kept, rows = said[count.step]
        slack = 0.005 if set(FLOATS_DECIDE) & set(list(said)[: list(said).index(count.step) + 1]) else 0
        assert count.rows_in == pytest.approx(rows, rel=slack, abs=0), count.step
        assert count.kept == pytest.approx(kept, rel=slack, abs=0), count.step


def test_pictures_of_hundreds_of_megapixels_are_refused_by_name(summary: run.Summary) -> None:
    sizes = next(count for count in summary.funnel if count.step == "image_size")
    assert sizes.failed == {"image_too_large": 15}
    banana = found(summary, "food/fruit/banana_mateya_01.png")
    assert (banana["outcome"], banana["rule"]) == ("failed", "image_too_large")
    assert "10561 x 16000 pixels" in banana["value"]


def test_title_that_stands_under_tens_of_pictures_drops_them_all(summary: run.Summary) -> None:
    star = found(summary, "shapes/stars/star_98pt47step.png")
    assert (star["outcome"], star["rule"], star["text"]) == ("dropped", "text_copies.max", "gramastar")
    assert star["value"] == 1375


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # theirs
def test_webdataset_opens_what_openclipart_became(summary: run.Summary) -> None:
    import webdataset

    tars = [str(summary.folder / shard.tar) for shard in summary.dataset.shards]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode())
    assert len(samples) == summary.dataset.samples == summary.funnel[-1].kept
    assert all(sample["txt"] and sample["png"].startswith(b"\x89PNG") for sample in samples)
    assert sum("keywords" in sample["json"]["meta"] for sample in samples) > len(samples) * 0.9


def found(summary: run.Summary, image: str) -> dict[str, Any]:
    """What `curate explain` tells of the sample of this file."""
    for shard in sorted((summary.pool.folder / "rows").glob("*.parquet")):
        rows = pq.read_table(shard, columns=["origin", "uid"]).to_pydict()
        if image in rows["origin"]:
            return explain(rows["uid"][rows["origin"].index(image)], Path(summary.recipe.out))[0]
    raise AssertionError(f"{image}: no such row")
