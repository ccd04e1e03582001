"""What steps promise: nothing is computed twice, an image is decoded once, and a row fails alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Workplace, errors
from PIL import Image

OWN = '''
from pathlib import Path
import pyarrow as pa
import pyarrow.parquet as pq
from curate.ops import Failed, group_op, op

LOG = Path(__file__).with_name("log")
SEEN = {}

def note(name, rows):
    with open(LOG, "a") as file:
        file.write("".join(f"{name} {row}\\n" for row in rows))

@op(reads=("uid", "image"), writes={"first": pa.int32()}, version=1, batch_size=5)
def first(uids, images):
    """Remember each picture."""
    SEEN.update(zip(uids, images))
    return {"first": [image.width for image in images]}

@op(reads=("uid", "image", "decoded"), writes={"same": pa.bool_()}, version=1, batch_size=3)
def second(uids, images, decoded):
    """Whether it is the very picture that `first` saw."""
    return {"same": [SEEN.pop(u) is i is d.image for u, i, d in zip(uids, images, decoded)]}

@op(reads="text", writes={"length": pa.int64()}, version=1)
def length(texts, *, plus: int = 0):
    """Characters."""
    note("length", texts)
    return {"length": [len(t) + plus for t in texts]}

@op(reads=("text", "length"), writes={"double": pa.float32()}, version=1)
def double(texts, lengths):
    """Reads a column of an earlier step."""
    note("double", texts)
    return {"double": [2.0 * n for n in lengths]}

@op(reads="text", writes={"fine": pa.bool_()}, version=1)
def picky(texts):
    """Raises for some."""
    bad = [t for t in texts if t.endswith("7")]
    if bad:
        raise LookupError(f"cannot bear {bad[0]!r}")
    return {"fine": [Failed("too_even", t) if t.endswith("4") else None if t.endswith("2") else True for t in texts]}

@op(reads="text", writes={"a": pa.int8()}, version=1)
def broken(texts, *, how: str):
    """Does not keep its word."""
    return {"missing": {}, "more": {"a": [1] * len(texts), "b": [1] * len(texts)}, "short": {"a": [1]},
            "kind": {"a": ["x"] * len(texts)}, "large": {"a": [1000] * len(texts)}}[how]

@op(reads=("text",), writes={"made": pa.int32(), "called": pa.int32()}, version=3, batch_size=4)
class Model:
    """Made once."""
    made = 0

    def __init__(self, *, size_px: int):
        Model.made += 1
        self.size_px, self.calls = size_px, 0

    def __call__(self, texts):
        self.calls += 1
        return {"made": [Model.made] * len(texts), "called": [self.size_px] * len(texts)}

@group_op(after=length, writes={"rank": pa.int64()}, version=1)
def rank(inputs, outputs, scratch, *, plus: int = 0, wrong: bool = False):
    """Each row's place by length over all shards, ties by uid."""
    tables = [pq.read_table(p) for p in inputs]
    note("rank", [",".join(tables[0].column_names), *(str(t.num_rows) for t in tables)])
    rows = sorted((n, u) for t in tables for n, u in zip(t["length"].to_pylist(), t["uid"].to_pylist()))
    place = {u: k for k, (_, u) in enumerate(rows)}
    for table, path in zip(tables, outputs):
        uids = table["uid"].to_pylist()[:: -1 if wrong else 1]
        pq.write_table(pa.table({"uid": uids, "rank": pa.array([place[u] for u in uids], pa.int64())}), path)
'''


@pytest.fixture
def own(place: Workplace) -> Workplace:
    """A workplace with 25 samples and ops of the user's own."""
    place.images(25)
    place.write_module("own_ops", OWN)
    return place


def log(place: Workplace) -> Counter[str]:
    """How many rows each of the user's ops saw since the last look."""
    path = place.root / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return Counter(line.split()[0] for line in lines)


def step(op: str, **more: Any) -> dict[str, Any]:
    return {"op": f"own_ops:{op}"} | more


def test_an_image_is_decoded_once_for_all_ops_of_a_stage(own: Workplace) -> None:
    steps = [step("first"), {"op": "image_ok"}, step("second", keep={"same": {"is": True}})]
    found = own.run(own.recipe(steps=steps))
    assert found.steps["second"]["kept"] == 25


@pytest.mark.slow
def test_large_images_that_are_not_all_held_are_decoded_once_from_the_second_chunk_on(place: Workplace) -> None:
    place.write_module("own_ops", OWN)
    for number in range(128):
        Image.new("L", (1500, 1000), number).save(place.src / f"{number:05d}.png")
        (place.src / f"{number:05d}.txt").write_text(f"number {number}")
    steps = [step("first"), step("second", keep={"same": {"is": True}})]
    found = place.run(place.recipe(steps=steps, shard_samples=128))
    assert found.steps["second"]["kept"] == (64 << 20) // (1500 * 1000) + 64


def test_a_loosened_threshold_computes_only_the_newly_admitted_rows(own: Workplace) -> None:
    def run(least: int) -> tuple[dict[str, Any], Counter[str]]:
        keep = {"length": {"min": least}}
        found = own.run(own.recipe(steps=[step("length", keep=keep), step("double")]))
        return found.steps, log(own)

    strict, seen = run(20)
    admitted = strict["double"]["in"]
    assert 0 < admitted < 25 and seen == {"length": 25, "double": admitted}
    loose, seen = run(10)
    more = loose["double"]["in"] - admitted
    assert more > 0 and seen == {"double": more}
    assert (loose["double"]["computed"], loose["double"]["reused"]) == (more, admitted)
    assert (loose["length"]["computed"], loose["length"]["reused"]) == (0, 25)
    again, seen = run(15)
    assert seen == {} and again["double"]["computed"] == 0 and again["double"]["in"] < loose["double"]["in"]


def test_what_a_loosened_threshold_gives_is_what_it_would_have_given_at_once(own: Workplace) -> None:
    def recipe(least: int, out: str) -> Any:
        steps = [step("length", keep={"length": {"min": least}}), step("double", keep={"double": {"top": 0.6}})]
        return own.recipe(steps=steps, out=str(own.root / out), publish={"columns": ["double"]})

    for least in (20, 15, 10):
        own.run(recipe(least, "out"))
    slow = own.published()
    own.out = own.root / "at-once"
    own.run(recipe(10, "at-once"))
    assert own.published() == slow


def test_a_knob_that_changes_computes_anew_and_its_columns_stand_beside(own: Workplace) -> None:
    for plus in (0, 5, 0):
        own.run(own.recipe(steps=[step("length", **{"with": {"plus": plus}})]))
    assert log(own) == {"length": 50}


def test_an_exception_of_an_op_fails_only_the_rows_that_raise_it(own: Workplace) -> None:
    line = own.run(own.recipe(steps=[step("picky", keep={"fine": {"is": True}})])).steps["picky"]
    assert line["failed"] == {"lookup_error": 2, "too_even": 3}
    assert line["dropped"] == {"fine.is": 3} and line["kept"] == 17
    told = [t for t in own.explained() if t["rule"] == "lookup_error"]
    assert told[0]["outcome"] == "failed" and "cannot bear" in told[0]["value"] and told[0]["text"].endswith("7")


def test_a_run_whose_ops_fail_more_than_the_limit_stops_with_remedies(own: Workplace) -> None:
    path = own.recipe(steps=[step("picky")], limits={"failed": 0.15})
    found = own.run(path)
    assert found.code == 1 and "more than limits.failed = 0.15 allows" in found.stderr
    assert "too_even: " in found.stderr and "lookup_error: " in found.stderr and "run again to go on" in found.stderr
    assert not own.dataset.exists()
    assert own.run(path).code == 1
    assert own.run(path, "--set", "limits.failed=0.2").code == 0


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "returned [], it declares ['a']"),
        ("more", "returned ['a', 'b']"),
        ("short", "1 values in 'a' for 10 rows"),
        ("kind", "column 'a' is declared int8"),
        ("large", "column 'a' is declared int8"),
    ],
)
def test_an_op_that_does_not_keep_its_word_stops_the_run_by_name(own: Workplace, how: str, words: str) -> None:
    found = own.run(own.recipe(steps=[step("broken", **{"with": {"how": how}})]))
    assert found.code == 1 and "op 'broken'" in found.stderr and words in found.stderr


def test_an_op_used_twice_has_its_columns_under_the_names_of_its_steps(own: Workplace) -> None:
    longer = step("length", name="longer", **{"with": {"plus": 100}}, keep={"longer.length": {"min": 9}})
    steps = [step("length"), longer]
    columns = ["length", "longer.length"]
    found = own.run(own.recipe(steps=steps, publish={"columns": columns}))
    assert list(found.steps) == ["ingest", "length", "longer"] and log(own) == {"length": 50}
    told = next(t for t in own.explained() if t["outcome"] == "kept")
    assert sorted(v["length"] for v in told["columns"].values()) == [len(told["text"]), len(told["text"]) + 100]


def test_two_steps_of_one_name_are_refused(own: Workplace) -> None:
    steps = [step("length", name="a"), step("picky", name="a")]
    errors(own.run(own.recipe(steps=steps)), ["steps.1", "a step is called 'a' already"])
    errors(own.run(own.recipe(steps=[step("length", name="ingest")])), ["a step is called 'ingest' already"])


def test_a_class_is_made_once_and_given_its_knobs(own: Workplace) -> None:
    steps = [{"op": "own_ops:Model", "with": {"size_px": 7}, "keep": {"made": {"is": 1}, "called": {"is": 7}}}]
    assert own.run(own.recipe(steps=steps)).steps["Model"]["kept"] == 25
    errors(own.run(own.recipe(steps=[{"op": "own_ops:Model"}])), ["steps.0.with.size_px: missing"])


def test_a_group_op_sees_the_admitted_rows_of_all_shards_and_their_columns(own: Workplace) -> None:
    steps = [step("length", keep={"length": {"min": 12}}), step("rank", keep={"rank": {"max": 4}})]
    found = own.run(own.recipe(steps=steps))
    admitted = found.steps["rank"]["in"]
    assert found.steps["rank"]["kept"] == 5 and admitted < 25
    lines = (own.root / "log").read_text().splitlines()
    said = [line.split()[1] for line in lines if line.startswith("rank")]
    assert set(said[0].split(",")) >= {"uid", "nbytes", "sha256", "length"}
    assert sum(map(int, said[1:])) == admitted
    log(own)
    steps[1]["keep"] = {"rank": {"max": 9}}
    assert own.run(own.recipe(steps=steps)).steps["rank"]["kept"] == 10 and log(own) == {}


def test_a_group_op_brings_its_row_op_with_it(own: Workplace) -> None:
    found = own.run(own.recipe(steps=[step("rank", **{"with": {"plus": 3}})]))
    assert list(found.steps) == ["ingest", "length", "rank"]
    assert log(own) == {"length": 25, "rank": 4}


def test_a_group_op_that_shuffles_its_rows_is_refused(own: Workplace) -> None:
    found = own.run(own.recipe(steps=[step("rank", **{"with": {"wrong": True}})]))
    assert found.code == 1 and "the same order" in found.stderr


def test_a_pool_that_cannot_be_read_stops_the_run_and_is_no_verdict_on_its_rows(own: Workplace) -> None:
    own.run(own.recipe())
    tar = next(own.out.glob("pool-*/*.tar"))
    tar.rename(own.root / "away.tar")
    path = own.recipe(steps=[{"op": "image_size"}])
    found = own.run(path)
    assert found.code == 1 and tar.name in found.stderr
    (own.root / "away.tar").rename(tar)
    assert own.run(path).steps["image_size"]["kept"] == 25


def test_a_share_counts_only_the_rows_that_came_to_it(own: Workplace) -> None:
    steps = [
        step("length", keep={"length": {"min": 12, "top": 0.5}}),
        step("double", keep={"double": {"bottom": 0.5}}),
    ]
    found = own.run(own.recipe(steps=steps, publish={"columns": ["length"]}))
    rows = [r for p in own.out.glob("pool-*/rows/*.parquet") for r in pq.read_table(p).to_pylist()]
    long = sorted((-len(r["text"]), r["uid"]) for r in rows if len(r["text"]) >= 12)
    half = long[: -(-len(long) // 2)]
    quarter = sorted((-n, u) for n, u in half)[: -(-len(half) // 2)]
    assert found.steps["length"]["dropped"] == {"length.min": 25 - len(long), "length.top": len(long) - len(half)}
    kept = {r["uid"] for p in own.out.glob("decisions/*/kept-*.parquet") for r in pq.read_table(p).to_pylist()}
    assert kept == {u for _, u in quarter}
    assert found.json["cuts"] == {"length.top": -half[-1][0], "double.bottom": 2 * quarter[-1][0]}


def test_a_share_of_an_earlier_steps_integers_reports_its_cut(own: Workplace) -> None:
    steps = [step("length"), step("picky", keep={"length": {"top": 1.0}})]
    found = own.run(own.recipe(steps=steps))
    assert 0 < found.json["cuts"]["length.top"] < 100
