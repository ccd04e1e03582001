"""Zeros and negative numbers are refused where they count nothing: in recipes, mixtures, trainings and streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace, errors
from mixtures import a_dataset
from pydantic import ConfigDict, TypeAdapter, ValidationError

from curate import mix
from curate.mix import MixtureSpec
from curate.ops.spec import GIVEN, spec_of
from curate.ops.table import OPS, find_op
from curate.recipe.model import Recipe
from curate.stream import Fit, Share, Stream
from curate.stream.packing import PackLimits
from curate.stream.reading import ReadOptions, StreamError
from train.config import Config

VALUES = ("Rule", "Scalar")
"""What a recipe compares columns with: any number."""


def numbers(schema: Any, name: str, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number in a JSON Schema, with the key it is said by."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield f"{name}.{at}", schema
        for key, value in schema.items():
            yield from numbers(value, name, key if key not in ("anyOf", "items", "prefixItems") else at)
    elif isinstance(schema, list):
        for value in schema:
            yield from numbers(value, name, at)


@pytest.mark.parametrize("model", [Recipe, MixtureSpec, Config], ids=lambda model: model.__name__)
def test_every_number_of_a_settings_file_has_a_least_value(model: Any) -> None:
    defined = model.model_json_schema(by_alias=True)
    parts = {model.__name__: defined.get("properties", {})} | {
        name: part.get("properties", {}) for name, part in defined["$defs"].items() if name not in VALUES
    }
    free = {
        at
        for name, part in parts.items()
        for at, said in numbers(part, name, "")
        if said.get("minimum", said.get("exclusiveMinimum", -1)) < 0
    }
    # Weights are looked at together (`mix.schedule.exact_weights`); what an open_clip configuration holds is its own.
    # Layers and rows count from the end.
    allowed = {
        "Entry.additionalProperties",
        "StageSpec.additionalProperties",
        "TowerConfig.layer",
        "ParameterGroup.rows",
    }
    assert free <= allowed, free


def counting_knobs() -> list[tuple[str, str]]:
    found = []
    for op in OPS:
        for knob, parameter in spec_of(find_op(op)).knobs.items():
            plain = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
            if plain and knob not in GIVEN:
                found.append((op, knob))
    return found


@pytest.mark.parametrize(("op", "knob"), counting_knobs())
def test_no_op_takes_a_negative_number(op: str, knob: str) -> None:
    annotation = spec_of(find_op(op)).knobs[knob].annotation
    with pytest.raises(ValidationError, match="greater than"):
        TypeAdapter(annotation, config=ConfigDict(strict=False)).validate_python(-1)


def test_zero_where_something_is_counted_is_refused_before_anything_runs(place: Workplace) -> None:
    for step in ({"op": "image_size", "with": {"max_pixels": 0}}, {"op": "chunks", "with": {"max_tokens": 0}}):
        errors(place.run(place.recipe(steps=[step])), ["steps.0.with.max_", "greater than or equal to 1", "found 0"])
    step = {"op": "chunks", "with": {"max_tokens": 8, "overlap_tokens": 8}}
    text = {"kind": "text", "source": {"type": "text", "path": str(place.root / "t.txt")}}
    (place.root / "t.txt").write_text("a text")
    found = place.run(place.recipe(steps=[step], **text))
    assert found.code == 1 and "overlap_tokens 8 must be less than max_tokens 8" in found.stderr
    assert not list(place.root.glob("out/pool-*"))
    with pytest.raises(ValidationError, match="greater than 0"):
        MixtureSpec.model_validate({"batch": 1, "sources": [{"path": "a"}], "stages": [{"name": "x", "sequence": 0}]})


@pytest.mark.parametrize("batch", [0, -4, 2.5, True])
def test_batch_of_no_samples_is_refused_by_the_stream(tmp_path: Path, batch: Any) -> None:
    mix.build([(a_dataset(tmp_path / "a", 4), 1.0)], 0, tmp_path / "m.json")
    with pytest.raises(StreamError, match=r"^batch_size, .* is .*; give a whole number of 1 or more$"):
        Stream(tmp_path / "m.json", batch)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ReadOptions(threads=0), "ReadOptions.threads is 0"),
        (lambda: ReadOptions(prefetch=-1), "ReadOptions.prefetch is -1"),
        (lambda: ReadOptions(open_shards=0), "ReadOptions.open_shards is 0"),
        (lambda: ReadOptions(cache_bytes=0), "ReadOptions.cache_bytes is 0"),
        (lambda: ReadOptions(max_unreadable=2), "a share, from 0 to 1"),
        (lambda: Share(0, 0), "Share.world is 0"),
        (lambda: Share(-1, 2), "Share.rank is -1"),
        (lambda: Share(2, 2), "2 of 2 ranks"),
        (lambda: PackLimits(tokens=0), "PackLimits.tokens is 0"),
        (lambda: PackLimits(window=0), "PackLimits.window is 0"),
        (lambda: Fit(0), "Fit.size_px is 0"),
    ],
)
def test_arguments_of_a_stream_that_count_nothing_are_refused(make: Any, words: str) -> None:
    with pytest.raises(StreamError, match=words):
        make()
