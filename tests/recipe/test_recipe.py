"""What a recipe promises: a wrong op, knob, column, rule or unit is refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Workplace, errors
from jsonschema import Draft202012Validator

from curate.recipe.model import Recipe
from curate.recipe.resolve import load
from curate.recipe.steps import assign_fingerprints
from curate.settings import SettingsError

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def is_curation(path: Path) -> bool:
    said = yaml.safe_load(path.read_text())
    return isinstance(said, dict) and "source" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sorce": {}}, ["unknown key 'sorce'", "did you mean 'source'"]),
        ({"kind": "captoin"}, ["kind", "'captoin'", "'caption'"]),
        ({"source": {"type": "folder", "pth": "x"}}, ["source", "pth", "did you mean 'path'"]),
        ({"source": {"type": "foldr", "path": "x"}}, ["source", "'foldr'", "did you mean 'folder'"]),
        ({"source": {"type": "urls"}}, ["source", "give either `path`", "`huggingface`"]),
        ({"source": {"type": "urls", "path": "a", "huggingface": "b"}}, ["give either `path`"]),
        ({"steps": [{"op": "image_sise"}]}, ["steps.0.op", "unknown op 'image_sise'", "did you mean 'image_size'"]),
        ({"steps": [{"op": "no.such.module:f"}]}, ["steps.0.op", "cannot be imported"]),
        ({"steps": [{"op": "json:dumps"}]}, ["steps.0.op", "is not declared", "@op("]),
        (
            {"steps": [{"op": "image_size", "with": {"max_side": 9}}]},
            ["steps.0.with.max_side", "unknown knob of image_size 'max_side'", "did you mean 'max_side_px'"],
        ),
        ({"steps": [{"op": "image_size", "with": {"max_side_px": "big"}}]}, ["steps.0.with.max_side_px", "'big'"]),
        (
            {"steps": [{"op": "image_size", "keep": {"min_sid": {"min": 3}}}]},
            ["steps.0.keep.min_sid", "unknown column 'min_sid'", "did you mean 'min_side'"],
        ),
        (
            {"steps": [{"op": "text_basic", "keep": {"width": {"min": 3}}}, {"op": "image_size"}]},
            ["steps.0.keep.width", "unknown column 'width'"],
        ),
        ({"steps": [{"op": "image_size", "keep": {"width": {"minn": 3}}}]}, ["minn", "did you mean 'min'"]),
        ({"steps": [{"op": "image_size", "keep": {"width": {"min": "a"}}}]}, ["steps.0.keep.width.min", "'a'"]),
        ({"steps": [{"op": "image_size", "keep": {"width": {"is": "a"}}}]}, ["steps.0.keep.width.is", "int32", "'a'"]),
        ({"steps": [{"op": "image_size", "keep": {"width": {"in": [3, True]}}}]}, ["width.in", "int32", "True"]),
        ({"steps": [{"op": "image_ok", "keep": {"image_ok": {"min": 1}}}]}, ["image_ok.min", "needs numbers"]),
        ({"steps": [{"op": "image_size", "keep": {"width": {"top": 1.5}}}]}, ["width.top", "less than or equal to 1"]),
        ({"steps": [{"op": "image_size", "keep": {"width": {"top": 0}}}]}, ["width.top", "greater than 0"]),
        ({"steps": [{"op": "image_size", "keep": {"width": {}}}]}, ["steps.0.keep.width"]),
        ({"steps": [{"op": "image_size"}, {"op": "image_size"}]}, ["steps.1", "written twice", "`name:`"]),
        ({"steps": [{"op": "image_size", "name": "a/b"}]}, ["steps.0.name", "not a plain name"]),
        ({"publish": {"columns": ["widht"]}, "steps": [{"op": "image_size"}]}, ["publish.columns", "'width'"]),
        ({"publish": {"shard_bytes": "3 parsecs"}}, ["publish.shard_bytes", "unknown unit 'parsecs'", "gb"]),
        ({"publish": {"shard_bytes": "many MB"}}, ["publish.shard_bytes", "250MB"]),
        ({"limits": {"failed": 2}}, ["limits.failed", "less than or equal to 1"]),
        ({"download": {"timeout": 3}}, ["download.timeout", "did you mean 'timeout_s'"]),
        ({"name": "../x"}, ["name", "not a plain name"]),
        ({"seed": -1}, ["seed", "greater than or equal to 0"]),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_runs(
    place: Workplace, changes: dict[str, Any], words: list[str]
) -> None:
    path = place.recipe(**changes)
    errors(place.run(path), [str(path), *words])
    assert not place.out.exists()


def test_a_fault_of_a_step_is_told_with_its_line(place: Workplace) -> None:
    path = place.root / "r.yaml"
    path.write_text("name: x\nout: o\nsource: {type: folder, path: p}\nsteps:\n  - op: image_sise\n")
    errors(place.run(path), [f"{path}:5: steps.0.op"])


def test_set_changes_a_rule_by_the_name_of_its_op(place: Workplace) -> None:
    path = place.recipe(steps=[{"op": "text_basic"}, {"op": "image_size", "keep": {"width": {"min": 3}}}])
    found = load(path, ["steps.image_size.keep.width.min=64", "seed=9"]).recipe
    assert found.steps[1].keep.columns["width"].min == 64 and found.seed == 9


def test_set_is_checked_like_the_file(place: Workplace) -> None:
    path = place.recipe(steps=[{"op": "image_size"}])
    errors(place.run(path, "--set", "steps.image_size.keep.widht.min=3"), ["did you mean 'width'"])
    errors(place.run(path, "--set", "steps.imagesize.keep.width.min=3"), ["did you mean 'image_size'"])


@pytest.mark.parametrize(
    ("said", "number"), [("250MB", 250_000_000), ("1 GiB", 1 << 30), ("1.5kb", 1500), (77, 77), ("77", 77), ("77B", 77)]
)
def test_sizes_may_be_written_with_a_unit(place: Workplace, said: Any, number: int) -> None:
    assert load(place.recipe(publish={"shard_bytes": said})).recipe.publish.shard_bytes == number


def test_the_fingerprint_of_a_column_changes_with_a_knob_and_not_with_a_rule(place: Workplace) -> None:
    def key(**step: Any) -> str:
        found = load(place.recipe(steps=[{"op": "image_size"} | step]))
        return assign_fingerprints(found.steps, "pool")[0].key

    assert key() == key(keep={"width": {"min": 5}}) == key(name="again") == key(**{"with": {"max_side_px": 30_000}})
    assert key() != key(**{"with": {"max_side_px": 29_999}})


def test_the_schema_is_valid_and_refuses_what_the_loader_refuses(place: Workplace) -> None:
    schema = json.loads(place.curate("schema").stdout)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    said = json.loads(place.recipe(steps=[{"op": "image_size", "keep": {"width": {"min": 3}}}]).read_text())
    assert not list(validator.iter_errors(said))
    for wrong in ({"sorce": 1}, {"steps": [{"op": "image_size", "keeep": {}}]}, {"source": {"type": "folder"}}):
        assert list(validator.iter_errors(said | wrong)), wrong


def test_the_schema_accepts_sizes_with_a_unit(place: Workplace) -> None:
    validator = Draft202012Validator(json.loads(place.curate("schema").stdout))
    said = json.loads(place.recipe(publish={"shard_bytes": "250MB"}).read_text())
    assert not list(validator.iter_errors(said))


@pytest.mark.parametrize("path", [p for p in RECIPES if is_curation(p)], ids=lambda p: p.name)
def test_every_recipe_of_ours_is_valid_and_so_says_the_schema(path: Path) -> None:
    load(path)
    schema = Draft202012Validator(Recipe.model_json_schema(by_alias=True))
    assert not list(schema.iter_errors(yaml.safe_load(path.read_text())))


def test_a_recipe_that_is_missing_is_named(place: Workplace) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load(place.root / "none.yaml")
