"""Read tables that hold their images: Parquet files, or what `datasets` opens, a block of rows at a time.

An image is bytes, or bytes with the path that they came from (how Hugging Face's `Image` is stored), or a list of
these. Its bytes are given as they are; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from curate import lfs
from curate.extras import require
from curate.readers.rows import TableError, require_columns

BLOCK_ROWS = 32
"""Rows held at once: images are large."""


class ImageField(NamedTuple):
    """An image as a table has it: its bytes, and the path that is said of it."""

    data: bytes | None
    path: str | None = None


class ImageTable:
    """A table whose rows are read by their numbers, from 0. Raises TableError where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                if lfs.is_lfs_pointer(file.read(1024)):
                    raise TableError(f"{path}: {lfs.REMEDY}")
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as err:
            raise TableError(f"{path}: not a readable Parquet file: {err}") from None

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def check(self, columns: Sequence[str]) -> None:
        """Raise TableError where it lacks one of these columns."""
        require_columns(columns, self._file.schema_arrow.names, self._path)

    def read(self, columns: Sequence[str], start: int, stop: int) -> Iterator[Mapping[str, Any]]:
        """Read the rows from `start` to before `stop`; row groups that hold none of them are left alone."""
        begin = 0
        for group in range(self._file.num_row_groups):
            end = begin + self._file.metadata.row_group(group).num_rows
            if start < end and begin < stop:
                yield from self._read_group(group, columns, max(start, begin) - begin, min(stop, end) - begin)
            begin = end

    def _read_group(self, group: int, columns: Sequence[str], start: int, stop: int) -> Iterator[Mapping[str, Any]]:
        at = 0
        try:
            for batch in self._file.iter_batches(BLOCK_ROWS, row_groups=[group], columns=list(columns)):
                wanted = range(max(start, at) - at, min(stop, at + batch.num_rows) - at)
                at += batch.num_rows
                for number in wanted:
                    yield {name: batch.column(name)[number].as_py() for name in batch.schema.names}
                if at >= stop:
                    return
        except (OSError, pa.ArrowException) as err:
            raise TableError(f"{self._path}: damaged or cut short: {err}; write the file again") from None


class ImageDataset:
    """The same of a split of a Hugging Face dataset: a name, or a folder."""

    def __init__(self, name: str, split: str) -> None:
        require("source.huggingface", "datasets")
        import datasets

        self._name = name
        # As it is stored: an image is its bytes and its path, not decoded.
        self._rows = datasets.load_dataset(name, split=split).with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def check(self, columns: Sequence[str]) -> None:
        """Raise TableError where it lacks one of these columns."""
        require_columns(columns, self._rows.column_names, Path(self._name))

    def read(self, columns: Sequence[str], start: int, stop: int) -> Iterator[Mapping[str, Any]]:
        """Read the rows from `start` to before `stop`."""
        chosen = self._rows.select_columns(list(columns))
        for at in range(start, stop, BLOCK_ROWS):
            yield from chosen[at : min(at + BLOCK_ROWS, stop)].to_pylist()


def images_of(value: Any) -> list[ImageField | None]:
    """The images of a field, None where a list has none. Raises ValueError for what is no image and no list of them."""
    if isinstance(value, list):
        return [None if entry is None else _image(entry) for entry in value]
    return [] if value is None else [_image(value)]


def _image(value: Any) -> ImageField:
    if isinstance(value, (bytes, bytearray)):
        return ImageField(bytes(value))
    if isinstance(value, dict) and "bytes" in value:
        data, path = value["bytes"], value.get("path")
        if data is None or isinstance(data, (bytes, bytearray)):
            return ImageField(None if data is None else bytes(data), path if isinstance(path, str) else None)
    if isinstance(value, str):
        raise ValueError("a text, no bytes: of URLs make a source of type `urls`, of paths one of type `folder`")
    raise ValueError(f"a {type(value).__name__}, expected bytes, or an object with `bytes` and `path`")
