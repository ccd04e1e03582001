"""A bare value where more is wanted is refused with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Workplace, errors

from curate.mix import MixtureSpec
from curate.settings import Settings, SettingsError, validate
from train.config import Config


@pytest.mark.parametrize(
    ("keep", "instead"),
    [
        ({"min_side": 64}, "{min: 64}"),
        ({"min_side": "64"}, "{min: 64}"),
        ({"aspect": 2.5}, "{min: 2.5}"),
        ({"aspect": "< 2.5"}, "{max: 2.5}"),
        ({"width": [1, 2]}, "{in: [1, 2]}"),
        ({"width": True}, "{is: true}"),
        ({"width": "wide"}, "{is: wide}"),
        ({"width": {"in": 3}}, "[3]"),
        ({"min": 64}, "{COLUMN: {min: 64}}"),
        ("width", "{width: {min: ...}}"),
        (["width"], "{width: {min: ...}}"),
    ],
)
def test_bare_value_where_a_condition_is_wanted_is_refused_with_what_to_write(
    place: Workplace, keep: Any, instead: str
) -> None:
    found = place.run(place.recipe(steps=[{"op": "image_size", "keep": keep}]))
    errors(found, ["steps.0.keep"])
    assert found.stderr.rstrip().endswith(f"; write {instead}")


@pytest.mark.parametrize(
    ("changes", "instead"),
    [
        ({"steps": ["image_size"]}, "write {op: image_size}"),
        ({"steps": "image_size"}, "write [{op: image_size}]"),
        ({"steps": {"op": "image_size"}}, "begin each entry with `- `"),
        ({"source": "urls.csv"}, "write {type: ..., path: urls.csv}"),
        ({"source": "folder"}, "write {type: folder}"),
        ({"publish": {"columns": "width"}}, "write [width]"),
        ({"limits": 0.5}, "write {key: value} (allowed: failed, op_timeout_s)"),
    ],
)
def test_bare_value_where_keys_or_a_list_are_wanted_is_refused_with_what_to_write(
    place: Workplace, changes: dict[str, Any], instead: str
) -> None:
    errors(place.run(place.recipe(**changes)), [instead])


@pytest.mark.parametrize(
    ("model", "said", "words"),
    [
        (MixtureSpec, {"sources": ["a"]}, "sources.0: expected keys and values, found 'a' (str); write {path: a}"),
        (MixtureSpec, {"sources": "a"}, "write [{path: a}]"),
        (MixtureSpec, {"sources": [{"path": "a"}], "stages": ["x"]}, "write {name: x}"),
        (Config, {"objective": "multimodal"}, "write {type: multimodal}"),
        (Config, {"data": {"whole": "ocr"}}, "write [ocr]"),
    ],
)
def test_mixtures_and_trainings_are_told_what_to_write_too(model: type[Settings], said: Any, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        validate(said, model, "x.yaml")
    assert words in str(refused.value) and len(str(refused.value).splitlines()) == 1


def test_source_without_a_type_is_told_the_types(place: Workplace) -> None:
    errors(place.run(place.recipe(source={"path": "x"})), ["source.type: missing", "folder, html, images, pages"])
