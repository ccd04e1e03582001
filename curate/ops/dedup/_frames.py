"""Frames of pictures: each picture whole, and what lies inside its borders, as memory-mapped arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.ops import _groups
from curate.ops.dedup import _detail
from curate.ops.dedup import _lookalike as look

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Frames:
    """The distinct pictures in the kept order, then what lies inside the borders of those that have any.

    Memory-mapped, so that only the pages in use are held.
    """

    pictures: int
    """How many are whole pictures."""
    heads: npt.NDArray[np.int64]
    """(n,) which picture each is of."""
    thumbnails: npt.NDArray[np.uint8]
    """(n, THUMBNAIL_BYTES)"""
    details: npt.NDArray[np.uint8]
    """(n, DETAIL_BYTES)"""
    sides: npt.NDArray[np.int32]
    """(n, 2) width and height"""
    descriptors: npt.NDArray[np.float32]
    """(n, VIEWS, DIMENSIONS)"""

    def __len__(self) -> int:
        return len(self.heads)


def spool_frames(db: DuckDBPyConnection, inputs: Sequence[Path], sizes: Sequence[int], scratch: Path) -> Frames:
    """Lay the signatures of the pictures of the table `ranked` into frames."""
    pictures = _groups.query_one(db, "SELECT count(*) FROM pictures")
    count = pictures + _groups.query_one(db, "SELECT count(*) FROM pictures WHERE bordered")
    frames = Frames(
        pictures,
        _groups.map_zeros(scratch / "heads", np.int64, (count,)),
        _groups.map_zeros(scratch / "thumbnails", np.uint8, (count, look.THUMBNAIL_BYTES)),
        _groups.map_zeros(scratch / "details", np.uint8, (count, _detail.DETAIL_BYTES)),
        _groups.map_zeros(scratch / "sides", np.int32, (count, 2)),
        _groups.map_zeros(scratch / "descriptors", np.float32, (count, look.VIEWS, look.DIMENSIONS)),
    )
    numbers = _groups.query_by_shard(db, "SELECT head, inner_frame FROM ranked ORDER BY shard, row", sizes)
    for path, numbered in zip(inputs, numbers, strict=True):
        shard = pq.read_table(path).append_column("head", numbered.column("head"))
        shard = shard.append_column("inner_frame", numbered.column("inner_frame"))
        _fill(frames, shard, "head", "", _whole_sides(shard))
        bordered = shard.filter(pc.is_valid(shard.column("inner_frame")))
        _fill(frames, bordered, "inner_frame", "inside_", _inner_sides(bordered))
    for start in range(0, count, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        frames.descriptors[block] = look.compute_descriptors(look.split_planes(frames.thumbnails[block]).luma)
    return frames


def _fill(frames: Frames, shard: pa.Table, number: str, prefix: str, sides: npt.NDArray[np.int32]) -> None:
    at = shard.column(number).to_numpy()
    frames.heads[at] = shard.column("head").to_numpy()
    frames.sides[at] = sides
    for name, array in (("thumbnail", frames.thumbnails), ("fine_thumbnail", frames.details)):
        joined = b"".join(shard.column(prefix + name).to_pylist())
        array[at] = np.frombuffer(joined, np.uint8).reshape(-1, array.shape[1])


def _whole_sides(shard: pa.Table) -> npt.NDArray[np.int32]:
    return np.stack([shard.column(side).to_numpy() for side in ("pixel_width", "pixel_height")], axis=1)


def _inner_sides(shard: pa.Table) -> npt.NDArray[np.int32]:
    boxes = np.array(shard.column("inside").to_pylist(), np.int32).reshape(-1, 4)
    return boxes[:, 2:] - boxes[:, :2]
