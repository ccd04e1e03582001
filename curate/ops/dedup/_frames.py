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
LIKE_BORDERS = 0.04
"""Share of a side by which borders may differ that are alike."""


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
    insides: npt.NDArray[np.float32]
    """(pictures, 4) left, top, right and bottom of what lies inside, as shares of the sides; NaN without borders"""
    descriptors: npt.NDArray[np.float32]
    """(n, VIEWS, DIMENSIONS)"""

    def __len__(self) -> int:
        return len(self.heads)

    def add_nothing(self, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], mirror: bool) -> npt.NDArray[np.bool_]:
        """Whether pairs (n,) are with the inside of a picture where both have borders, alike: then the whole pictures
        show as much, laid on each other as they are, which is how skin tones are told apart."""
        one, other = self.insides[self.heads[a]], self.insides[self.heads[b]]
        if mirror:
            one = np.stack([1 - one[:, 2], one[:, 1], 1 - one[:, 0], one[:, 3]], axis=1)
        alike = np.abs(one - other).max(1, initial=0) <= LIKE_BORDERS
        return np.asarray(((a >= self.pictures) | (b >= self.pictures)) & alike)


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
        _groups.map_zeros(scratch / "insides", np.float32, (pictures, 4)),
        _groups.map_zeros(scratch / "descriptors", np.float32, (count, look.VIEWS, look.DIMENSIONS)),
    )
    frames.insides[:] = np.nan
    numbers = _groups.query_by_shard(db, "SELECT head, inner_frame FROM ranked ORDER BY shard, row", sizes)
    for path, numbered in zip(inputs, numbers, strict=True):
        shard = pq.read_table(path).append_column("head", numbered.column("head"))
        shard = shard.append_column("inner_frame", numbered.column("inner_frame"))
        _fill(frames, shard, "head", "", _whole_boxes(shard))
        bordered = shard.filter(pc.is_valid(shard.column("inner_frame")))
        inner = _inner_boxes(bordered)
        _fill(frames, bordered, "inner_frame", "inside_", inner)
        frames.insides[bordered.column("head").to_numpy()] = inner / _whole_boxes(bordered)[:, [2, 3, 2, 3]]
    for start in range(0, count, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        frames.descriptors[block] = look.compute_descriptors(look.split_planes(frames.thumbnails[block]).luma)
    return frames


def _fill(frames: Frames, shard: pa.Table, number: str, prefix: str, boxes: npt.NDArray[np.int32]) -> None:
    at = shard.column(number).to_numpy()
    frames.heads[at] = shard.column("head").to_numpy()
    frames.sides[at] = boxes[:, 2:] - boxes[:, :2]
    for name, array in (("thumbnail", frames.thumbnails), ("fine_thumbnail", frames.details)):
        joined = b"".join(shard.column(prefix + name).to_pylist())
        array[at] = np.frombuffer(joined, np.uint8).reshape(-1, array.shape[1])


def _whole_boxes(shard: pa.Table) -> npt.NDArray[np.int32]:
    width, height = (shard.column(side).to_numpy() for side in ("pixel_width", "pixel_height"))
    return np.stack([np.zeros_like(width), np.zeros_like(height), width, height], axis=1)


def _inner_boxes(shard: pa.Table) -> npt.NDArray[np.int32]:
    return np.array(shard.column("inside").to_pylist(), np.int32).reshape(-1, 4)
