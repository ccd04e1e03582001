"""What ops on all rows promise in a run: the same bytes with any workers, and rows published as often as was drawn."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace, errors

OWN = '''
import hashlib
import numpy as np
import pyarrow as pa
from curate.ops import op


@op(reads="text", writes={"look": pa.list_(pa.float16()), "score": pa.float32(), "times": pa.int32()}, version=1)
def look(texts):
    """An embedding by the first word, moved a little by the rest; a score."""
    rows = []
    for text in texts:
        first, rest = (np.random.default_rng(list(t.encode())).normal(size=16) for t in (text.split()[0], text))
        rows.append((first + 0.1 * rest).astype(np.float16))
    sizes = [len(text) % 7 / 3 for text in texts]
    return {"look": rows, "score": sizes, "times": [1 + len(text) % 3 for text in texts]}
'''


@pytest.fixture
def own(place: Workplace) -> Workplace:
    place.images(60)
    place.write_module("own_ops", OWN)
    return place


def steps(place: Workplace) -> list[dict[str, Any]]:
    (place.root / "entries.txt").write_text("red\ncat\nhouse of\nlight\n")
    column = {"column": "look"}
    return [
        {"op": "own_ops:look"},
        {"op": "clusters", "with": column | {"rows_per_cluster": 6}},
        {"op": "semantic_duplicates", "with": column | {"eps": 0.1, "prefer": "score"}},
        {"op": "entries", "with": {"entries": str(place.root / "entries.txt")}},
        {"op": "balance", "with": {"tail_share": 0.5}, "keep": {"balanced": {"is": True}}},
        {"op": "soft_cap", "with": {"column": "score", "draw": 5}, "keep": {"times_drawn": {"min": 1}}},
    ]


SHOWN = ("cluster", "semantic_duplicate_of", "semantic_similarity", "keep_probability", "times_drawn")


def samples(folder: Path) -> list[dict[str, Any]]:
    """The JSON of every published sample."""
    found = []
    for tar in sorted(folder.glob("*.tar")):
        with tarfile.open(tar) as file:
            bodies = (file.extractfile(member) for member in file if member.name.endswith("json"))
            found += [json.load(io.BytesIO(body.read())) for body in bodies if body]
    return found


@pytest.mark.slow
def test_ops_on_all_rows_give_the_same_bytes_inline_and_with_several_workers(own: Workplace) -> None:
    seen = []
    for how in (["--inline"], ["--workers", "3"]):
        own.out = own.root / how[-1]
        publish = {"columns": list(SHOWN), "repeat": "times_drawn", "shard_samples": 9}
        found = own.command("run", own.recipe(steps=steps(own), publish=publish, out=str(own.out)), "--json", *how)
        assert found.code == 0, found.stderr
        seen.append((own.published(), found.json["funnel"]))
        assert own.leftovers() == []
    assert seen[0] == seen[1]
    found = samples(own.dataset)
    assert len(found) > 20 and any("semantic_duplicate_of" in row for row in found)


def test_row_is_published_as_often_as_a_column_says_each_time_with_a_uid_of_its_own(own: Workplace) -> None:
    step = {"op": "own_ops:look", "keep": {"score": {"min": 1}}}
    publish = {"columns": ["times"], "repeat": "times", "shard_samples": 10}
    found = own.run(own.recipe(steps=[step], publish=publish))
    assert found.code == 0, found.stderr
    rows = samples(own.dataset)
    assert len({row["uid"] for row in rows}) == len(rows) == found.json["samples"] > found.steps["look"]["kept"]
    origins = [row.get("meta", {}).get("copy_of", row["uid"]) for row in rows]
    often = Counter(origins)
    assert len(often) == found.steps["look"]["kept"]
    assert all(often[origin] == row["times"] for origin, row in zip(origins, rows, strict=True))
    assert {row.get("meta", {}).get("copy", 0) for row in rows} == {0, 1, 2}
    again = own.run(own.recipe(steps=[step], publish=publish))
    assert again.json["samples"] == len(rows) and not again.steps["look"]["computed"]
    once = own.run(own.recipe(steps=[step], publish={"columns": ["times"]}))
    assert once.json["samples"] == once.steps["look"]["kept"]


def test_kept_row_that_is_to_be_written_no_time_is_refused(own: Workplace) -> None:
    steps = [{"op": "own_ops:look"}, {"op": "text_basic"}]
    found = own.run(own.recipe(steps=steps, publish={"repeat": "control_characters"}))
    assert found.code == 1 and "is kept, but to be written no time; let a rule drop such rows" in found.stderr


@pytest.mark.parametrize(
    ("repeat", "words"),
    [("score", ["publish.repeat", "column of whole numbers 'score'"]), ("tims", ["did you mean 'times'"])],
)
def test_repeat_by_what_is_no_count_is_refused(own: Workplace, repeat: str, words: list[str]) -> None:
    errors(own.run(own.recipe(steps=[{"op": "own_ops:look"}], publish={"repeat": repeat})), words)


def test_repeat_and_split_are_not_for_one_recipe(own: Workplace) -> None:
    publish = {"repeat": "times", "split": "chunks"}
    path = own.recipe(kind="text", source={"type": "text", "path": "x"}, publish=publish)
    errors(own.run(path), ["publish.repeat", "cannot be repeated"])


def test_semantic_duplicates_without_clusters_are_refused_with_what_to_do(own: Workplace) -> None:
    steps = [{"op": "own_ops:look"}, {"op": "semantic_duplicates", "with": {"column": "look"}}]
    errors(own.run(own.recipe(steps=steps)), ["reads 'near_clusters'", "put clusters before it"])


def test_missing_list_of_entries_or_targets_is_said_before_anything_runs(own: Workplace) -> None:
    for op, knob in (("entries", "entries"), ("target_clusters", "target"), ("clusters", "centroids")):
        column = {} if op == "entries" else {"column": "look"}
        steps = [{"op": "own_ops:look"}, {"op": op, "with": column | {knob: str(own.root / "none.npy")}}]
        found = own.run(own.recipe(steps=steps))
        assert found.code == 1 and f"op {op}: " in found.stderr and "none.npy" in found.stderr
    assert not list(own.root.glob("out/pool-*"))


def test_error_of_an_op_on_all_rows_reaches_the_user_as_one_sentence(own: Workplace) -> None:
    steps = [{"op": "own_ops:look"}, {"op": "soft_cap", "with": {"column": "score", "draw": 100, "total": 900}}]
    found = own.run(own.recipe(steps=steps))
    assert found.code == 1 and "100 different rows cannot be drawn of" in found.stderr, found.stderr
    assert "Traceback" not in found.stderr
