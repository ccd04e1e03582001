"""What a run promises: done once is done, the same bytes for any number of workers, and one run a folder."""

from __future__ import annotations

import fcntl
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace
from engine.test_steps import OWN

STEPS: list[dict[str, Any]] = [
    {"op": "text_basic", "keep": {"word_count": {"min": 2}}},
    {"op": "image_size", "keep": {"min_side": {"min": 10}, "pixels": {"top": 0.9}}},
    {"op": "own_ops:length", "keep": {"length": {"max": 60}}},
    {"op": "own_ops:rank", "keep": {"rank": {"min": 3}}},
    {"op": "own_ops:double", "keep": {"double": {"bottom": 0.8}}},
]
PUBLISH = {"shard_samples": 15, "columns": ["width", "rank", "double"]}


def recipe(place: Workplace, out: str = "out", **more: Any) -> Path:
    place.out = place.root / out
    return place.recipe(**({"steps": STEPS, "publish": PUBLISH, "out": str(place.out)} | more))


@pytest.fixture
def own(place: Workplace) -> Workplace:
    place.images(90)
    place.write_module("own_ops", OWN)
    return place


def test_the_second_run_computes_nothing_and_says_so(own: Workplace) -> None:
    first = own.curate("run", recipe(own), "--inline")
    before = {p: p.stat().st_mtime_ns for p in own.out.rglob("*.parquet")}
    tars = {p.name: p.stat().st_mtime_ns for p in own.dataset.iterdir()}
    (own.root / "log").unlink()
    again = own.curate("run", recipe(own), "--inline")
    assert "computed nothing: all of it was committed by an earlier run" in again.stdout and "unchanged" in again.stdout
    assert "computed nothing" not in first.stdout
    assert {p: p.stat().st_mtime_ns for p in own.out.rglob("*.parquet")} == before
    assert {p.name: p.stat().st_mtime_ns for p in own.dataset.iterdir()} == tars
    assert not (own.root / "log").exists() and own.leftovers() == []


def test_a_changed_threshold_does_only_decisions_and_what_follows_again(own: Workplace) -> None:
    own.run(recipe(own))
    found = own.run(recipe(own), "--set", "steps.double.keep={}", "--set", "steps.image_size.keep.min_side.min=12")
    assert found.code == 2  # an op of one's own is found by its full name
    found = own.run(recipe(own), "--set", "steps.4.keep.double.bottom=0.5")
    assert all(line["computed"] == 0 for line in found.steps.values())
    assert found.json["samples"] == found.steps["double"]["kept"]
    own.run(recipe(own))
    once = own.published()
    own.run(recipe(own, "other"))
    assert own.published() == once


def test_other_shard_sizes_publish_again_and_compute_nothing(own: Workplace) -> None:
    own.run(recipe(own))
    found = own.run(recipe(own, publish={"shard_samples": 7}))
    assert found.json["shards"] == -(-found.json["samples"] // 7)
    assert all(line["computed"] == 0 for line in found.steps.values())


def test_shards_are_cut_by_bytes_as_well(own: Workplace) -> None:
    found = own.run(recipe(own, publish={"shard_bytes": "9kB"}))
    assert found.json["shards"] > 3
    with tarfile.open(own.dataset / "00000.tar") as tar:
        assert sum(m.size for m in tar if m.name.endswith("png")) <= 9000


def test_the_shuffle_is_keyed_by_the_seed_and_can_be_turned_off(own: Workplace) -> None:
    def order(**more: Any) -> list[str]:
        own.run(recipe(own, **more))
        names: list[str] = []
        for tar in sorted(own.dataset.glob("*.tar")):
            with tarfile.open(tar) as file:
                names += [json.load(file.extractfile(m))["origin"] for m in file if m.name.endswith("json")]  # type: ignore[arg-type]
        return names

    one, two, plain = order(seed=1), order(seed=2), order(publish={"shuffle": False})
    assert plain == sorted(plain) and one not in (two, plain)
    assert sorted(one) == sorted(two) == plain == sorted(order(seed=1)) and order(seed=1) == one


def test_a_dataset_that_was_deleted_is_written_again(own: Workplace) -> None:
    own.run(recipe(own))
    before = own.published()
    shutil.rmtree(own.dataset)
    found = own.run(recipe(own))
    assert found.code == 0, found.stderr
    assert own.published() == before and all(line["computed"] == 0 for line in found.steps.values())


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_is_at_work(own: Workplace) -> None:
    path = recipe(own)
    own.out.mkdir()
    with open(own.out / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = own.run(path)
    assert found.code == 1 and "another run is at work in this folder" in found.stderr
    assert own.run(path).code == 0


def test_a_recipe_without_steps_publishes_the_source(own: Workplace) -> None:
    assert own.run(own.recipe()).json["samples"] == 90


def test_a_run_that_keeps_nothing_ends_well(own: Workplace) -> None:
    steps: list[dict[str, Any]] = [{"op": "image_size", "keep": {"width": {"min": 5000}}}]
    steps.append({"op": "text_basic", "keep": {"word_count": {"top": 0.5}}})
    found = own.run(own.recipe(steps=steps))
    assert found.json["samples"] == 0 and found.steps["text_basic"]["in"] == 0


def test_values_do_not_depend_on_how_the_source_is_cut(own: Workplace) -> None:
    names = []
    for rows in (7, 90):
        found = own.run(recipe(own, f"cut-{rows}", shard_samples=rows))
        names.append([found.json["cuts"], {k: (v["in"], v["kept"]) for k, v in found.steps.items()}])
        names[-1].append({p.name for p in own.dataset.iterdir()})
        names[-1].append([p for p in own.published().items() if p[0].endswith("tar")])
    assert names[0] == names[1]


@pytest.mark.slow
def test_inline_one_worker_and_four_workers_agree_byte_for_byte(own: Workplace) -> None:
    seen = {}
    for how in (["--inline"], ["--workers", "1"], ["--workers", "4"]):
        path = recipe(own, "out" + how[-1])
        found = own.command("run", path, "--json", *how)
        assert found.code == 0, found.stderr
        seen[how[-1]] = (own.published(), found.json["funnel"], found.json["cuts"])
        assert own.leftovers() == []
    assert seen["--inline"] == seen["1"] == seen["4"]
    assert len(seen["4"][0]) > 4


@pytest.mark.slow
def test_an_error_in_a_ray_worker_reaches_the_user_as_one_sentence(own: Workplace) -> None:
    steps = [{"op": "own_ops:broken", "with": {"how": "short"}}]
    found = own.command("run", recipe(own, steps=steps, publish={}), "--workers", "2")
    assert found.code == 1, found.stderr
    assert "error: op 'broken': 1 values in 'a'" in found.stderr and "Traceback" not in found.stderr
