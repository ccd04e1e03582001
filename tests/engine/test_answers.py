"""An op's answers as columns: the same however they were handed over."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.engine.answers import row_table
from curate.ops.spec import Columns, Failed, op
from curate.pool.columns import ColumnsWriter
from curate.recipe.steps import Resolved


@op(reads="text", writes={"vector": pa.list_(pa.float16())}, version=1)
def vectors(texts: list[str]) -> Columns:
    return {"vector": [np.zeros(3, np.float16) for _ in texts]}


STEP = Resolved("vectors", vectors, {}, {"vector": "vector"}, ())


def test_embeddings_are_the_same_column_as_arrays_and_as_lists_of_numbers() -> None:
    found = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float16)
    rows = list(range(6))
    lost = {2: Failed("odd", "no vector")}
    kept = [n for n in rows if n not in lost]
    arrays = {n: {"vector": v} for n, v in zip(kept, found, strict=True)} | lost
    lists = {n: {"vector": v.tolist()} for n, v in zip(kept, found, strict=True)} | lost
    wide = {n: {"vector": v.astype(np.float64)} for n, v in zip(kept, found, strict=True)} | lost
    table = row_table(STEP, rows, arrays, {})
    assert table.equals(row_table(STEP, rows, lists, {})) and table.equals(row_table(STEP, rows, wide, {}))
    assert table["vector"].null_count == 1


def test_embeddings_take_no_more_room_than_their_numbers(tmp_path: Path) -> None:
    """A dictionary of numbers none of which comes twice would hold each of them, and an index to it."""
    found = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float16)
    table = row_table(STEP, list(range(500)), {n: {"vector": v} for n, v in enumerate(found)}, {})
    path = tmp_path / "vectors.parquet"
    with ColumnsWriter(path, table.schema) as writer:
        writer.add(table)
    pq.write_table(table, plain := io.BytesIO(), compression="zstd")
    assert pq.read_table(path).equals(table) and path.stat().st_size < len(plain.getvalue())
    encodings = pq.ParquetFile(path).metadata.row_group(0).column(1).encodings
    assert "RLE_DICTIONARY" not in encodings and "PLAIN_DICTIONARY" not in encodings
