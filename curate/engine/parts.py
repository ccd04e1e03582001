"""The parts of documents: which images and paragraphs of each row are left, and columns as they then stand.

A document is kept as an op wrote it. Rules on parts only say which of its images and paragraphs are left; whoever reads
the document, its text, or a list with an entry a part is given what is left of it. So a changed rule on parts writes no
document and moves no column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.document.segments import text_of
from curate.ops.spec import PART_KINDS, PartKind
from curate.pool.columns import ColumnValues, Ints

BLOCK = 64
"""Documents that are held together."""

Mask = npt.NDArray[np.bool_]
Masks = Mapping[int, Mask]
"""By row, which parts are left; a row that is not there has all of them."""


@dataclass
class PartsLeft:
    """The images and paragraphs left of the documents of a shard, counted in the document as an op wrote it."""

    masks: dict[PartKind, dict[int, Mask]] = field(default_factory=lambda: {kind: {} for kind in PART_KINDS})

    def snapshot(self, kind: PartKind, rows: range) -> Masks:
        """The masks of these rows now."""
        return {row: mask for row, mask in self.masks[kind].items() if row in rows}

    def copy(self, rows: range) -> PartsLeft:
        """Copy the masks of these rows, for columns that stay as they stand."""
        return PartsLeft({kind: dict(self.snapshot(kind, rows)) for kind in PART_KINDS})

    def narrow(self, kind: PartKind, row: int, kept: Mask) -> None:
        """Drop, of the parts that are left, those whose entry in `kept` is false."""
        mask = self.masks[kind].get(row)
        if mask is None:
            self.masks[kind][row] = kept
        else:
            self.masks[kind][row] = mask.copy()
            self.masks[kind][row][mask] = kept

    def numbers(self, kind: PartKind, row: int, count: int) -> Ints:
        """The numbers, in the document as it was written, of the `count` parts that are left."""
        mask = self.masks[kind].get(row)
        return np.arange(count) if mask is None else np.flatnonzero(mask)

    def forget(self, rows: range) -> None:
        """Begin anew for rows whose document was written anew: all of its parts are left."""
        for kind in PART_KINDS:
            for row in self.snapshot(kind, rows):
                del self.masks[kind][row]


class PartColumn:
    """A column of lists, an entry a part: read as the parts stand, whatever stood when it was written."""

    def __init__(self, values: ColumnValues, kind: PartKind, written: Masks, left: PartsLeft) -> None:
        self.values, self.kind, self.written, self._left = values, kind, written, left

    def take(self, numbers: Sequence[int] | Ints) -> pa.ChunkedArray:
        """The lists of these rows, less the entries of parts that are gone."""
        found = self.values.take(numbers)
        now = self._left.masks[self.kind]
        if not any(int(row) in now for row in numbers):
            return found
        lists = found.combine_chunks()
        keep = []
        for row, length in zip(numbers, lengths_of(lists), strict=True):
            mask, then = now.get(int(row)), self.written.get(int(row))
            if mask is None or length == 0:
                keep.append(np.ones(length, dtype=bool))
            else:
                keep.append(mask if then is None else mask[then])
        return pa.chunked_array([filter_lists(lists, keep)])

    def frozen(self, rows: range) -> PartColumn:
        """The column as its parts stand, for documents that are about to be written anew."""
        then = PartColumn(self.values, self.kind, self.written, self._left.copy(rows))
        return PartColumn(then, self.kind, {}, self._left)


class DocumentColumn:
    """Documents as they stand: the segments of the parts that are left."""

    def __init__(self, values: ColumnValues, left: PartsLeft) -> None:
        self._values, self._left = values, left

    def of(self, left: PartsLeft) -> DocumentColumn:
        """The same documents, of whose parts others are left."""
        return DocumentColumn(self._values, left)

    def take(self, numbers: Sequence[int] | Ints) -> pa.ChunkedArray:
        """The documents of these rows."""
        found = self._values.take(numbers)
        images, paragraphs = (self._left.masks[kind] for kind in PART_KINDS)
        if not any(int(row) in masks for row in numbers for masks in (images, paragraphs)):
            return found
        lists = found.combine_chunks()
        is_image = np.array(pc.equal(lists.flatten().field("type"), "image").to_pylist(), dtype=bool)
        keep, start = [], 0
        for row, length in zip(numbers, lengths_of(lists), strict=True):
            mine = is_image[start : start + length]
            kept = np.ones(length, dtype=bool)
            for masks, places in ((images, mine), (paragraphs, ~mine)):
                if (mask := masks.get(int(row))) is not None:
                    kept[places] = mask
            keep.append(kept)
            start += length
        return pa.chunked_array([filter_lists(lists, keep)])


class TextColumn:
    """The texts of documents as they stand: of a row that has lost paragraphs since, the text of those left."""

    def __init__(self, values: ColumnValues, document: ColumnValues, written: Masks, left: PartsLeft) -> None:
        self._values, self._document, self._written, self._left = values, document, written, left

    def take(self, numbers: Sequence[int] | Ints) -> pa.ChunkedArray:
        """The texts of these rows."""
        found, now = self._values.take(numbers), self._left.masks["paragraphs"]
        changed = [at for at, row in enumerate(numbers) if now.get(int(row)) is not self._written.get(int(row))]
        if not changed:
            return found
        texts = found.to_pylist()
        documents = self._document.take([int(numbers[at]) for at in changed]).to_pylist()
        for at, document in zip(changed, documents, strict=True):
            texts[at] = text_of(document)
        return pa.chunked_array([pa.array(texts, pa.string())])

    def frozen(self, rows: range) -> TextColumn:
        """The column as the documents stand, before they are written anew."""
        left = self._left.copy(rows)
        assert isinstance(self._document, DocumentColumn)
        return TextColumn(self._values, self._document.of(left), self._written, left)


class CountColumn:
    """Counts of the parts left in each document: paragraphs, images that are there, or images that are absent."""

    def __init__(self, document: ColumnValues, images: ColumnValues | None, name: str) -> None:
        self._document, self._images, self._name = document, images, name

    def take(self, numbers: Sequence[int] | Ints) -> pa.ChunkedArray:
        """The counts of these rows."""
        blocks = [numbers[at : at + BLOCK] for at in range(0, len(numbers), BLOCK)]  # documents are large
        counts = [count for block in blocks for count in self._counts(block)]
        return pa.chunked_array([pa.array(counts, pa.int32())])

    def _counts(self, rows: Sequence[int] | Ints) -> list[int]:
        if self._name == "paragraphs" or self._images is None:
            lists = self._document.take(rows).combine_chunks()
            flags = pc.equal(lists.flatten().field("type"), "text" if self._name == "paragraphs" else "image")
            return counts_of(lists, flags) if self._name != "images_absent" else [0] * len(rows)
        lists = self._images.take(rows).combine_chunks()
        there = pc.is_null(lists.flatten().field("error"))
        return counts_of(lists, there if self._name == "images_kept" else pc.invert(there))


class ExtremeColumn:
    """The largest or the smallest number of each row's list, of all parts that its op looked at; null without any."""

    def __init__(self, lists: ColumnValues, kind: pa.DataType, largest: bool) -> None:
        self._lists, self._kind, self._pick = lists, kind, max if largest else min

    def take(self, numbers: Sequence[int] | Ints) -> pa.ChunkedArray:
        """The numbers of these rows."""
        rows = self._lists.take(numbers).to_pylist()
        values = [self._pick((v for v in row or () if v is not None), default=None) for row in rows]
        return pa.chunked_array([pa.array(values, self._kind)])


def lengths_of(lists: pa.ListArray) -> list[int]:
    """The length of each list; 0 of a null."""
    return list(pc.fill_null(pc.list_value_length(lists), 0).to_pylist())


def counts_of(lists: pa.ListArray, flags: pa.BooleanArray) -> list[int]:
    """The number of flagged entries of each list."""
    before = np.cumsum([0, *flags.to_numpy(zero_copy_only=False)])
    ends = np.cumsum([0, *lengths_of(lists)])
    return list((before[ends[1:]] - before[ends[:-1]]).tolist())


def filter_lists(lists: pa.ListArray, keep: Sequence[Mask]) -> pa.ListArray:
    """The lists with the entries whose place in `keep` is true; a null stays one."""
    flat = lists.flatten()
    kept = np.concatenate([*keep, np.zeros(0, dtype=bool)])
    assert len(kept) == len(flat), f"{len(flat)} entries, {len(kept)} parts: a column is out of step with its document"
    ends = np.cumsum([0, *(int(mask.sum()) for mask in keep)]).astype(np.int32)
    nulls = np.append(np.array(pc.is_null(lists).to_pylist(), dtype=bool), False)
    offsets = pa.array(ends, mask=nulls) if nulls.any() else pa.array(ends)
    return pa.ListArray.from_arrays(offsets, flat.filter(pa.array(kept)), type=lists.type)
