from __future__ import annotations

import json

import pytest
from conftest import ROOT, Workplace

from pipelines.materials.packages import PackageUnavailableError, cache_folder
from pipelines.materials.plain_texts import prepare

RECIPE = ROOT / "recipes" / "plain-texts.yaml"


@pytest.mark.slow
def test_real_texts_in_fourteen_languages_are_curated_from_end_to_end(place: Workplace) -> None:
    try:
        prepared = prepare(place.root / "texts", cache_folder("materials"))
    except PackageUnavailableError as err:
        pytest.skip(str(err))
    assert (prepared.sections, prepared.sayings, prepared.unreadable) == (1999, 96167, 0)
    source = place.root / "texts" / "source"
    assert prepare(place.root / "texts", cache_folder("materials")) == prepared
    smallest = source / "fortunes-bg.jsonl"
    outcome = place.run(RECIPE, "--set", f"out={place.out}", "--set", f"source.path={smallest}")
    steps = outcome.steps
    assert steps["ingest"]["kept"] == 624
    assert 580 < steps["language"]["kept"] < 624
    assert 0 < steps["mask_pii"]["kept"] <= steps["near_duplicate_texts"]["kept"] < steps["gopher_quality"]["kept"]
    published = json.loads((place.dataset / "dataset.json").read_text())
    assert published["kind"] == "text" and published["samples"] == steps["mask_pii"]["kept"]
