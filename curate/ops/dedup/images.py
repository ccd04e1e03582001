"""Image deduplication: a signature a row, then a group op that names the kept image of every copy.

`image_signature` keeps a digest of the decoded pixels and a small thumbnail. `duplicate_images` reads these columns
alone: equal digests are exact duplicates; for the rest, coarse hashes of the thumbnail and of windows in it propose
pairs, and laying one on the other decides: the thumbnails (`_lookalike.py`), then what is finer (`_detail.py`). Out of
core: tables and joins are DuckDB's, arrays are memory-mapped files in the scratch folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curate.ops import _groups
from curate.ops.dedup import _detail
from curate.ops.dedup import _lookalike as look
from curate.ops.dedup._frames import spool_frames
from curate.ops.dedup._near_images import find_near
from curate.ops.dedup._trim import find_inside
from curate.ops.spec import Amount, Columns, Share, group_op, op

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
DUPLICATE = {"duplicate_of": pa.string(), "duplicate_kind": pa.string(), "duplicate_similarity": pa.float32()}


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


@group_op(after=image_signature, writes=DUPLICATE, version=3)
def duplicate_images(
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    min_similarity: Share = 0.95,
    max_difference_levels: Amount = MAX_DIFFERENCE_LEVELS,
    mirrored: bool = True,
) -> None:
    """`duplicate_of`: uid of the kept representative, null where the row is kept; its kind and similarity.

    Kept is the picture with most pixels, then most bytes, then the smallest uid. A representative is itself kept,
    and every row was compared with the one it names: never a chain of likenesses. `exact` means equal pixels,
    `near` re-encoded, resized, grey, bordered, marked with a logo and a line of text, cropped to no less than about
    80 % of each side and, where `mirrored`, turned left to right. `min_similarity`: least correlation of the aligned
    thumbnails. `max_difference_levels`: largest mean difference, of 256 grey levels, of a fifth of a side squared once
    aligned. Sheets of one form with other words
    on them are no duplicates: the print must be the same, too (`_detail.py`). Cost: linear in the rows, see
    `_near_images.py`. Memory: one byte a row, and blocks.
    """
    with _groups.database(scratch) as db:
        sizes = rank_pictures(db, inputs)
        frames = spool_frames(db, inputs, sizes, scratch)
        find_near(db, frames, look.MatchLimits(min_similarity, max_difference_levels), mirrored)
        _write(db, inputs, outputs)


# Order and exact duplicates.


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


def _write(db: DuckDBPyConnection, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """One file a shard: the decision on each of its rows, in its order."""
    query = (
        "SELECT r.uid, nullif(coalesce(k.uid, p.uid), r.uid) AS duplicate_of,"
        " CASE WHEN k.uid IS NOT NULL THEN 'near' WHEN p.uid <> r.uid THEN 'exact' END AS duplicate_kind,"
        " CASE WHEN k.uid IS NOT NULL THEN similarity WHEN p.uid <> r.uid THEN 1 END AS duplicate_similarity"
        " FROM ranked AS r JOIN pictures AS p USING (head) LEFT JOIN assigned USING (head)"
        " LEFT JOIN pictures AS k ON k.head = kept ORDER BY shard, row"
    )
    _groups.write_outputs(db, query, inputs, outputs, DUPLICATE)
