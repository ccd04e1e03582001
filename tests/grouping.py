"""Run a group op on rows as the engine hands them over, cut into shards in one way or another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.ops.spec import spec_of

HALVES = pa.list_(pa.float16())


def uid(name: object) -> str:
    return hashlib.blake2b(str(name).encode(), digest_size=16).hexdigest()


def embeddings(table: npt.ArrayLike) -> pa.Array:
    """A column of embeddings in half precision."""
    return pa.array(list(np.asarray(table, np.float16)), HALVES)


def grouped(  # a cut: the rows of each shard, by their numbers
    op: Callable[..., None],
    columns: Mapping[str, Any],
    folder: Path,
    cut: Sequence[Sequence[int]] | None = None,
    **knobs: Any,
) -> dict[str, list[Any]]:
    """The op's columns, in the order of the rows as they were given; `columns` may bring its own `uid`."""
    names = pa.array([uid(n) for n in range(len(next(iter(columns.values()))))], pa.string())
    rows = pa.table({"uid": names} | dict(columns))
    cut = cut if cut is not None else [range(len(rows))]
    folder.mkdir(parents=True, exist_ok=True)
    inputs = [folder / f"in-{n}.parquet" for n in range(len(cut))]
    outputs = [folder / f"out-{n}.parquet" for n in range(len(cut))]
    for path, numbers in zip(inputs, cut, strict=True):
        pq.write_table(rows.take(pa.array(list(numbers), pa.int64())), path)
    op(inputs, outputs, folder / "scratch", **knobs)
    wanted = pa.schema([("uid", pa.string()), *spec_of(op).writes.items()])
    found: dict[str, dict[str, Any]] = {}
    for given, path in zip(inputs, outputs, strict=True):
        table = pq.read_table(path)
        assert table.schema.equals(wanted), table.schema
        assert table["uid"].equals(pq.read_table(given)["uid"]), "the same rows in the same order"
        found |= {row["uid"]: row for row in table.to_pylist()}
    ordered = [found[one] for one in rows["uid"].to_pylist()]
    return {name: [row[name] for row in ordered] for name in spec_of(op).writes}


def cuts(rows: int, seed: int = 0) -> list[list[list[int]]]:
    """Three ways to cut rows into shards: one; five, one of them empty; and eight of another order."""
    order = np.random.default_rng(seed).permutation(rows).tolist()
    five = [part.tolist() for part in np.array_split(np.arange(rows), 4)]
    return [[list(range(rows))], [*five, []], [part.tolist() for part in np.array_split(np.array(order), 8)]]
