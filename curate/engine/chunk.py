"""Rows of a shard while ops look at them: bytes read and images decoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from curate.engine.apply_rules import apply_rules
from curate.engine.state import ShardState, value_names
from curate.image.files import Decoded
from curate.ops.spec import Failed, Spec
from curate.pool.blob import BLOB, Blob
from curate.pool.columns import ColumnsFile, ColumnValues, MergedColumn
from curate.pool.funnel import StepCount
from curate.pool.payloads import Blobs
from curate.recipe.steps import Resolved, read_columns

PIXELS = 64 << 20
"""Decoded pixels held at once; a batch is cut earlier when its images are large (values do not depend on it)."""

BATCH_BYTES = 128 << 20
"""Bytes of files that an op is given at once; a batch is cut earlier when its files are large."""


Digest = bytes

PlaceOfImage = tuple[str, int, int, str | None]
"""Where the bytes of an image lie, as `Blobs.read` takes it."""

Item = TypeVar("Item")
Seen = TypeVar("Seen", contravariant=True)


class Items(Protocol[Seen]):
    """The things that an op is called on: rows, or parts of the documents of rows."""

    def read(self, name: str, batch: Sequence[Seen]) -> list[Any]:
        """One argument of an op: what `name` is for each of these."""

    def decoded(self, item: Seen) -> Decoded:
        """Its image, decoded."""

    def nbytes(self, item: Seen, before: Seen | None) -> int:
        """The bytes of its file; 0 where they are held for the item `before` it already."""


class Chunk:
    """Consecutive rows of a shard while ops look at them: bytes are read and images decoded at most once."""

    def __init__(self, state: ShardState, blobs: Blobs, rows: range, decode: Callable[[bytes], Decoded]) -> None:
        self.state, self.rows, self._blobs, self._decode = state.fork(), rows, blobs, decode
        slice_ = state.rows.slice(rows.start, len(rows)).to_pylist()
        self._rows = dict(zip(rows, slice_, strict=True))
        self._decoded: dict[tuple[str | None, int | None], Decoded] = {}
        self._pixels = self._refused_pixels = 0
        self._refused: set[tuple[str | None, int | None]] = set()
        self._ahead: dict[str, tuple[pa.DataType, dict[int, Any]]] = {}

    @property
    def alive(self) -> list[int]:
        """The rows that are left."""
        return list(self.state.live(self.rows).tolist())

    def read(self, name: str, batch: Sequence[int]) -> list[Any]:
        """One argument of an op: what `name` is for these rows; a column of that name goes before the source's own."""
        if name == "image":
            return [self.decoded(n).image for n in batch]
        if name == "decoded":
            return [self.decoded(n) for n in batch]
        if name == "image_bytes":
            return [self._image_bytes(n) for n in batch]
        if name == "blob":
            return [self._image_blob(n) for n in batch]
        if name in self.state.columns:
            return self._of_column(name, batch)
        if name == "bytes":
            return [self.original(n) for n in batch]
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
        values = self.state.columns[name].take(batch)
        if pa.types.is_list(values.type) and pa.types.is_floating(values.type.value_type):
            return values.type, _vectors(values)
        return values.type, list(values.to_pylist())

    def _blob(self, value: dict[str, Any] | None) -> Blob | None:
        return None if value is None else Blob(**value, reader=self._blobs.read)

    def original(self, number: int) -> bytes:
        """The original file; of a text, the text."""
        row = self._rows[number]
        if row["tar"] is None:
            return str(row["text"]).encode()
        return self._blobs.read(row["tar"], row["offset"], row["nbytes"], row["sha256"])

    def digest_inputs(self, step: Resolved, batch: Sequence[int]) -> dict[int, Digest]:
        """A digest of the values, made by earlier steps, that an op reads of each of these rows; it reads them next."""
        names = sorted(name for name in read_columns(step.reads) if name in self.state.columns)
        found = {name: self._plain(name, batch) for name in names}
        rows = zip(*(values for _, values in found.values()), strict=True)
        digests = {n: digest_of(row) for n, row in zip(batch, rows, strict=True)}
        self._ahead = {name: (kind, dict(zip(batch, values, strict=True))) for name, (kind, values) in found.items()}
        return digests

    def decoded(self, number: int) -> Decoded:
        """The decoded image of a row."""
        return self.decode_once((None, number), lambda: self._image_bytes(number))

    def decode_once(self, place: tuple[str | None, int | None], read: Callable[[], bytes]) -> Decoded:
        """The decoded image that lies at a place, kept for the next op while the chunk's pixels fit."""
        if place in self._decoded:
            return self._decoded[place]
        found = self._decode(read())
        pixels = found.width * found.height
        if self._pixels + pixels <= PIXELS:
            self._decoded[place] = found
            self._pixels += pixels
        elif place not in self._refused:
            self._refused.add(place)
            self._refused_pixels += pixels
        return found

    def rows_that_fit(self) -> int:
        """The number of rows like these whose images are all held, at least one."""
        pixels = self._pixels + self._refused_pixels
        return max(1, PIXELS * len(self.rows) // max(1, pixels))

    def _image_bytes(self, number: int) -> Any:
        """The file of the row's image: what a step made of it, or what came; none where that step has none."""
        if "image" not in self.state.columns:
            return self.original(number)
        (blob,) = self._of_column("image", [number])
        return blob.read() if blob is not None and blob.error is None else b""

    def places_of_images(self, numbers: Sequence[int]) -> dict[int, PlaceOfImage | None]:
        """Locate the image of each of these rows: what a step made, or what came; None where there is none."""
        if "image" in self.state.columns:
            _, found = self._plain("image", numbers)
            said = [None if blob is None or blob["error"] is not None else blob for blob in found]
        else:
            said = [self._rows[n] for n in numbers]
        return {n: _place(at) for n, at in zip(numbers, said, strict=True)}

    def _image_blob(self, number: int) -> Blob:
        """The place of the row's image; absent where the step that makes it has none."""
        if "image" in self.state.columns:
            (blob,) = self._of_column("image", [number])
            return blob or Blob(**dict.fromkeys(BLOB.names) | {"error": "no_image"})
        row = self._rows[number]
        place = {name: row[name] for name in ("tar", "offset", "nbytes", "ext", "sha256")}
        return Blob(**dict.fromkeys(BLOB.names) | place, reader=self._blobs.read)

    def uid(self, number: int) -> str:
        """The uid of a row."""
        return str(self._rows[number]["uid"])

    def nbytes(self, item: int, before: int | None) -> int:
        """The bytes of a row's file; pages of one file hold them once."""
        row = self._rows[item]
        if before is not None and row["tar"] is not None:
            other = self._rows[before]
            if (other["tar"], other["offset"]) == (row["tar"], row["offset"]):
                return 0
        return row["nbytes"] or 0

    def apply_rules(self, step: Resolved, old: ColumnsFile | None, fresh: pa.Table | None) -> StepCount:
        """Take a step's values for this chunk: later ops may read them; what fails or breaks a rule goes.

        `old` is what was committed of it before, `fresh` what was computed for this chunk's other rows.
        """
        self._ahead = {}
        if old is None and fresh is None:
            return StepCount(step.label)  # no row is left here
        values = {own: _values(own, old, fresh) for own in value_names(step)}
        if "image" in step.columns.values():
            self._decoded, self._pixels = {}, 0
            self._refused, self._refused_pixels = set(), 0
        return apply_rules(self.state, step, values, self.rows, {})


def _place(said: Mapping[str, Any] | None) -> PlaceOfImage | None:
    if said is None or said["tar"] is None:
        return None
    return said["tar"], said["offset"], said["nbytes"], said["sha256"]


def cut_batches(
    spec: Spec, items: Items[Item], missing: Sequence[Item], rows: int
) -> Iterator[tuple[list[Item], dict[Item, Failed]]]:
    """Batches for an op, of `rows` at most, and what fails before it because its image does not decode.

    A batch is cut early when its images or files are large; values do not depend on it.
    """
    batch: list[Item] = []
    failed: dict[Item, Failed] = {}
    pixels = size = 0
    for item in missing:
        if "image" in spec.reads or "decoded" in spec.reads:
            found = items.decoded(item)
            if found.error is not None and "image" in spec.reads:
                failed[item] = Failed(found.error, found.detail)
                continue
            pixels += found.width * found.height
        if "bytes" in spec.reads:
            size += items.nbytes(item, batch[-1] if batch else None)
        batch.append(item)
        if len(batch) == rows or pixels > PIXELS or size > BATCH_BYTES:
            yield batch, failed
            batch, failed, pixels, size = [], {}, 0, 0
    yield batch, failed


_as_json = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def _vectors(values: pa.ChunkedArray) -> list[np.ndarray[Any, Any] | None]:
    """Lists of floats as arrays, one a row; null where there is none. A list with a null in it is none of numbers."""
    lists = values.combine_chunks()
    numbers, ends = lists.values.to_numpy(zero_copy_only=False), lists.offsets.to_numpy()
    there = lists.is_valid().to_numpy(zero_copy_only=False)
    spans = zip(there.tolist(), ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    return [numbers[start:stop] if here else None for here, start, stop in spans]


def digest_of(values: Sequence[Any]) -> Digest:
    """16 bytes that name plain values."""
    values = [hashlib.blake2b(v.tobytes()).hexdigest() if isinstance(v, np.ndarray) else v for v in values]
    return hashlib.blake2b(_as_json(values).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _values(own: str, old: ColumnsFile | None, fresh: pa.Table | None) -> ColumnValues:
    """A column of a step: from its file, from what was just computed, or from both."""
    if fresh is None:
        assert old is not None
        return old.column(own)
    return MergedColumn(old.column(own) if old is not None else None, fresh["row"].to_pylist(), fresh[own])
