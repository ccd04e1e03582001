"""A column that is not there: who asked for it is told apart from what is looked for where nobody asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Workplace


@pytest.mark.parametrize(
    ("kind", "source", "row", "key"),
    [
        ("caption", {"type": "urls"}, {"url": "http://h/a.jpg"}, "text"),
        ("caption", {"type": "urls", "text": "caption"}, {"link": "http://h/a.jpg", "caption": "x"}, "url"),
        ("caption", {"type": "folder"}, {"file": "a.png", "text": "x"}, "image"),
        ("text", {"type": "pages"}, {"address": "http://h/"}, "url"),
        ("text", {"type": "text"}, {"content": "a text"}, "text"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_column_that_nobody_named_is_not_blamed_on_the_user(
    place: Workplace, kind: str, source: dict[str, Any], row: dict[str, str], key: str, suffix: str
) -> None:
    table = place.root / f"table.{suffix}"
    csv = f"{','.join(row)}\n{','.join(row.values())}\n"
    table.write_text(csv if suffix == "csv" else json.dumps(row) + "\n")
    where = {"captions": str(table), "path": str(place.src)} if source["type"] == "folder" else {"path": str(table)}
    steps = [{"op": "html_document"}] if source["type"] == "pages" else []
    found = place.run(place.recipe(kind=kind, source=source | where, steps=steps))
    assert found.code == 1, found.stderr
    assert f"{table}: has no column '{key}', which is looked for where `source.{key}` names none" in found.stderr
    assert f"(`{key}: COLUMN`)" in found.stderr and all(repr(name) in found.stderr for name in row)
    assert "unknown" not in found.stderr


def test_column_that_the_recipe_names_is_told_with_the_nearest(place: Workplace) -> None:
    (place.root / "t.csv").write_text("url,text\nhttp://h/a.jpg,x\n")
    source = {"type": "urls", "path": str(place.root / "t.csv"), "text": "txet"}
    found = place.run(place.recipe(source=source))
    assert found.code == 1 and "unknown column 'txet' - did you mean 'text'" in found.stderr
