"""Images that many documents show, by what they look like: MMC4's count of near duplicates in a sample of the corpus.

A perceptual hash of each image, how many images of other documents hash nearly the same, and which images of a document
look like an earlier one of it. Hashes are compared through tables of their quarters, so the cost is linear: every image
is looked up in a sample of bounded size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.ops import _groups
from curate.ops._segments import of_images
from curate.ops.dedup._phash import perceptual_hash
from curate.ops.spec import Columns, Count, Natural, group_op, op
from curate.pool.blob import Blob

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

HASH_BITS = 64
MAX_DISTANCE = 11
"""Hashes this near share a quarter but for two bits; beyond it the tables of quarters would hold most of all pairs."""

_QUARTERS = 4


@op(
    reads="images",
    writes={"image_hashes": pa.list_(pa.int64())},
    version=2,
    batch_size=16,
    parts={"image_hashes": "images"},
    needs=("scipy",),
)
def image_hashes(images: Sequence[list[Blob]]) -> Columns:
    """The perceptual hash of each image of a document: 64 bits, the same as ImageHash's `phash`; null where none is.

    Of 32 x 32 grey pixels the 8 x 8 lowest cosine coefficients, a bit each: above their median (Zauner 2010, section
    3.2.1). Re-encoded and resized copies differ in some bits of 64, other pictures in some 32. An image that is absent
    or does not decode has none.
    """
    return {"image_hashes": of_images(images, perceptual_hash)}


@group_op(
    after=image_hashes,
    writes={"image_copies": pa.list_(pa.int32()), "most_copied_image": pa.int32()},
    version=1,
    parts={"image_copies": "images"},
)
def image_copies(
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    max_distance_bits: Natural = 5,
    sample_images: Count = 60_000,
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
    reads="image_hashes",
    writes={"looks_repeated": pa.list_(pa.bool_())},
    version=1,
    batch_size=256,
    parts={"looks_repeated": "images"},
)
def repeated_looks(hashes: Sequence[list[int | None]], *, within_bits: Natural = 5) -> Columns:
    """Tell images of a document that look like one before them that does not itself: hashes within so many bits of 64.

    Null of an image without a hash. Of images of one page that are alike MMC4 keeps the first: 5 bits, 10 for its core.
    """
    return {"looks_repeated": [_repeated(row, within_bits) for row in hashes]}


def _repeated(hashes: Sequence[int | None], within: int) -> list[bool | None]:
    found: list[bool | None] = []
    first: list[int] = []
    for bits in hashes:
        if bits is None:
            found.append(None)
            continue
        repeats = any(_distance(bits, other) <= within for other in first)
        found.append(repeats)
        if not repeats:
            first.append(bits)
    return found


def _distance(first: int, second: int) -> int:
    return ((first ^ second) & ((1 << HASH_BITS) - 1)).bit_count()
