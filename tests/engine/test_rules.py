"""What rules promise: exactly what a reader expects of each condition, exact shares, and counts that add up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curate.engine.rules import has_value, passes
from curate.engine.shares import EVERYTHING, Cut, Ranked, Words, rank_words, share_cuts
from curate.pool.funnel import ConservationError, StepCount, check_funnel, merge_counts
from curate.recipe.steps import Condition
from curate.sample import uid_of

FLOATS = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e-320, 2.0**53])
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1])
TEXTS = st.text(max_size=3)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "float64": (pa.float64(), FLOATS),
    "float32": (pa.float32(), st.floats(width=32)),
    "int64": (pa.int64(), INTEGERS),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "string": (pa.string(), TEXTS),
    "bool": (pa.bool_(), st.booleans()),
}


def uids(count: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([uid_of("caption", str(n)) for n in range(count)], pa.string())])


def chunked(values: Sequence[Any], kind: pa.DataType, cut: int) -> pa.ChunkedArray:
    cut = min(cut, len(values))
    return pa.chunked_array([pa.array(values[:cut], kind), pa.array(values[cut:], kind)], kind)


def oracle(value: Any, kind: str, wanted: Any) -> bool:
    """What a reader of the recipe expects of one value."""
    if value is None:
        return (kind == "is" and wanted is None) or (kind == "in" and None in wanted)
    if kind == "min":
        return bool(value >= wanted)
    if kind == "max":
        return bool(value <= wanted)
    if kind == "is":
        return wanted is not None and bool(value == wanted)
    found = any(w is not None and value == w for w in wanted)
    if isinstance(value, float) and math.isnan(value):
        return False
    return found if kind == "in" else not found


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_condition_keeps_exactly_what_a_reader_expects(data: st.DataObject) -> None:
    kind, element = COLUMNS[data.draw(st.sampled_from(sorted(COLUMNS)))]
    values = data.draw(st.lists(st.none() | element, max_size=12))
    ordered = kind not in (pa.string(), pa.bool_())
    rule = data.draw(st.sampled_from(["min", "max", "in", "not_in", "is"] if ordered else ["in", "not_in", "is"]))
    near = st.sampled_from([v for v in values if v is not None] or [0])
    one = near if data.draw(st.booleans()) and any(v is not None for v in values) else element
    if pa.types.is_integer(kind):
        one = one | INTEGERS | FLOATS
    one = one.filter(lambda v: not isinstance(v, float) or math.isfinite(v))
    wanted: Any = data.draw(one) if rule in ("min", "max") else data.draw(st.none() | one)
    if rule in ("in", "not_in"):
        wanted = tuple(data.draw(st.lists(st.none() | one, max_size=3)))
    column = chunked(values, kind, data.draw(st.integers(0, 12)))
    found = passes({"c": column}, Condition("c", rule, wanted))
    assert found.tolist() == [oracle(v, rule, wanted) for v in column.to_pylist()], (kind, values, rule, wanted)


def whole(words: Words) -> Ranked:
    """Rows that are all of one group."""
    return Ranked(words, np.zeros(words.shape[1], np.int64))


def cut_of(share: Condition, pieces: Sequence[Words]) -> Cut:
    """The cut of a share that is taken of all rows."""
    return share_cuts(share, [EVERYTHING], lambda: map(whole, pieces))[EVERYTHING]


def ranked(values: Sequence[Any], names: Sequence[str], kind: str) -> list[int]:
    """Rows with a number, best first; ties go to the smaller uid."""
    rows = [n for n, v in enumerate(values) if v is not None and not (isinstance(v, float) and math.isnan(v))]
    sign = -1 if kind == "top" else 1
    return sorted(rows, key=lambda n: (sign * values[n], names[n]))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["float64", "float32", "int64", "int8", "uint64"]),
    st.sampled_from(["top", "bottom"]),
    st.sampled_from([0.001, 0.1, 0.25, 0.3, 1 / 3, 0.5, 0.9, 0.999, 1.0]),
    st.data(),
)
def test_a_share_keeps_exactly_its_ceiling_with_ties_by_uid(column: str, kind: str, share: float, data: Any) -> None:
    arrow, element = COLUMNS[column]
    few = data.draw(st.lists(element, min_size=1, max_size=3))
    values = data.draw(st.lists(st.none() | element | st.sampled_from(few), max_size=40))
    array = chunked(values, arrow, 7)
    values, names = array.to_pylist(), uids(len(values)).to_pylist()
    with_value = has_value(array)
    words = rank_words(array.filter(with_value), uids(len(values)).filter(with_value), kind)
    pieces = [words[:, n : n + 5] for n in range(0, words.shape[1], 5)]
    condition = Condition("c", kind, share, type=arrow)
    cut = cut_of(condition, pieces)
    best = ranked(values, names, kind)
    wanted = math.ceil(round(share * 10**6) * len(best) / 10**6) if share != 1 / 3 else math.ceil(len(best) / 3)
    kept = passes({"c": array}, condition, uids(len(values)), {EVERYTHING: cut})
    assert np.flatnonzero(kept).tolist() == sorted(best[:wanted])
    if best and column not in ("int64", "uint64"):
        assert cut.value == values[best[wanted - 1]]


@pytest.mark.parametrize("kind", ["top", "bottom"])
def test_a_share_of_many_rows_with_few_values_is_exact(kind: str) -> None:
    rng = np.random.default_rng(5)
    values = rng.integers(0, 4, 300_000).astype(np.float64) / 4
    halves = rng.integers(0, 2**64, (2, 300_000), dtype=np.uint64)
    names = pa.chunked_array([pa.array([f"{a:016x}{b:016x}" for a, b in halves.T.tolist()])])
    words = rank_words(pa.chunked_array([values]), names, kind)
    pieces = np.array_split(words, 13, axis=1)
    cut = cut_of(Condition("c", kind, 0.3, type=pa.float64()), pieces)
    kept = np.concatenate([cut.keeps(p) for p in pieces])
    order = np.lexsort((halves[1], halves[0], -values if kind == "top" else values))
    assert kept.sum() == 90_000 and set(np.flatnonzero(kept)) == set(order[:90_000].tolist())


def test_a_share_reads_its_input_in_pieces_and_a_few_times() -> None:
    words = rank_words(pa.chunked_array([np.arange(200_000) / 7]), uids(200_000), "top")
    reads = 0

    def chunks() -> Iterable[Ranked]:
        nonlocal reads
        reads += 1
        yield from (whole(piece) for piece in np.array_split(words, 50, axis=1))

    share_cuts(Condition("c", "top", 0.5, type=pa.float64()), [EVERYTHING], chunks)
    assert reads <= 14


def test_a_share_of_no_rows_keeps_none() -> None:
    assert cut_of(Condition("c", "top", 0.5, type=pa.float64()), []).words is None


COUNTS = st.builds(
    lambda kept, dropped, failed: StepCount("s", kept + sum(dropped.values()) + sum(failed.values()), kept,
                                            Counter(dropped), Counter(failed)),
    st.integers(0, 9),
    st.dictionaries(st.sampled_from(["a.min", "b.top"]), st.integers(1, 9)),
    st.dictionaries(st.sampled_from(["timeout", "empty_file"]), st.integers(1, 9)),
)  # fmt: skip


@given(st.lists(COUNTS, min_size=1, max_size=5))
def test_counts_of_shards_add_up_and_survive_json(counts: list[StepCount]) -> None:
    assume(all(c.rows_in >= 0 for c in counts))
    (total,) = merge_counts([[c] for c in counts])
    total.check()
    assert total.rows_in == sum(c.rows_in for c in counts)
    assert StepCount.from_json(total.to_json()) == total


@given(COUNTS, st.integers(1, 5))
def test_a_step_that_loses_or_invents_a_row_is_refused(count: StepCount, lost: int) -> None:
    for wrong in (lost, -lost):
        broken = StepCount("s", count.rows_in + wrong, count.kept, count.dropped, count.failed)
        with pytest.raises(ConservationError):
            broken.check()


def test_a_step_that_takes_in_other_rows_than_the_last_one_kept_is_refused() -> None:
    with pytest.raises(ConservationError, match="'a' kept 3 rows, 'b' took 2"):
        check_funnel([StepCount("a", 3, 3), StepCount("b", 2, 2)])
