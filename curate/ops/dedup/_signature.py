"""Signatures of pictures, which near images are compared by, and the order in which one of equal pixels is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curate.ops.dedup import _detail
from curate.ops.dedup import _lookalike as look
from curate.ops.dedup._trim import find_inside
from curate.ops.spec import Columns, op

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_DIFFERENCE_LEVELS = 12.0

SIGNATURE = {
    "pixel_width": pa.int32(),
    "pixel_height": pa.int32(),
    "pixel_digest": pa.string(),
    "thumbnail": pa.binary(),
    "fine_thumbnail": pa.binary(),
    "inside": pa.list_(pa.int32(), 4),
    "inside_thumbnail": pa.binary(),
    "inside_fine_thumbnail": pa.binary(),
}


@op(reads="image", writes=SIGNATURE, version=3)
def image_signature(images: list[Image.Image]) -> Columns:
    """Sides in pixels, digest of the decoded pixels (32 hex), thumbnails of 32 x 32 in colour and of 96 x 96 in grey.

    Where the picture has borders of one colour, `inside` is what lies inside (left, top, right, bottom; pixels), with
    thumbnails of its own. For `duplicate_images`: 11 kB a row, 22 with borders.
    """
    boxes = [find_inside(image) for image in images]
    inner = [image.crop(box) if box else None for image, box in zip(images, boxes, strict=True)]
    return {
        "pixel_width": [image.width for image in images],
        "pixel_height": [image.height for image in images],
        "pixel_digest": [_pixel_digest(image) for image in images],
        "thumbnail": [look.make_thumbnail(image) for image in images],
        "fine_thumbnail": [_detail.make_detail(image) for image in images],
        "inside": boxes,
        "inside_thumbnail": [image and look.make_thumbnail(image) for image in inner],
        "inside_fine_thumbnail": [image and _detail.make_detail(image) for image in inner],
    }


def _pixel_digest(image: Image.Image) -> str:
    hasher = hashlib.blake2b(f"{image.width}x{image.height}".encode(), digest_size=16)
    hasher.update(image.tobytes())
    return hasher.hexdigest()


def rank_pictures(db: DuckDBPyConnection, inputs: Sequence[Path]) -> list[int]:
    """Make tables `pictures` (head, uid): distinct pictures numbered in the kept order; `ranked` (shard, row, uid,
    head, inner_frame): the number of what is inside its borders, see `_frames.py`.

    Returns the rows of each shard.
    """
    db.execute(
        "CREATE TABLE listed (shard BIGINT, row BIGINT, uid VARCHAR, digest VARCHAR, pixels BIGINT, nbytes BIGINT,"
        " bordered BOOLEAN)"
    )
    columns = "file_row_number, uid, pixel_digest, pixel_width::BIGINT * pixel_height, nbytes, inside IS NOT NULL"
    for shard, path in enumerate(inputs):
        query = f"INSERT INTO listed SELECT ?, {columns} FROM read_parquet(?, file_row_number = true)"
        db.execute(query, [shard, str(path)])
    db.execute(
        "CREATE TABLE pictures AS SELECT uid, digest, bordered,"
        " row_number() OVER (ORDER BY pixels DESC, nbytes DESC, uid) - 1 AS head"
        " FROM (SELECT * FROM listed QUALIFY row_number() OVER"
        " (PARTITION BY digest ORDER BY pixels DESC, nbytes DESC, uid) = 1)"
    )
    db.execute(
        "CREATE TABLE ranked AS SELECT shard, row, listed.uid, head, inner_frame FROM listed JOIN"
        " (SELECT digest, head, CASE WHEN bordered THEN (SELECT count(*) FROM pictures)"
        " + row_number() OVER (PARTITION BY bordered ORDER BY head) - 1 END AS inner_frame FROM pictures)"
        " USING (digest)"
    )
    db.execute("DROP TABLE listed")
    return [pq.read_metadata(path).num_rows for path in inputs]
