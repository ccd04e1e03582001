"""A pool that an earlier version made is the pool of this one: what ops still say is not computed again, and the same
bytes come out.

`tests/pools/` holds what commit 3d114be made of two small sources, with all that it wrote below `out`: before the
modules stood in rooms, and before there were rules on parts.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace

POOLS = Path(__file__).resolve().parents[1] / "pools"
SECONDS = 1_700_000_000
"""The time of the sources' files: part of what a plan is named by."""

PAIRS: list[dict[str, Any]] = [
    {"op": "image_size", "keep": {"min_side": {"min": 20}}},
    {"op": "image_ok", "keep": {"image_ok": {"is": True}}},
    {"op": "text_digest"},
    {"op": "text_copies"},
    {"op": "duplicate_images", "keep": {"duplicate_of": {"is": None}}},
    {"op": "pii"},
    {"op": "clip_score", "keep": {"clip_score": {"top": 0.8}}},
]
PAGES: list[dict[str, Any]] = [
    {"op": "html_document"},
    {"op": "gopher_quality", "keep": {"gopher_words": {"min": 10}}},
    {"op": "image_url_counts"},
    {"op": "repeated_paragraphs"},
    {"op": "fetch_images"},
    {"op": "image_counts"},
    {"op": "image_copies"},
    {"op": "duplicate_image_sets", "keep": {"image_set_duplicate_of": {"is": None}}},
]

CHANGED = ("pii", "gopher_quality", "html_document", "image_size")
"""Ops whose values were mended since: they, and what comes after them, are computed once more."""


def recipe(place: Workplace, name: str) -> Path:
    if name == "pairs":
        publish = {"shard_samples": 4, "columns": ["min_side", "clip_score"]}
        return place.recipe(name=name, shard_samples=5, steps=PAIRS, publish=publish)
    source = {"type": "html", "path": str(place.src)}
    more = {"steps": PAGES, "publish": {"columns": ["gopher_words"]}}
    return place.recipe(name=name, kind="interleaved", source=source, shard_samples=3, **more)


@pytest.mark.parametrize("name", ["pairs", "pages"])
def test_pool_of_an_earlier_version_is_gone_on_from(place: Workplace, name: str) -> None:
    with tarfile.open(POOLS / f"{name}-0.1.0.tar.xz") as tar:
        tar.extractall(place.root, filter="data")
    for folder in (place.src, *place.src.rglob("*")):
        os.utime(folder, (SECONDS, SECONDS))
    before = place.published()
    run = place.run(recipe(place, name))
    assert run.code == 0, run.stderr
    steps = list(run.steps)
    changed = min((steps.index(step) for step in CHANGED if step in steps), default=len(steps))
    assert not any(run.steps[step]["computed"] for step in steps[:changed])
    now = place.published()
    assert {**now, "dataset.json": ""} == {**before, "dataset.json": ""}, "it names the versions of the ops"
    for decided in ("stages", "decisions", "dataset"):
        shutil.rmtree(place.out / decided)
    run = place.run(recipe(place, name))
    assert {step: line["computed"] for step, line in run.steps.items() if line["computed"]} == {}
    assert place.published() == now, "decided and published anew, from the columns that were there"
