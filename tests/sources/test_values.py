"""Values of strangers' tables and files on their way into a dataset: what is published is text and strict JSON."""

from __future__ import annotations

import datetime
import json
import tarfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Workplace


def strict(data: bytes) -> Any:
    return json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def published(place: Workplace) -> list[tuple[str, dict[str, Any]]]:
    """The text and the JSON of each published sample, in the order of the texts."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(place.dataset.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, part = member.name.partition(".")
                found.setdefault(key, {})[part] = tar.extractfile(member).read()  # type: ignore[union-attr]
    samples = ((parts["txt"].decode(), strict(parts["json"])) for parts in found.values())
    return sorted(samples, key=lambda sample: sample[0])


def run(place: Workplace, table: pa.Table | bytes, **source: Any) -> dict[str, Any]:
    """A folder of images with a table of their captions, `image` and `text`; the failures of ingest."""
    name = "t.jsonl" if isinstance(table, bytes) else "t.parquet"
    place.images(6)
    if isinstance(table, bytes):
        (place.root / name).write_bytes(table)
    else:
        pq.write_table(table, place.root / name)
    said = {"type": "folder", "path": str(place.src), "captions": str(place.root / name)} | source
    found = place.run(place.recipe(source=said, limits={"failed": 1.0}))
    assert found.code == 0, found.stderr
    strict(found.stdout.encode())
    return dict(found.steps["ingest"]["failed"])


def images(count: int) -> list[str]:
    return [f"{number:05d}.png" for number in range(count)]


def test_caption_in_bytes_is_its_text_and_a_picture_in_its_place_is_named(place: Workplace) -> None:
    table = pa.table({"image": images(3), "text": pa.array([b"a cat", "né".encode(), b"\xff\xd8\xff"])})
    assert run(place, table) == {"not_text": 1}
    assert [text for text, _ in published(place)] == ["a cat", "né"]


def test_caption_that_is_nan_is_an_empty_one_and_a_number_is_written_as_it_stands(place: Workplace) -> None:
    table = pa.table({"image": images(3), "text": pa.array([float("nan"), 1.5, float("inf")])})
    assert run(place, table) == {}
    assert [text for text, _ in published(place)] == ["", "", "1.5"]


def test_date_is_a_caption_without_quotes_and_a_list_is_none(place: Workplace) -> None:
    assert run(place, pa.table({"image": images(1), "text": [datetime.date(2024, 2, 29)]})) == {}
    assert [text for text, _ in published(place)] == ["2024-02-29"]
    assert run(place, pa.table({"image": images(2), "text": [["a", "b"], []]})) == {"not_text": 2}


def test_no_nan_of_a_kept_column_reaches_a_published_json(place: Workplace) -> None:
    scores = pa.array([{"a": float("nan"), "b": [1.0, float("inf")]}, {"a": 0.5, "b": []}])
    table = pa.table({"image": images(2), "text": ["x", "y"], "scores": scores, "raw": pa.array([b"k", None])})
    assert run(place, table, keep=["scores", "raw"]) == {}
    assert [found["meta"] for _, found in published(place)] == [
        {"scores": {"b": [1.0, None]}, "raw": "k"},
        {"scores": {"a": 0.5}},
    ]


def test_no_nan_that_an_op_measured_passes_or_reaches_a_published_json(place: Workplace) -> None:
    place.images(3)
    place.write_module(
        "nanny",
        """
import pyarrow as pa
from curate.ops import op
@op(reads="text", writes={"score": pa.float64(), "scores": pa.list_(pa.float32())}, version=1)
def nan_score(texts):
    said = [float("nan"), 0.5, 0.5]
    return {"score": said[: len(texts)], "scores": [[1.0], [1.0, float("inf")], [1.0]][: len(texts)]}
""",
    )
    steps = [{"op": "nanny:nan_score"}]
    found = place.run(place.recipe(steps=steps, publish={"columns": ["score", "scores"]}))
    assert found.code == 1 and "2 of 3" in found.stderr  # more than half
    recipe = place.recipe(steps=steps, publish={"columns": ["score", "scores"]}, limits={"failed": 1.0})
    assert place.run(recipe).steps["nan_score"]["failed"] == {"not_a_number": 2}
    assert [(f["score"], f["scores"]) for _, f in published(place)] == [(0.5, [1.0])]
    explained = place.curate("explain", "", "--out", place.out, "--json")
    strict(explained.stdout.encode())


def test_half_a_character_costs_no_document_and_is_the_replacement_character(place: Workplace) -> None:
    lines = [{"image": name, "text": text} for name, text in zip(images(2), ["cut \ud83d", "whole 😀"], strict=True)]
    assert run(place, "\n".join(map(json.dumps, lines)).encode()) == {}
    assert [text for text, _ in published(place)] == ["cut �", "whole 😀"]


def test_mark_before_a_caption_or_a_text_is_no_part_of_it_wherever_it_comes_from(place: Workplace) -> None:
    marked = pa.table({"image": images(1), "text": ["\ufeffa cat"]})
    run(place, marked)
    assert [text for text, _ in published(place)] == ["a cat"]
    (place.root / "texts.jsonl").write_text('{"text": "\\ufeffa text of words"}\n')
    source = {"type": "text", "path": str(place.root / "texts.jsonl")}
    assert place.run(place.recipe(kind="text", source=source)).code == 0
    assert [text for text, _ in published(place)] == ["a text of words"]


def test_record_with_bytes_of_pictures_fails_by_name(place: Workplace) -> None:
    pq.write_table(pa.table({"images": [[b"\xff\xd8\xff"]], "texts": [["words"]]}), place.root / "t.parquet")
    source = {"type": "records", "path": str(place.root / "t.parquet"), "columns": ["images", "texts"]}
    found = place.run(
        place.recipe(kind="interleaved", source=source, steps=[{"op": "obelics_document"}], limits={"failed": 1})
    )
    assert found.steps["ingest"]["failed"] == {"not_text": 1}
