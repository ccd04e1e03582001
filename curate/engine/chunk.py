"""Rows of a shard while ops look at them: bytes read and images decoded once, and the bytes that ops bring kept."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engine.rules import Bools, passes
from curate.image.files import Decoded, decode
from curate.ops.spec import Failed
from curate.pool.blob import BLOB, Absent, Blob, Stored
from curate.pool.columns import ColumnsFile, ColumnValues, MergedColumn
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.recipe.resolve import Resolved, read_columns
from curate.shards import ShardWriter

PIXELS = 64 << 20
"""Decoded pixels held at once; a batch is cut earlier when its images are large (values do not depend on it)."""

BATCH_BYTES = 128 << 20
"""Bytes of files that an op is given at once; a batch is cut earlier when its files are large."""

MAX_DETAIL = 500
"""Characters kept of what is said of an absent image."""


Digest = bytes


class ShardRows(Protocol):
    """The rows of a shard on their way: those still there, and the columns that earlier stages left."""

    rows: pa.Table
    alive: Bools
    columns: dict[str, ColumnValues]


class Chunk:
    """Consecutive rows of a shard while ops look at them: bytes are read and images decoded at most once."""

    def __init__(self, state: ShardRows, blobs: Blobs, start: int, stop: int) -> None:
        self._columns, self._blobs = state.columns, blobs
        self.alive = [n for n in range(start, stop) if state.alive[n]]
        self._rows = {start + i: row for i, row in enumerate(state.rows.slice(start, stop - start).to_pylist())}
        self._decoded: dict[int, Decoded] = {}
        self._pixels = 0
        self._values: dict[str, ColumnValues] = {}
        self._ahead: dict[str, tuple[pa.DataType, dict[int, Any]]] = {}

    def read(self, name: str, batch: Sequence[int]) -> list[Any]:
        """One argument of an op: what `name` is for these rows; a column of that name goes before the source's own."""
        if name == "image":
            return [self.decoded(n).image for n in batch]
        if name == "decoded":
            return [self.decoded(n) for n in batch]
        if name == "image_bytes":
            return [self._image_bytes(n) for n in batch]
        if name in self._values or name in self._columns:
            return self._of_column(name, batch)
        if name == "bytes":
            return [self.bytes(n) for n in batch]
        if name == "meta":
            return [json.loads(self._rows[n]["meta"] or "{}") for n in batch]
        return [self._rows[n][name] for n in batch]

    def _of_column(self, name: str, batch: Sequence[int]) -> list[Any]:
        kind, ahead = self._ahead.get(name, (pa.null(), {}))
        if all(n in ahead for n in batch):
            found = [ahead.pop(n) for n in batch]  # given once: an op may change what it is given
        else:
            kind, found = self._plain(name, batch)
        if kind == BLOB:
            return [self._blob(value) for value in found]
        if kind == pa.list_(BLOB):
            return [None if row is None else [self._blob(value) for value in row] for row in found]
        return found

    def _plain(self, name: str, batch: Sequence[int]) -> tuple[pa.DataType, list[Any]]:
        values = self._column(name).take(batch)
        return values.type, list(values.to_pylist())

    def _blob(self, value: dict[str, Any] | None) -> Blob | None:
        return None if value is None else Blob(**value, reader=self._blobs.read)

    def bytes(self, number: int) -> bytes:
        """The original file; of a text, the text."""
        row = self._rows[number]
        if row["tar"] is None:
            return str(row["text"]).encode()
        return self._blobs.read(row["tar"], row["offset"], row["nbytes"])

    def inputs(self, step: Resolved, batch: Sequence[int]) -> dict[int, Digest]:
        """A digest of the values, made by earlier steps, that an op reads of each of these rows; it reads them next."""
        names = sorted(name for name in read_columns(step.spec) if name in self._values or name in self._columns)
        found = {name: self._plain(name, batch) for name in names}
        rows = zip(*(values for _, values in found.values()), strict=True)
        digests = {n: _digest(row) for n, row in zip(batch, rows, strict=True)}
        self._ahead = {name: (kind, dict(zip(batch, values, strict=True))) for name, (kind, values) in found.items()}
        return digests

    def decoded(self, number: int) -> Decoded:
        """The decoded image, kept for the next op while the chunk's pixels fit."""
        if number in self._decoded:
            return self._decoded[number]
        found = decode(self._image_bytes(number))
        if self._pixels + found.width * found.height <= PIXELS:
            self._decoded[number] = found
            self._pixels += found.width * found.height
        return found

    def _image_bytes(self, number: int) -> Any:
        """The file of the row's image: what a step made of it, or what came; none where that step has none."""
        if "image" not in self._values and "image" not in self._columns:
            return self.bytes(number)
        (blob,) = self._of_column("image", [number])
        return blob.read() if blob is not None and blob.error is None else b""

    def uid(self, number: int) -> str:
        """The uid of a row."""
        return str(self._rows[number]["uid"])

    def batches(self, step: Resolved, missing: list[int]) -> Iterator[tuple[list[int], dict[int, Failed]]]:
        """Batches of rows for the op, and rows that fail before it because their image does not decode."""
        batch: list[int] = []
        failed: dict[int, Failed] = {}
        pixels = size = 0
        for number in missing:
            if "image" in step.spec.reads or "decoded" in step.spec.reads:
                found = self.decoded(number)
                if found.error is not None and "image" in step.spec.reads:
                    failed[number] = Failed(found.error, found.detail)
                    continue
                pixels += found.width * found.height
            if "bytes" in step.spec.reads and not (batch and self._is_same_file(batch[-1], number)):
                size += self._rows[number]["nbytes"] or 0
            batch.append(number)
            if len(batch) == step.spec.batch_size or pixels > PIXELS or size > BATCH_BYTES:
                yield batch, failed
                batch, failed, pixels, size = [], {}, 0, 0
        yield batch, failed

    def _is_same_file(self, one: int, other: int) -> bool:
        """Whether two rows are pages of one file: its bytes are held once."""
        first, second = ((row["tar"], row["offset"]) for row in (self._rows[one], self._rows[other]))
        return first[0] is not None and first == second

    def settle(self, step: Resolved, old: ColumnsFile | None, fresh: pa.Table | None) -> None:
        """Take a step's values for this chunk: later ops may read them; rows that fail or break a rule go.

        `old` is what was committed of it before, `fresh` what was computed for this chunk's other rows.
        """
        if not self.alive:
            return
        self._ahead = {}
        values = {own: _values(own, old, fresh) for own in (*step.columns, "error")}
        self._values |= {shown: values[own] for own, shown in step.columns.items()}
        if "image" in step.columns.values():
            self._decoded, self._pixels = {}, 0
        keep = np.array(pc.is_null(values["error"].take(self.alive)).to_pylist(), dtype=bool)
        uids = pa.chunked_array([pa.array([self._rows[n]["uid"] for n in self.alive], pa.string())])
        for condition in step.conditions:
            if not condition.is_global:
                keep &= passes(self._column(condition.column).take(self.alive), condition, uids)
        self.alive = [n for n, k in zip(self.alive, keep.tolist(), strict=True) if k]

    def _column(self, shown: str) -> ColumnValues:
        return self._values[shown] if shown in self._values else self._columns[shown]


_as_json = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def _digest(values: Sequence[Any]) -> Digest:
    return hashlib.blake2b(_as_json(values).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _values(own: str, old: ColumnsFile | None, fresh: pa.Table | None) -> ColumnValues:
    """A column of a step: from its file, from what was just computed, or from both."""
    if fresh is None:
        assert old is not None
        return old.column(own)
    return MergedColumn(old.column(own) if old is not None else None, fresh["row"].to_pylist(), fresh[own])


class Store:
    """The tar of the bytes that a step's op brings for a shard: begun with the first, committed before the columns."""

    def __init__(self, pool: Pool, step: Resolved, shard: int) -> None:
        self._columns = step.spec.stored
        paths = (pool.stored(step.key, shard, attempt) for attempt in itertools.count())
        # Never one that is there: rows of other columns, which took these over, may name what is in it.
        self._path = next(path for path in paths if not path.exists())
        self._name = self._path.relative_to(pool.folder).as_posix()
        self._stack = ExitStack()
        self._writer: ShardWriter | None = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def keep(self, chunk: Chunk, answers: Mapping[int, Failed | dict[str, Any]]) -> dict[int, Failed | dict[str, Any]]:
        """The answers, with the place of the bytes where the bytes were."""
        return {n: a if isinstance(a, Failed) else a | self._placed(chunk.uid(n), a) for n, a in answers.items()}

    def _placed(self, uid: str, answer: Mapping[str, Any]) -> dict[str, Any]:
        numbers = itertools.count()
        found: dict[str, Any] = {}
        for name in self._columns:
            value = answer[name]
            several = isinstance(value, Sequence)
            places = [self._place(f"{uid}-{next(numbers)}", v) for v in (value if several else [value])]
            found[name] = places if several else places[0]
        return found

    def _place(self, name: str, value: Stored | Absent | Blob | None) -> dict[str, Any] | None:
        if value is None:
            return None
        if isinstance(value, Blob):  # an earlier op's, passed on
            return {field.name: getattr(value, field.name) for field in BLOB}
        place: dict[str, Any] = dict.fromkeys(BLOB.names)
        if isinstance(value, Absent):
            return place | {"error": value.error, "detail": value.detail[:MAX_DETAIL]}
        if self._writer is None:
            self._writer = self._stack.enter_context(ShardWriter(self._path, indexed=False))
        (part,) = self._writer.add(name, {value.ext: value.data})
        digest = hashlib.sha256(value.data).hexdigest()
        size = {"width": value.width, "height": value.height}
        return (
            place
            | {"tar": self._name, "offset": part.offset, "nbytes": part.size, "ext": value.ext, "sha256": digest}
            | size
        )
