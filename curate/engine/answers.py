"""Turn an op's answers into columns: checked against its declaration, each failure a row's or a part's by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engine.state import OWN_COLUMNS, OWN_OF_PARTS
from curate.ops.spec import Columns, Failed, Spec
from curate.readers.tables import excerpt
from curate.recipe.steps import Resolved

REUSE_KEY = b"kin"
"""In the metadata of a step's columns: the op and its knobs (`Resolved.reuse_key`)."""

NOT_A_NUMBER = "not_a_number"
"""The error of a row, or a part, for which an op gave NaN or infinity where a number is wanted."""

Answer = Failed | dict[str, Any]
Item = TypeVar("Item")


class StepError(RuntimeError):
    """An op that returned what it did not promise; names the op and what was expected."""


def check_answers(spec: Spec, size: int, columns: Columns) -> list[Answer]:
    """The answer to each item of a batch. Raises StepError where the op returned other columns than it declares."""
    if set(columns) != set(spec.writes):
        raise StepError(f"op {spec.name!r} returned {sorted(columns)}, it declares {sorted(spec.writes)}")
    lists = {}
    for name, values in columns.items():
        lists[name] = values.to_pylist() if isinstance(values, (pa.Array, pa.ChunkedArray)) else list(values)
        if len(lists[name]) != size:
            raise StepError(f"op {spec.name!r}: {len(lists[name])} values in {name!r} for {size} rows")
    odd = {name: _not_numbers(kind, lists[name]) for name, kind in spec.writes.items()}
    answers: list[Answer] = []
    for place in range(size):
        row = {name: values[place] for name, values in lists.items()}
        failure = next((v for v in row.values() if isinstance(v, Failed)), None)
        none = next((name for name, rows in odd.items() if place in rows), None)
        if failure is None and none is not None:
            failure = Failed(NOT_A_NUMBER, f"op {spec.name!r} gave {odd[none][place]} in {none!r}")
        answers.append(failure or row)
    return answers


def _not_numbers(kind: pa.DataType, values: Sequence[Any]) -> Mapping[int, float]:
    """Of a column of numbers, or lists of them, the rows with NaN, or with what is too large for it."""
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    number = kind.value_type if is_list else kind
    if not pa.types.is_floating(number):
        return {}
    largest = float(np.finfo(number.to_pandas_dtype()).max)
    if is_list:
        found = ((row, _odd_one(value, largest)) for row, value in enumerate(values))
        return {row: one for row, one in found if one is not None}
    # As doubles: compared with a half, the largest of a wider type would itself be infinite.
    numbers = np.array([float(value) if isinstance(value, (float, np.floating)) else 0.0 for value in values])
    return {row: float(numbers[row]) for row in np.flatnonzero(~(np.abs(numbers) <= largest)).tolist()}


def _odd_one(value: Any, largest: float) -> float | None:
    """The first of a list of numbers that is none."""
    if value is None or isinstance(value, Failed):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and bool((abs(value.astype(float)) <= largest).all()):
        return None
    numbers = (float(v) for v in value if isinstance(v, (float, np.floating)))
    return next((number for number in numbers if not -largest <= number <= largest), None)


def without_numbers(columns: Mapping[str, pa.ChunkedArray]) -> list[Failed | None]:
    """The failure of each row of a group op's columns in which a number is none."""
    found: list[Failed | None] = [None] * len(next(iter(columns.values())))
    for name, column in columns.items():
        if pa.types.is_floating(column.type):
            for row in pc.indices_nonzero(pc.invert(pc.is_finite(column))).to_pylist():
                found[row] = Failed(NOT_A_NUMBER, f"{column[row].as_py()} in {name!r}")
    return found


def row_table(step: Resolved, rows: list[int], answers: Mapping[int, Answer], inputs: Mapping[int, bytes]) -> pa.Table:
    """The columns of these rows, as a step's file holds them."""
    columns = {"row": pa.array(rows, pa.int32()), **_columns(step.spec, [answers[n] for n in rows], OWN_COLUMNS)}
    if step.reuse_key is None:
        return pa.table(columns)
    columns["inputs"] = pa.array([inputs[n] for n in rows], pa.binary(16))
    return pa.table(columns).replace_schema_metadata({REUSE_KEY: step.reuse_key})


def part_table(
    step: Resolved,
    rows: list[int],
    answers: Mapping[int, Sequence[Answer | None]],
    inputs: Mapping[int, Sequence[bytes]],
) -> pa.Table:
    """The columns of rows on whose parts an op was run: lists with an entry a part, null of one it has not seen."""
    flat = [answer for row in rows for answer in answers[row]]
    columns = _columns(step.spec, flat, OWN_OF_PARTS)
    columns["inputs"] = pa.array([digest for row in rows for digest in inputs[row]], pa.binary(16))
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(answers[row]))
    lists = {name: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values) for name, values in columns.items()}
    nothing = pa.nulls(len(rows), pa.string())
    table = pa.table({"row": pa.array(rows, pa.int32()), **lists, **dict.fromkeys(OWN_COLUMNS, nothing)})
    return table.replace_schema_metadata({REUSE_KEY: str(step.reuse_key)})


def part_answers(step: Resolved, row: Mapping[str, Any]) -> list[tuple[bytes, Answer]]:
    """The inputs' digest and the answer of each part of a row of such a table."""
    found: list[tuple[bytes, Answer]] = []
    for place, digest in enumerate(row["inputs"]):
        error, detail = (row[name][place] for name in OWN_OF_PARTS)
        values = {name: row[name][place] for name in step.spec.writes}
        found.append((digest, values if error is None else Failed(error, detail)))
    return found


def empty_table(step: Resolved) -> pa.Table:
    """A step's columns of no row."""
    return row_table(step, [], {}, {}) if step.over is None else part_table(step, [], {}, {})


def _columns(spec: Spec, answers: list[Answer | None], own: Sequence[str]) -> dict[str, pa.Array]:
    """An op's columns with an entry an answer, and the two that say why it failed."""
    failed = [answer if isinstance(answer, Failed) else None for answer in answers]
    columns: dict[str, pa.Array] = {}
    for name, kind in spec.writes.items():
        values = [answer[name] if isinstance(answer, dict) else None for answer in answers]
        try:
            columns[name] = _array(values, kind)
        except UnicodeEncodeError:
            return _columns(spec, [_readable(name, kind, answer) for answer in answers], own)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as err:
            raise StepError(f"op {spec.name!r}: column {name!r} is declared {kind}: {err}") from None
    error, detail = own
    columns[error] = pa.array([f.error if f else None for f in failed], pa.string())
    details = [excerpt(f.detail) if f else None for f in failed]
    columns[detail] = pa.array(details, pa.string())
    return columns


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values as a column. Embeddings are put end to end: value by value they cost more than a small model does."""
    there = [v for v in values if v is not None]
    plain = pa.types.is_list(kind) and pa.types.is_floating(kind.value_type) and there
    if plain and all(isinstance(v, np.ndarray) and v.ndim == 1 and v.dtype == there[0].dtype for v in there):
        ends = np.cumsum([0, *(0 if v is None else len(v) for v in values)], dtype=np.int32)
        mask = pa.array([v is None for v in values]) if len(there) < len(values) else None
        return pa.ListArray.from_arrays(
            pa.array(ends), pa.array(np.concatenate(there)).cast(kind.value_type), type=kind, mask=mask
        )
    return pa.array(values, kind)


def _readable(name: str, kind: pa.DataType, answer: Answer | None) -> Answer | None:
    """The answer, or a failure where its value is no UTF-8: half a character that a page or a record spelt out."""
    if not isinstance(answer, dict):
        return answer
    try:
        pa.array([answer[name]], kind)
    except UnicodeEncodeError as err:
        return Failed("bad_encoding", f"column {name!r}: {err.reason}")
    return answer


def snake_case(name: str) -> str:
    """`UnicodeDecodeError` as an error's name: `unicode_decode_error`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
