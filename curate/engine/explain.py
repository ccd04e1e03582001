"""Explain a sample: every column, the rule or error that ended it, and its origin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.commit import read_json
from curate.engine.remedies import remedy
from curate.pool.columns import ColumnsFile
from curate.pool.layout import Pool
from curate.pool.tables import read_table
from curate.settings import unknown_message

LONG = 16
"""Values of a list."""

LONG_TEXT = 500
"""Characters of a text."""


def explain(uid: str, out: Path) -> list[dict[str, Any]]:
    """All about the samples whose uid begins with `uid`, at most ten; of a part of a text, about the text.

    Raises ValueError when there are none.
    """
    summary = read_summary(out)
    pool = Pool(out, **summary["pool"])
    folder = out / "decisions" / summary["key"]
    steps = list(dict.fromkeys(key for key, _ in summary["columns"].values()))
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("[0-9]*.parquet")):
        decisions = read_table(path)
        shard = int(path.stem)
        for row in _rows_of(decisions, uid):
            told = _tell(pool, shard, row, decisions.slice(row, 1).to_pylist()[0], steps)
            found.append(told | _parts_gone(path.with_name(f"parts-{path.name}"), row))
            if len(found) == 10:
                return found
    if not found and (whole := _whole_of(folder, uid)) is not None:
        return explain(whole, out)
    if not found:
        raise ValueError(f"{uid}: no sample of {out} has a uid that begins so")
    return found


def _parts_gone(path: Path, row: int) -> dict[str, Any]:
    """The images and paragraphs that left a document, by which rule or error and with which value; in its order."""
    if not path.exists():
        return {}
    ended = [
        part for block in ColumnsFile(path).blocks() for part in block.filter(pc.equal(block["row"], row)).to_pylist()
    ]
    for part in ended:
        part["value"] = json.loads(part["value"])
        del part["row"]
    return {"parts_gone": sorted(ended, key=lambda part: (part["of"], part["part"]))}


def _whole_of(folder: Path, uid: str) -> str | None:
    """The uid of the text that a published part was cut from."""
    for path in sorted(folder.glob("kept-*.parquet")):
        parts = read_table(path, ["uid", "meta"])
        for row in _rows_of(parts, uid)[:1]:
            whole = json.loads(parts["meta"][row].as_py() or "{}").get("part_of")
            return whole if isinstance(whole, str) else None
    return None


def read_summary(out: Path) -> dict[str, Any]:
    """The funnel and keys of the last finished run in `out`. Raises ValueError when there is none that can be read."""
    path = out / "funnel.json"
    if not path.exists():
        raise ValueError(f"{out}: no finished run here; give the `out` folder of a recipe that was run")
    found = read_json(path)
    if not isinstance(found["pool"], dict):
        raise ValueError(f"{out}: its last run was made by an earlier version of curate; run the recipe again")
    return found


def column(out: Path, name: str) -> pa.Table:
    """One column of the last finished run: `uid`, `meta` and `name`, a row for each sample that the op saw."""
    summary = read_summary(out)
    if name not in summary["columns"]:
        raise ValueError(f"{out}: {unknown_message('column', name, summary['columns'])}")
    key, own = summary["columns"][name]
    pool = Pool(out, **summary["pool"])
    tables = []
    for shard in range(len(pool.shards)):
        values = read_table(pool.columns(key, shard), ["row", own])
        rows = read_table(pool.rows(shard), ["uid", "meta"]).take(values["row"])
        tables.append(rows.append_column(name, values[own]))
    return pa.concat_tables(tables)


def decisions(out: Path) -> pa.Table:
    """Every row's end in the last finished run: `uid`, `outcome`, `step`, `rule`, `value`, `meta`."""
    folder = out / "decisions" / read_summary(out)["key"]
    return pa.concat_tables(read_table(path) for path in sorted(folder.glob("[0-9]*.parquet")))


def _rows_of(decisions: pa.Table, uid: str) -> list[int]:
    hits = pc.starts_with(decisions["uid"], uid.lower())
    return [int(n) for n in pc.indices_nonzero(hits.combine_chunks()).to_pylist()]


def _tell(pool: Pool, shard: int, number: int, decision: dict[str, Any], steps: list[str]) -> dict[str, Any]:
    row = read_table(pool.rows(shard)).slice(number, 1).to_pylist()[0]
    told: dict[str, Any] = {name: decision[name] for name in ("uid", "outcome", "step", "rule")}
    told["value"] = json.loads(decision["value"] or "null")
    told["remedy"] = remedy(decision["rule"], row["status"]) if decision["outcome"] == "failed" else None
    told |= {"shard": shard, "row": number}
    told |= {name: _short(value) for name, value in row.items() if name not in told}
    told["meta"] = _short(json.loads(row["meta"] or "{}"))
    told["columns"] = _columns(pool, shard, number, steps)
    return told


def _columns(pool: Pool, shard: int, number: int, steps: list[str]) -> dict[str, dict[str, Any]]:
    """The columns of the run's steps for this row, by the step's folder."""
    found = {}
    for step in steps:
        path = pool.columns(step, shard)
        if not path.exists():
            continue
        hits = ColumnsFile(path).between(number, number + 1).to_pylist()
        if hits:
            found[step] = {k: _short(v) for k, v in hits[0].items() if k not in ("row", "inputs") and v is not None}
    return found


def _short(value: Any) -> Any:
    """A value as far as a reader wants to see it: the beginning of what is long, and how long it is."""
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, str):
        return value if len(value) <= LONG_TEXT else f"{value[:LONG_TEXT]}... {len(value)} characters"
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items() if one is not None}
    if isinstance(value, Sequence):
        some = value if len(value) <= LONG else value[:3]
        said = [round(one, 4) if isinstance(one, float) and some is not value else _short(one) for one in some]
        return said if some is value else [*said, f"... {len(value)} values"]
    return value
