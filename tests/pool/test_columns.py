"""Columns of a shard are written and read a block at a time: the same values, and no shard held whole."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import Workplace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.pool import columns
from curate.pool.columns import ColumnsFile, IncrementalColumnsWriter, MergedColumn, write_columns

SCHEMA = pa.schema([("row", pa.int32()), ("said", pa.list_(pa.string()))])
ROWS = st.lists(st.integers(0, 300), unique=True, max_size=80).map(sorted)


def table(rows: list[int]) -> pa.Table:
    return pa.table({"row": rows, "said": [[f"{row}"] * (row % 3) if row % 5 else None for row in rows]}, SCHEMA)


def parts_of(whole: pa.Table, cuts: list[int]) -> list[pa.Table]:
    bounds = [0, *sorted(min(c, whole.num_rows) for c in cuts), whole.num_rows]
    return [whole.slice(a, b - a) for a, b in itertools.pairwise(bounds)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BLOCK_ROWS", 7)


fast = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fast
@given(rows=ROWS, cuts=st.lists(st.integers(0, 80), max_size=6), start=st.integers(0, 300), length=st.integers(0, 90))
def test_stretch_of_rows_is_read_as_written_whatever_its_parts(
    tmp_path: Path, rows: list[int], cuts: list[int], start: int, length: int
) -> None:
    """Whatever parts they came in, any stretch of rows is read as it was written."""
    write_columns(parts_of(table(rows), cuts), SCHEMA, path := tmp_path / "c.parquet")
    file = ColumnsFile(path)
    assert pa.concat_tables([SCHEMA.empty_table(), *file.blocks()]).equals(table(rows))
    wanted = [row for row in rows if start <= row < start + length]
    assert file.between(start, start + length).to_pylist() == table(wanted).to_pylist()


@fast
@given(rows=ROWS, wanted=st.lists(st.integers(0, 300), max_size=40))
def test_values_are_taken_in_any_order_and_are_null_where_no_row_is(
    tmp_path: Path, rows: list[int], wanted: list[int]
) -> None:
    write_columns([table(rows)], SCHEMA, path := tmp_path / "c.parquet")
    values = dict(zip(rows, table(rows)["said"].to_pylist(), strict=True))
    column = ColumnsFile(path).column("said")
    for numbers in (wanted, sorted(wanted), wanted[:1]):
        assert column.take(numbers).to_pylist() == [values.get(n) for n in numbers]


@fast
@given(old=ROWS, admitted=ROWS, step=st.integers(1, 64))
def test_rows_let_in_later_join_as_if_computed_at_once(
    tmp_path: Path, old: list[int], admitted: list[int], step: int
) -> None:
    """Rows let in later join those that were there as if all had been computed at once."""
    write_columns([table(old)], SCHEMA, path := tmp_path / "c.parquet")
    before = path.stat().st_ino, path.stat().st_mtime_ns
    with IncrementalColumnsWriter(path, SCHEMA, ColumnsFile(path)) as grown:
        for start in range(0, 301, step):
            rows = [row for row in admitted if start <= row < start + step]
            missing = grown.missing(rows)
            fresh = table(missing) if missing else None
            if missing:
                joined = MergedColumn(ColumnsFile(path).column("said"), missing, table(missing)["said"])
                assert joined.take(rows).to_pylist() == table(rows)["said"].to_pylist()
            grown.add(start, start + step, fresh)
    both = sorted({*old, *admitted})
    assert pa.concat_tables([SCHEMA.empty_table(), *ColumnsFile(path).blocks()]).equals(table(both))
    if both == old:
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == before


def test_computed_values_are_null_where_no_row_is() -> None:
    """What has just been computed is null where no row is."""
    assert MergedColumn(None, [5, 9], table([5, 9])["said"]).take([9, 7, 5]).to_pylist() == [["9"] * 0, None, None]
    assert MergedColumn(None, [7, 8], table([7, 8])["said"]).take([8, 6, 7]).to_pylist() == [["8"] * 2, None, ["7"]]


def test_columns_that_are_written_anew_are_read_to_the_end_as_they_were(tmp_path: Path) -> None:
    write_columns([table([*range(40)])], SCHEMA, path := tmp_path / "c.parquet")
    file = ColumnsFile(path)
    write_columns([table([1])], SCHEMA, path)
    assert pa.concat_tables(file.blocks()).equals(table([*range(40)]))


def test_columns_that_were_not_finished_are_not_there(tmp_path: Path) -> None:
    stopped = pytest.raises(ZeroDivisionError)
    with stopped, IncrementalColumnsWriter(tmp_path / "c.parquet", SCHEMA, None) as grown:
        grown.add(0, 64 // len(list(tmp_path.glob("*.parquet"))), table([1, 2, 3]))
    assert not list(tmp_path.iterdir())


LARGE = '''
from random import Random

import pyarrow as pa
from curate.ops import op

@op(reads="text", writes={"text": pa.string()}, version=1)
def large(texts):
    """A quarter of a million characters of each, hardly to be compressed."""
    return {"text": [Random(t).randbytes(125_000).hex() for t in texts]}

@op(reads="text", writes={"text": pa.string()}, version=1)
def turned(texts):
    """The same, turned."""
    return {"text": [t[::-1] for t in texts]}

@op(reads="text", writes={"sevens": pa.int64()}, version=1)
def sevens(texts):
    """How many sevens."""
    return {"sevens": [t.count("7") for t in texts]}
'''


@pytest.mark.slow
def test_shard_of_many_texts_takes_no_more_memory_than_one_of_few(place: Workplace) -> None:
    place.write_module("large_ops", LARGE)
    steps = [
        {"op": "large_ops:large"},
        {"op": "large_ops:sevens", "keep": {"sevens": {"top": 1.0}}},  # a stage ends here
        {"op": "large_ops:turned"},
    ]
    peaks = {}
    for count in (80, 600):
        source = place.root / f"{count}.jsonl"
        source.write_text("".join(json.dumps({"text": f"{n} " + "x" * n}) + "\n" for n in range(count)))
        out = place.root / f"out-{count}"
        changes = {"kind": "text", "source": {"type": "text", "path": str(source)}, "shard_samples": 1000}
        with place.start("run", place.recipe(steps=steps, out=str(out), **changes), "--inline") as process:
            _, status, used = os.wait4(process.pid, 0)
            assert status == 0, process.stderr and process.stderr.read()
        assert json.loads((out / "dataset" / "dataset.json").read_text())["samples"] == count
        peaks[count] = used.ru_maxrss >> 10
    assert peaks[600] - peaks[80] < 90, peaks  # the texts of the larger shard, held once, are 145 MiB
