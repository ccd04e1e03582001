"""What rules on several columns and groups promise: each keeps what a reader computes from the columns, by one name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from conftest import Workplace, errors

OWN = """
import json
import pyarrow as pa
from curate.ops import op

@op(reads="text", writes={"score": pa.float64(), "other": pa.float32(), "tongue": pa.string(), "page": pa.int32()},
    version=1)
def marks(texts):
    "What each text says of itself."
    said = [json.loads(text) for text in texts]
    return {name: [one[name] for one in said] for name in ("score", "other", "tongue", "page")}

@op(reads="text", writes={"length": pa.int32()}, version=1)
def length(texts):
    return {"length": [len(text) for text in texts]}

@op(reads="text", writes={"vector": pa.list_(pa.float16()), "odd": pa.float32()}, version=1)
def odd_numbers(texts):
    "Gives what is no number for some."
    odd = {0: float("nan"), 1: float("inf"), 2: -1e39, 3: None}
    pages = [json.loads(text)["page"] for text in texts]
    return {"odd": [odd.get(page, 0.5) for page in pages],
            "vector": [[1.0, float("nan")] if page == 4 else [1.0, 2.0] for page in pages]}
"""

Row = Mapping[str, Any]


def rows_of(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with ties, and some without a value or a group."""
    chance = Random(seed)
    return [
        {
            "n": n,
            "score": chance.choice([None, *(k / 10 for k in range(-5, 6))]),
            "other": chance.choice([0.0, 0.25, 0.5, 0.75, 1.0]),
            "tongue": chance.choice([None, "en", "en", "de", "no", "tr"]),
            "page": chance.randrange(6),
        }
        for n in range(count)
    ]


@pytest.fixture
def own(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    place.write_module("own_marks", OWN)
    monkeypatch.syspath_prepend(str(place.root))
    (place.src / "rows.jsonl").write_text(
        "".join(json.dumps({"text": json.dumps(row)}) + "\n" for row in rows_of(60, 3))
    )
    return place


def recipe(own: Workplace, *keeps: dict[str, Any], **changes: Any) -> Any:
    ops = [{"op": "own_marks:marks"}, {"op": "own_marks:length"}, {"op": "text_digest"}][: max(1, len(keeps))]
    steps = [{**step, "keep": keep} for step, keep in zip(ops, keeps, strict=False)]
    source = {"type": "text", "path": str(own.src / "rows.jsonl")}
    return own.recipe(**{"kind": "text", "source": source, "steps": steps, "shard_samples": 7} | changes)


def table(own: Workplace) -> list[dict[str, Any]]:
    """Every row with its uid, its end and what it says of itself."""
    from curate.engine.explain import decisions, explain

    ends = decisions(own.out).to_pylist()
    texts = {end["uid"]: json.loads(explain(end["uid"], own.out)[0]["text"]) for end in ends[:1]}
    pool = next(own.out.glob("pool-*"))
    import pyarrow.parquet as pq

    for path in pool.glob("rows/*.parquet"):
        texts |= {row["uid"]: json.loads(row["text"]) for row in pq.read_table(path).to_pylist()}
    return [end | texts[end["uid"]] for end in ends]


def kept(own: Workplace, path: Any) -> set[int]:
    found = own.run(path)
    assert found.code == 0, found.stderr
    return {row["n"] for row in table(own) if row["outcome"] == "kept"}


def best(rows: list[dict[str, Any]], share: float, column: str = "score", sign: int = -1) -> set[int]:
    """The ceil(share x n) rows of the largest value; ties go to the smaller uid."""
    order = sorted((sign * row[column], row["uid"], row["n"]) for row in rows if row[column] is not None)
    return {n for *_, n in order[: math.ceil(Fraction(str(share)) * len(order))]}


def test_any_of_keeps_rows_for_which_one_set_of_rules_holds(own: Workplace) -> None:
    either = [{"score": {"min": 0.3}}, {"tongue": {"is": "en"}, "other": {"max": 0.5}}]
    found = kept(own, recipe(own, {"page": {"min": 1}, "any_of": either}))
    everything = table(own)
    fits = [r for r in everything if r["page"] >= 1]
    wanted = {r["n"] for r in fits if (r["score"] or 0) >= 0.3 or (r["tongue"] == "en" and r["other"] <= 0.5)}
    assert found == wanted and 0 < len(wanted) < len(fits)
    dropped = next(r for r in everything if r["rule"].startswith("any_of") if r["outcome"] == "dropped")
    assert dropped["rule"] == "any_of(score.min, tongue.is+other.max)"
    assert json.loads(dropped["value"]) == {name: dropped[name] for name in ("score", "tongue", "other")}


def test_bound_by_a_column_holds_for_each_group_and_for_all_others(own: Workplace) -> None:
    rule = {"score": {"by": "tongue", "min": {"en": 0.28, "no": -0.2, "else": 0.1}}}
    found = kept(own, recipe(own, rule))
    bound = {"en": 0.28, "no": -0.2}
    everything = table(own)
    assert found == {r["n"] for r in everything if r["score"] is not None and r["score"] >= bound.get(r["tongue"], 0.1)}
    dropped = next(r for r in everything if r["outcome"] == "dropped")
    assert dropped["rule"] == "score.min_by_tongue"
    assert json.loads(dropped["value"]) == {"score": dropped["score"], "tongue": dropped["tongue"]}


@pytest.mark.parametrize("shard", [7, 1000])
def test_share_by_a_column_is_taken_within_each_group_whatever_the_shards(own: Workplace, shard: int) -> None:
    rule = {"score": {"by": "tongue", "top": {"de": 0.5, "else": 0.3}}, "page": {"max": 4}}
    found = kept(own, recipe(own, rule, shard_samples=shard))
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in table(own):
        if row["page"] <= 4:
            groups.setdefault(row["tongue"], []).append(row)
    assert len(groups) == 5
    assert found == set().union(*(best(rows, 0.5 if name == "de" else 0.3) for name, rows in groups.items()))


def test_share_of_the_pool_counts_rows_that_other_rules_drop(own: Workplace) -> None:
    high = {"score": {"min": 0.1}}
    arriving = kept(own, recipe(own, high, {"score": {"top": 0.5}}))
    few = [r for r in table(own) if (r["score"] or 0) >= 0.1]
    assert arriving == best(few, 0.5)
    of_pool = kept(own, recipe(own, high, {"score": {"top": 0.5, "of": "pool"}}))
    assert of_pool == best(table(own), 0.5) & {r["n"] for r in few} and len(of_pool) > len(arriving)
    within = kept(own, recipe(own, high | {"other": {"top": 0.5, "of": "pool"}}))
    assert within == best(table(own), 0.5, "other") & {r["n"] for r in few}
    assert "other.top_of_pool" in {r["rule"] for r in table(own)}


def test_shares_of_one_step_see_the_same_rows(own: Workplace) -> None:
    """Rows that two models rank among their best: each of them over all that arrive."""
    found = kept(own, recipe(own, {"page": {"max": 4}, "score": {"top": 0.5}, "other": {"bottom": 0.6}}))
    here = [r for r in table(own) if r["page"] <= 4]
    assert found == best(here, 0.5) & best(here, 0.6, "other", sign=1)
    assert {r["rule"] for r in here if r["outcome"] == "dropped"} == {"score.top", "other.bottom"}


def test_any_of_two_shares_keeps_what_either_model_ranks_high(own: Workplace) -> None:
    found = kept(own, recipe(own, {"any_of": [{"score": {"top": 0.2}}, {"other": {"top": 0.2}}], "page": {"min": 1}}))
    here = [r for r in table(own) if r["page"] >= 1]
    assert found == best(here, 0.2) | best(here, 0.2, "other")


def test_strict_share_is_cut_as_datacomp_cuts_it(own: Workplace) -> None:
    """The value of element int(N x f) of the descending sort, and all that are at least that: n + 1 rows and ties."""
    found = kept(own, recipe(own, {"score": {"top": 0.25, "strict": "datacomp"}}))
    here = [r for r in table(own) if r["score"] is not None]
    cut = sorted((r["score"] for r in here), reverse=True)[int(len(here) * 0.25)]
    assert found == {r["n"] for r in here if r["score"] >= cut}
    assert len(found) > math.ceil(0.25 * len(here))


def test_share_keeps_what_has_no_value_where_told(own: Workplace) -> None:
    found = kept(own, recipe(own, {"score": {"top": 0.3, "or_null": True}}))
    here = table(own)
    assert found == best(here, 0.3) | {r["n"] for r in here if r["score"] is None}


def test_changed_group_numbers_compute_nothing_again(own: Workplace) -> None:
    rule: Callable[[float], dict[str, Any]] = lambda en: {"score": {"by": "tongue", "min": {"en": en, "else": 0}}}  # noqa: E731
    assert own.run(recipe(own, rule(0.1))).steps["marks"]["computed"] == 60
    assert own.run(recipe(own, rule(0.4))).steps["marks"]["computed"] == 0


def test_report_and_card_say_what_a_share_was_taken_of(own: Workplace) -> None:
    rule = {
        "score": {"by": "tongue", "top": 0.3, "of": "pool"},
        "any_of": [{"other": {"min": 0.5}}, {"page": {"is": 1}}],
    }
    assert own.run(recipe(own, {}, rule)).code == 0
    card = (own.out / "data_card.md").read_text()
    page = own.curate("run", recipe(own, {}, rule), "--dry-run").stdout
    assert "other min 0.5; page is 1" in " ".join(page.replace("│", " ").split())
    assert "among the largest 30 % of the whole pool within each tongue" in card, card[:300]
    assert "at least 0.5, or page 1" in card


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ({"score": {"by": "tonge", "top": 0.3}}, ["keep.score.by", "did you mean 'tongue'"]),
        ({"score": {"by": "other", "top": 0.3}}, ["keep.score.by", "holds float"]),
        ({"score": {"by": "page", "min": {"en": 1, "else": 0}}}, ["int32, found 'en'"]),
        ({"score": {"by": "tongue", "min": {False: 1, "else": 0}}}, ["found False", "quote it: 'no'"]),
        ({"score": {"by": "tongue", "min": {"en": 1}}}, ["keep.score.min", "give `else:`"]),
        ({"score": {"min": {"en": 1, "else": 0}}}, ["keep.score", "`by: COLUMN`"]),
        ({"score": {"by": "tongue", "min": 1}}, ["`by` needs a number a group"]),
        ({"score": {"by": "tongue", "top": {"en": 2, "else": 0.5}}}, ["keep.score.top.en", "less than or equal to 1"]),
        ({"score": {"min": 1, "of": "pool"}}, ["`of: pool`", "none here"]),
        ({"score": {"bottom": 0.5, "strict": "datacomp"}}, ["`strict: datacomp`", "none here"]),
        ({"any_of": [{"score": {"min": 1}}]}, ["`any_of` is a list of two or more"]),
        ({"any_of": [{"score": {"min": 1}}, {"othr": {"min": 1}}]}, ["any_of.1.othr", "did you mean 'other'"]),
        ({"any_of": [{"score": {"min": 1}}, {"other": {"mim": 1}}]}, ["any_of.1.other.mim", "did you mean 'min'"]),
    ],
)
def test_wrong_rule_on_groups_is_refused_before_anything_runs(
    own: Workplace, keep: dict[Any, Any], words: list[str]
) -> None:
    path = recipe(own, {})
    import yaml

    said = json.loads(path.read_text())
    said["steps"][0]["keep"] = keep
    path.write_text(yaml.safe_dump(said))
    errors(own.run(path), words)
    assert not own.out.exists()


def test_share_of_the_pool_needs_a_column_that_every_row_has(own: Workplace) -> None:
    path = recipe(own, {"page": {"min": 1}}, {"length": {"top": 0.5, "of": "pool"}})
    errors(own.run(path), ["steps.1.keep.length.of", "step 'marks' drops rows before", "`of: arriving`"])


def test_what_is_no_number_fails_its_row_by_name_and_passes_no_rule(own: Workplace) -> None:
    steps = [{"op": "own_marks:odd_numbers", "keep": {"odd": {"not_in": [7.0], "or_null": True}}}]
    assert kept(own, recipe(own, steps=steps, limits={"failed": 1})) == {
        r["n"] for r in rows_of(60, 3) if r["page"] in (3, 5)
    }
    failed = [r for r in table(own) if r["outcome"] == "failed"]
    assert {r["page"] for r in failed} == {0, 1, 2, 4} and {r["rule"] for r in failed} == {"not_a_number"}
    assert {json.loads(r["value"]) for r in failed if r["page"] in (0, 4)} == {
        "op 'odd_numbers' gave nan in 'odd'",
        "op 'odd_numbers' gave nan in 'vector'",
    }
