"""What a knob that names a column promises: any op's column, the right one, and a sentence where it does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Workplace, errors

from curate.recipe.resolve import load
from curate.recipe.steps import assign_fingerprints

OWN = '''
import pyarrow as pa
import pyarrow.parquet as pq
from curate.ops import EmbeddingColumn, NumberColumn, group_op, op


@op(reads="text", writes={"pair": pa.list_(pa.float16()), "size": pa.int32()}, version=1)
def pair(texts, *, scale: float = 1.0):
    """An embedding of two numbers."""
    return {"pair": [[scale * len(t), 1.0] for t in texts], "size": [len(t) for t in texts]}


@group_op(writes={"largest": pa.float32(), "rows": pa.int32()}, version=1)
def largest(inputs, outputs, scratch, *, column: EmbeddingColumn, size: NumberColumn | None = None):
    """The largest first number of all, plus the largest size where it is asked for."""
    tables = [pq.read_table(path) for path in inputs]
    assert all(t.column_names[3:] == ["column", *(["size"] if size else []), "row"] for t in tables)
    whole = sum(map(len, tables))
    most = max(row[0] for t in tables for row in t["column"].to_pylist())
    most += max(n for t in tables for n in t["size"].to_pylist()) if size else 0
    for table, path in zip(tables, outputs):
        same = {"largest": [most] * len(table), "rows": [whole] * len(table)}
        schema = pa.schema([("uid", pa.string()), ("largest", pa.float32()), ("rows", pa.int32())])
        pq.write_table(pa.table({"uid": table["uid"], **same}, schema), path)


@op(reads="uid", writes={"first": pa.float32()}, version=1)
def first(uids, pairs, *, column: EmbeddingColumn = "pair"):
    """The first number of the column that is named."""
    return {"first": [row[0] for row in pairs]}
'''


@pytest.fixture
def own(place: Workplace) -> Workplace:
    place.images(12)
    place.write_module("own_ops", OWN)
    return place


def step(op: str, **more: Any) -> dict[str, Any]:
    return {"op": f"own_ops:{op}"} | more


def test_group_op_works_on_the_column_that_a_knob_names_whichever_op_wrote_it(own: Workplace) -> None:
    steps = [
        step("pair"),
        step("pair", name="big", **{"with": {"scale": 100.0}}),
        step("largest", **{"with": {"column": "big.pair"}}),
        step("largest", name="both", **{"with": {"column": "pair", "size": "size"}}),
        step("first", **{"with": {"column": "big.pair"}}),
    ]
    found = own.run(own.recipe(steps=steps, publish={"columns": ["size", "largest", "both.largest", "first"]}))
    assert found.code == 0, found.stderr
    longest = max(len(path.read_text()) for path in own.src.glob("*.txt"))
    assert found.json["samples"] == 12
    keep = {"largest": {"min": 100 * longest, "max": 100 * longest}, "both.largest": {"is": 2 * longest}}
    steps[-1]["keep"] = keep | {"first": {"min": 100}}
    assert own.run(own.recipe(steps=steps)).json["samples"] == 12


def test_group_op_sees_the_rows_that_are_left_and_is_made_anew_when_they_change(own: Workplace) -> None:
    def run(most: int) -> dict[str, Any]:
        keep = {"size": {"max": most}}
        group = step("largest", keep={"rows": {"min": 1}}, **{"with": {"column": "pair"}})
        found = own.run(own.recipe(steps=[step("pair", keep=keep), group]))
        return found.steps["largest"]

    few, all_rows = run(15), run(1000)
    assert 0 < few["in"] < 12 and few["computed"] == few["in"]
    assert (all_rows["in"], all_rows["computed"]) == (12, 12)
    assert run(15)["computed"] == 0


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({}, ["steps.1.with.column", "missing"]),
        ({"column": "pear"}, ["steps.1.with.column", "no earlier step writes 'pear'", "did you mean 'pair'"]),
        ({"column": "clip_image_embedding"}, ["steps.1.with.column", "put clip_score before it"]),
        ({"column": "size"}, ["steps.1.with.column", "holds int32", "needs an embedding, which is a list of floats"]),
        ({"column": "pair", "size": "pair"}, ["steps.1.with.size", "holds list<", "needs a number"]),
        ({"column": 3}, ["steps.1.with.column", "valid string"]),
    ],
)
def test_knob_that_names_no_such_column_is_refused(own: Workplace, knobs: dict[str, Any], words: list[str]) -> None:
    errors(own.run(own.recipe(steps=[step("pair"), step("largest", **{"with": knobs})])), words)


def test_list_in_step_with_a_documents_parts_is_no_embedding(own: Workplace) -> None:
    (own.root / "own_ops.py").write_text(
        OWN + '\n@op(reads="text", writes={"length": pa.float32()}, version=1)\ndef length(texts):\n'
        '    "How long."\n    return {"length": [float(len(t)) for t in texts]}\n'
    )
    steps = [
        {"op": "html_document"},
        step("length", over="paragraphs"),
        step("largest", **{"with": {"column": "length"}}),
    ]
    source = {"type": "html", "path": str(own.src)}
    path = own.recipe(kind="interleaved", source=source, steps=steps)
    errors(own.run(path), ["steps.2.with.column", "has an entry for each of a document's parts"])


def test_key_of_a_group_ops_columns_holds_the_key_of_the_column_it_reads(own: Workplace) -> None:
    def keys(scale: float, **more: Any) -> list[str]:
        steps = [step("pair", **{"with": {"scale": scale}}, **more), step("largest", **{"with": {"column": "pair"}})]
        return [s.key for s in assign_fingerprints(load(own.recipe(steps=steps)).steps, "")]

    once, other, strict = keys(1.0), keys(2.0), keys(1.0, keep={"size": {"min": 3}})
    assert once == keys(1.0) and once[1] != other[1]
    assert once[0] == strict[0] and once[1] != strict[1], "a decision before is in the group's key, not in the row op's"
