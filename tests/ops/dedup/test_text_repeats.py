from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.ops.dedup.text_repeats import REPEATED, line_digests, repeated_lines, without_repeated_lines

NOTICE = "We use cookies on page 3."
PAGES = {
    "a": f"Menu\nCats are fine.\n{NOTICE}",
    "b": f"Menu\nDogs are fine.\n\nwe  USE cookies on page 12.\n{NOTICE}",
    "c": f"Birds sing.\n---\n{NOTICE}",
    "d": "",
}


def uid(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def judged(texts: Mapping[str, str], folder: Path, shard_rows: int = 2, **knobs: Any) -> dict[str, Any]:
    """The rows of `repeated_lines` by name, shard by shard as the engine would call it."""
    folder.mkdir(exist_ok=True)
    unit = knobs.get("unit", "line")
    columns = line_digests(list(texts.values()), unit=unit)
    kinds = {"line_digests": pa.list_(pa.int64()), "line_characters": pa.list_(pa.int32())}
    table = pa.table(
        {"uid": [uid(name) for name in texts], **{name: pa.array(columns[name], kind) for name, kind in kinds.items()}}
    )
    shards = [table.slice(start, shard_rows) for start in range(0, max(1, len(table)), shard_rows)]
    inputs = [folder / f"{n}.in.parquet" for n in range(len(shards))]
    outputs = [folder / f"{n}.out.parquet" for n in range(len(shards))]
    for path, shard in zip(inputs, shards, strict=True):
        pq.write_table(shard, path)
    repeated_lines(inputs, outputs, folder / "scratch", **knobs)
    found = []
    for path, shard in zip(outputs, shards, strict=True):
        answer = pq.read_table(path)
        assert answer.schema.equals(pa.schema([("uid", pa.string()), *REPEATED.items()]))
        assert answer["uid"].to_pylist() == shard["uid"].to_pylist()
        found += answer.to_pylist()
    return dict(zip(texts, found, strict=True))


def test_repeated_lines_are_found_whatever_their_case_digits_and_spaces(tmp_path: Path) -> None:
    """Lines of many texts are found whatever their case digits and spaces."""
    found = judged(PAGES, tmp_path)
    assert {name: row["repeated_lines"] for name, row in found.items()} == {"a": [2], "b": [3, 4], "c": [2], "d": []}
    assert found["a"]["repeated_line_share"] == pytest.approx(1 / 3)
    assert found["c"]["repeated_character_share"] == pytest.approx(25 / 36)
    assert found["d"]["repeated_line_share"] == 0


def test_how_many_texts_make_a_line_common_is_the_recipes_to_say(tmp_path: Path) -> None:
    found = judged(PAGES, tmp_path, min_texts=2)
    assert found["a"]["repeated_lines"] == [0, 2]
    assert judged(PAGES, tmp_path / "4", min_texts=4)["a"]["repeated_lines"] == []


def test_first_text_may_keep_the_line(tmp_path: Path) -> None:
    found = judged(PAGES, tmp_path, keep_first=True)
    first = min(("a", "b", "c"), key=uid)
    assert found[first]["repeated_lines"] == []
    assert sum(bool(row["repeated_lines"]) for row in found.values()) == 2


def test_text_is_written_without_its_repeated_lines(tmp_path: Path) -> None:
    places = [row["repeated_lines"] for row in judged(PAGES, tmp_path).values()]
    texts = without_repeated_lines(list(PAGES.values()), places)["text"]
    assert texts == ["Menu\nCats are fine.", "Menu\nDogs are fine.", "Birds sing.\n---", ""]


def test_paragraphs_are_units_too(tmp_path: Path) -> None:
    texts = {name: f"{name} has its own words.\nTwo lines.\n \n\nSubscribe\nnow!" for name in "abc"}
    found = judged(texts, tmp_path, unit="paragraph")
    assert [row["repeated_lines"] for row in found.values()] == [[1]] * 3
    kept = without_repeated_lines([texts["a"]], [[1]], unit="paragraph")["text"]
    assert kept == ["a has its own words.\nTwo lines."]


def test_text_without_repeats_stays_as_it_is_to_the_byte() -> None:
    text = "\n\n  One \r\n\n\n two\n"
    assert without_repeated_lines([text], [[]])["text"] == [text]


def test_answer_does_not_depend_on_the_shards(tmp_path: Path) -> None:
    whole = judged(PAGES, tmp_path / "1", shard_rows=10)
    assert judged(PAGES, tmp_path / "2", shard_rows=1) == whole
    assert judged(PAGES, tmp_path / "1", shard_rows=10) == whole  # again, over what the first run left


def test_shard_without_rows_has_an_answer_without_rows(tmp_path: Path) -> None:
    assert judged({}, tmp_path) == {}
