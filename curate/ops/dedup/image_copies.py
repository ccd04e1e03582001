"""Images that many documents show, by what they look like: MMC4's count of near duplicates in a sample of the corpus.

A perceptual hash of each image, how many images of other documents hash nearly the same, and the documents without
those that are shown too often. Hashes are compared through tables of their quarters, so the cost is linear: every image
is looked up in a sample of bounded size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.document.segments import DOCUMENT, Segment
from curate.ops import _groups
from curate.ops._segments import chosen, columns_of, of_images, out_of_step, stale, without_images
from curate.ops.spec import Columns, group_op, op
from curate.pool.blob import BLOB, Blob

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

HASH_BITS = 64
MAX_DISTANCE = 11
"""Hashes this near share a quarter but for two bits; beyond it the tables of quarters would hold most of all pairs."""

_SIDE, _LOW = 32, 8
_QUARTERS = 4


@op(reads="images", writes={"image_hashes": pa.list_(pa.int64())}, version=1, batch_size=16)
def image_hashes(images: Sequence[list[Blob]]) -> Columns:
    """The perceptual hash of each image of a document: 64 bits, the same as ImageHash's `phash`; null where none is.

    Of 32 x 32 grey pixels the 8 x 8 lowest cosine coefficients, a bit each: above their median (Zauner 2010, section
    3.2.1). Re-encoded and resized copies differ in some bits of 64, other pictures in some 32. An image that is absent
    or does not decode has none.
    """
    return {"image_hashes": of_images(images, perceptual_hash)}


def perceptual_hash(image: Image.Image) -> int:
    """See `image_hashes`; the first coefficient is the highest bit, of a signed number."""
    from scipy.fft import dct

    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
    low = dct(dct(grey, axis=0), axis=1)[:_LOW, :_LOW]
    bits = np.packbits(low > np.median(low))
    return int.from_bytes(bits.tobytes(), "big", signed=True)


@group_op(after=image_hashes, writes={"image_copies": pa.list_(pa.int32()), "most_copied_image": pa.int32()}, version=1)
def image_copies(
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    max_distance_bits: int = 5,
    sample_images: int = 60_000,
) -> None:
    """Count images of other documents that look like each image of a document (null: absent), and the largest count.

    Alike are images whose hashes differ in at most `max_distance_bits` of 64, up to 11: MMC4 (Zhu et al. 2023, section
    3) takes 5, and 10 for its core. Looked for among `sample_images` of the corpus, drawn by uid; a smaller corpus is
    looked at whole. Equal hashes of one document are one image.
    """
    if not 0 <= max_distance_bits <= MAX_DISTANCE:
        raise ValueError(f"image_copies: max_distance_bits {max_distance_bits} must be from 0 to {MAX_DISTANCE}")
    with _groups.database(scratch) as db:
        _groups.gather_inputs(
            db, "places", inputs, "uid, unnest(image_hashes) AS hash, generate_subscripts(image_hashes, 1) AS place"
        )
        _sample(db, sample_images)
        _count(db, max_distance_bits)
        query = (
            "SELECT CASE WHEN hash IS NULL THEN NULL ELSE coalesce(total, 0) - coalesce(own, 0) END::INTEGER AS n"
            " FROM places LEFT JOIN totals USING (hash) LEFT JOIN owned USING (uid, hash) ORDER BY shard, row, place"
        )
        _groups.write_lists(db, query, inputs, outputs, "image_hashes", ("image_copies", "most_copied_image"))


def _sample(db: DuckDBPyConnection, count: int) -> None:
    """Table `sampled` (uid, hash): drawn by a digest, so that neither shards nor their order change it."""
    db.execute(
        "CREATE TABLE sampled AS SELECT DISTINCT uid, hash FROM places WHERE hash IS NOT NULL"
        " ORDER BY md5(uid || ' ' || hash), uid, hash LIMIT ?",
        [count],
    )


def _count(db: DuckDBPyConnection, most: int) -> None:
    """Tables `totals` (hash, total) and `owned` (uid, hash, own): images of the sample that are near, of all documents
    and of the image's own.

    Of hashes that differ in d bits one quarter differs in d / 4 at most: the sample's quarters are listed with all
    changes of so few bits, and looked up.
    """
    changes = [
        sum(1 << bit for bit in bits) for n in range(most // _QUARTERS + 1) for bits in combinations(range(16), n)
    ]
    near = f"bit_count(xor(mine.hash, theirs.hash)) <= {most}"
    db.execute(
        "CREATE TABLE listed AS SELECT hash, n, quarter, xor((hash >> (16 * quarter)) & 65535, change) AS value"
        " FROM (SELECT hash, count(*) AS n FROM sampled GROUP BY hash),"
        " (SELECT unnest([0, 1, 2, 3]) AS quarter), (SELECT unnest(?::BIGINT[]) AS change)",
        [changes],
    )
    db.execute(
        "CREATE TABLE totals AS WITH mine AS (SELECT hash, quarter, (hash >> (16 * quarter)) & 65535 AS value"
        " FROM (SELECT DISTINCT hash FROM places WHERE hash IS NOT NULL), (SELECT unnest([0, 1, 2, 3]) AS quarter)),"
        " pairs AS (SELECT DISTINCT mine.hash, theirs.hash AS other, n FROM mine JOIN listed AS theirs"
        f" ON mine.quarter = theirs.quarter AND mine.value = theirs.value AND {near})"
        " SELECT hash, sum(n) AS total FROM pairs GROUP BY hash"
    )
    db.execute(
        "CREATE TABLE owned AS SELECT uid, mine.hash, count(*) AS own FROM (SELECT DISTINCT uid, hash FROM places"
        f" WHERE hash IS NOT NULL) AS mine JOIN sampled AS theirs USING (uid) WHERE {near} GROUP BY ALL"
    )


@op(
    reads=("document", "images", "image_hashes", "image_copies"),
    writes={
        "document": DOCUMENT,
        "images": pa.list_(BLOB),
        "images_uncopied": pa.int32(),
        "images_dropped_by_copies": pa.int32(),
        "images_dropped_by_likeness": pa.int32(),
    },
    version=1,
    batch_size=256,
)
def drop_copied_images(
    documents: Sequence[list[Segment]],
    images: Sequence[list[Blob]],
    hashes: Sequence[list[int | None]],
    copies: Sequence[list[int | None]],
    *,
    max_copies: int = 10,
    once_within_bits: int | None = 5,
) -> Columns:
    """The document and its images without those that more than `max_copies` images of other documents look like.

    `once_within_bits`: of images of one document whose hashes are this near the first stays (null: all do). Both are
    MMC4's. An image that is there and has no hash, because it does not decode, goes as one too often copied; an absent
    one keeps its place. `images_uncopied`: those that are left and there. Errors: images_out_of_step,
    counts_out_of_step.
    """
    rows = [
        out_of_step(document, blobs)
        or stale(blobs, seen)
        or stale(blobs, count)
        or _uncopied(document, blobs, seen, [_is_common(c, max_copies) for c in count], once_within_bits)
        for document, blobs, seen, count in zip(documents, images, hashes, copies, strict=True)
    ]
    return columns_of(rows, drop_copied_images)


def _is_common(copies: int | None, most: int) -> bool:
    return copies is None or copies > most


def _uncopied(
    document: list[Segment], blobs: list[Blob], hashes: Sequence[int | None], common: Sequence[bool], within: int | None
) -> dict[str, Any]:
    reasons: list[str | None] = []
    kept: list[int] = []
    for blob, bits, is_common in zip(blobs, hashes, common, strict=True):
        reason = None
        if blob.error is None and (bits is None or is_common):
            reason = "copies"
        elif bits is not None and within is not None and any(_distance(bits, other) <= within for other in kept):
            reason = "likeness"
        elif bits is not None:
            kept.append(bits)
        reasons.append(reason)
    keep = [reason is None for reason in reasons]
    left = chosen(blobs, keep)
    counts = {f"images_dropped_by_{why}": reasons.count(why) for why in ("copies", "likeness")}
    here = sum(blob.error is None for blob in left)
    return {"document": without_images(document, keep), "images": left, "images_uncopied": here, **counts}


def _distance(first: int, second: int) -> int:
    return ((first ^ second) & ((1 << HASH_BITS) - 1)).bit_count()
