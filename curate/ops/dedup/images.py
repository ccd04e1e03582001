"""Image deduplication: a signature a row, then a group op that names the kept image of every copy.

`image_signature` keeps a digest of the decoded pixels and a small thumbnail. `duplicate_images` reads these columns
alone: equal digests are exact duplicates; for the rest, coarse hashes of the thumbnail and of windows in it propose
pairs, and laying one on the other decides: the thumbnails (`_lookalike.py`), then what is finer (`_detail.py`). Out of
core: tables and joins are DuckDB's, arrays are memory-mapped files in the scratch folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curate.ops import _groups
from curate.ops.dedup import _detail
from curate.ops.dedup import _lookalike as look
from curate.ops.spec import Amount, Columns, Share, group_op, op

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BLOCK_ROWS = 4096
BLOCK_PAIRS = 1024
BLOCK_DETAILS = 128
BLOCK_CANDIDATES = 65536
EDGES = "SELECT b, a, max(similarity) AS s FROM alike GROUP BY ALL ORDER BY b, s DESC, a"
TABLES = 8
CELL = 60.0
"""Side of a hash's cells: copies lie some 2 (re-encoded) to 12 apart (cropped), two drawings at random some 70."""
NEAR_DISTANCE = 18.0
"""Pairs whose descriptors lie farther apart are not looked at: 99.9 % of cropped emoji lie nearer."""
BUCKET_ENTRIES = 96
"""Pictures that share a hash are all compared, up to this many: see `_bucket_pairs`."""
OVERFULL_ENTRIES = 16
EXTEND_ROUNDS = 4

SIGNATURE = {
    "pixel_width": pa.int32(),
    "pixel_height": pa.int32(),
    "pixel_digest": pa.string(),
    "thumbnail": pa.binary(),
    "fine_thumbnail": pa.binary(),
}
DUPLICATE = {"duplicate_of": pa.string(), "duplicate_kind": pa.string(), "duplicate_similarity": pa.float32()}


@op(reads="image", writes=SIGNATURE, version=2)
def image_signature(images: list[Image.Image]) -> Columns:
    """Sides in pixels, digest of the decoded pixels (32 hex), thumbnails of 32 x 32 in colour and of 96 x 96 in grey.

    For `duplicate_images`: 11 kB a row.
    """
    return {
        "pixel_width": [image.width for image in images],
        "pixel_height": [image.height for image in images],
        "pixel_digest": [_pixel_digest(image) for image in images],
        "thumbnail": [look.make_thumbnail(image) for image in images],
        "fine_thumbnail": [_detail.make_detail(image) for image in images],
    }


def _pixel_digest(image: Image.Image) -> str:
    hasher = hashlib.blake2b(f"{image.width}x{image.height}".encode(), digest_size=16)
    hasher.update(image.tobytes())
    return hasher.hexdigest()


@group_op(after=image_signature, writes=DUPLICATE, version=2)
def duplicate_images(
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    min_similarity: Share = 0.95,
    max_difference_levels: Amount = 12.0,
    mirrored: bool = False,
) -> None:
    """`duplicate_of`: uid of the kept representative, null where the row is kept; its kind and similarity.

    Kept is the picture with most pixels, then most bytes, then the smallest uid. A representative is itself kept,
    and every row was compared with the one it names: never a chain of likenesses. `exact` means equal pixels,
    `near` re-encoded, resized or cropped to no less than about 90 % of each side, and, where `mirrored`, turned
    left to right. `min_similarity`: least correlation of the aligned thumbnails. `max_difference_levels`: largest
    mean difference, of 256 grey levels, of a fifth of a side squared once aligned. Sheets of one form with other words
    on them are no duplicates: the print must be the same, too (`_detail.py`). Cost: linear in the rows, see
    `_bucket_pairs`. Memory: one byte a row, and blocks.
    """
    with _groups.database(scratch) as db:
        sizes = _rank(db, inputs)
        rows = _spool(db, inputs, sizes, scratch)
        _near(db, rows, look.MatchLimits(min_similarity, max_difference_levels), mirrored)
        _write(db, inputs, outputs)


# Order and exact duplicates.


def _rank(db: DuckDBPyConnection, inputs: Sequence[Path]) -> list[int]:
    """Tables `pictures` (head, uid): distinct pictures numbered in the kept order; `ranked` (shard, row, uid, head).

    Returns the rows of each shard.
    """
    db.execute(
        "CREATE TABLE listed (shard BIGINT, row BIGINT, uid VARCHAR, digest VARCHAR, pixels BIGINT, nbytes BIGINT)"
    )
    columns = "file_row_number, uid, pixel_digest, pixel_width::BIGINT * pixel_height, nbytes"
    for shard, path in enumerate(inputs):
        query = f"INSERT INTO listed SELECT ?, {columns} FROM read_parquet(?, file_row_number = true)"
        db.execute(query, [shard, str(path)])
    db.execute(
        "CREATE TABLE pictures AS SELECT uid, digest,"
        " row_number() OVER (ORDER BY pixels DESC, nbytes DESC, uid) - 1 AS head"
        " FROM (SELECT * FROM listed QUALIFY row_number() OVER"
        " (PARTITION BY digest ORDER BY pixels DESC, nbytes DESC, uid) = 1)"
    )
    db.execute("CREATE TABLE ranked AS SELECT shard, row, listed.uid, head FROM listed JOIN pictures USING (digest)")
    db.execute("DROP TABLE listed")
    return [pq.read_metadata(path).num_rows for path in inputs]


@dataclass(frozen=True)
class _Rows:
    """The distinct pictures in the kept order: memory-mapped, so that only the pages in use are held."""

    thumbnails: npt.NDArray[np.uint8]
    """(n, THUMBNAIL_BYTES)"""
    details: npt.NDArray[np.uint8]
    """(n, DETAIL_BYTES)"""
    sides: npt.NDArray[np.int32]
    """(n, 2) width and height"""
    descriptors: npt.NDArray[np.float32]
    """(n, VIEWS, DIMENSIONS)"""

    def __len__(self) -> int:
        return len(self.thumbnails)


def _spool(db: DuckDBPyConnection, inputs: Sequence[Path], sizes: Sequence[int], scratch: Path) -> _Rows:
    count = _groups.query_one(db, "SELECT count(*) FROM pictures")
    rows = _Rows(
        _groups.map_zeros(scratch / "thumbnails", np.uint8, (count, look.THUMBNAIL_BYTES)),
        _groups.map_zeros(scratch / "details", np.uint8, (count, _detail.DETAIL_BYTES)),
        _groups.map_zeros(scratch / "sides", np.int32, (count, 2)),
        _groups.map_zeros(scratch / "descriptors", np.float32, (count, look.VIEWS, look.DIMENSIONS)),
    )
    heads_by_shard = _groups.query_by_shard(db, "SELECT head FROM ranked ORDER BY shard, row", sizes)
    for path, heads in zip(inputs, heads_by_shard, strict=True):
        shard = pq.read_table(path, columns=["pixel_width", "pixel_height", "thumbnail", "fine_thumbnail"])
        if len(shard):
            head = heads.column("head").to_numpy()
            rows.sides[head] = np.stack([shard.column(side).to_numpy() for side in shard.column_names[:2]], axis=1)
            for name, array in (("thumbnail", rows.thumbnails), ("fine_thumbnail", rows.details)):
                joined = b"".join(shard.column(name).to_pylist())
                array[head] = np.frombuffer(joined, np.uint8).reshape(-1, array.shape[1])
    for start in range(0, count, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        rows.descriptors[block] = look.compute_descriptors(look.split_planes(rows.thumbnails[block]))
    return rows


# Near duplicates: propose, decide, assign.


def _near(db: DuckDBPyConnection, rows: _Rows, limits: look.MatchLimits, mirrored: bool) -> None:
    """Table `assigned` (head, kept, similarity): the pictures that are copies of a kept one."""
    db.execute("CREATE TABLE proposed (a BIGINT, b BIGINT, mirror BOOLEAN)")
    db.execute("CREATE TABLE tried (a BIGINT, b BIGINT, mirror BOOLEAN)")
    db.execute("CREATE TABLE alike (a BIGINT, b BIGINT, similarity FLOAT)")
    db.execute("CREATE TABLE assigned (head BIGINT, kept BIGINT, similarity FLOAT)")
    for mirror in (False, True) if mirrored else (False,):
        for table in range(TABLES):
            _propose(db, rows, table, mirror)
    for _ in range(EXTEND_ROUNDS):
        fresh = "SELECT DISTINCT a, b, mirror FROM proposed ANTI JOIN tried USING (a, b, mirror)"
        db.execute(f"CREATE OR REPLACE TABLE fresh AS {fresh}")
        if not _groups.query_one(db, "SELECT count(*) FROM fresh"):
            return
        _decide(db, rows, limits)
        db.execute("INSERT INTO tried FROM fresh")
        _groups.assign_kept(db, len(rows), EDGES, BLOCK_CANDIDATES)
        _extend(db, mirrored)


def _propose(db: DuckDBPyConnection, rows: _Rows, table: int, mirror: bool) -> None:
    """Adds to `proposed` the pairs a < b that share a bucket of this table and whose descriptors are near."""
    db.execute("CREATE OR REPLACE TABLE keyed (key UBIGINT, head BIGINT, whole BOOLEAN)")
    for start in range(0, len(rows), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(rows))
        heads = np.arange(start, stop)
        views = rows.descriptors[start:stop]
        ones = np.ones(len(heads), bool)
        parts = [(look.bucket_keys(views[:, 0], table, CELL), heads, ones)]
        others = look.mirror_views(views) if mirror else views
        for view in range(0 if mirror else 1, look.VIEWS):
            parts.append((look.bucket_keys(others[:, view], table, CELL), heads, ~ones))
        keys, numbers, whole = (np.concatenate(part) for part in zip(*parts, strict=True))
        _groups.insert(db, "keyed", key=keys, head=numbers, whole=whole)
    for a, b in _bucket_pairs(db):
        far, _, _ = _closest(rows, a, b, np.full(len(a), mirror))
        near = far <= NEAR_DISTANCE
        _groups.insert(db, "proposed", a=a[near], b=b[near], mirror=np.full(int(near.sum()), mirror))


def _closest(
    rows: _Rows, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], mirror: npt.NDArray[np.bool_]
) -> tuple[look.Array, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    first = rows.descriptors[a]
    first[mirror] = look.mirror_views(first[mirror])
    return look.closest_views(first, rows.descriptors[b])


def _bucket_pairs(
    db: DuckDBPyConnection,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Blocks of distinct pairs a < b that share a bucket of `keyed`, with the whole of one of them.

    A bucket of up to BUCKET_ENTRIES gives all its pairs; a fuller one is split by the finer hashes in the key; in
    one that no hash splits (blank pictures, one picture a million times) each is paired with the first
    OVERFULL_ENTRIES of the kept order. So a table gives at most BUCKET_ENTRIES pairs an entry, whatever is shown.
    """
    db.execute(
        "CREATE OR REPLACE TABLE bucketed AS"
        " WITH once AS (SELECT key, head, bool_or(whole) AS whole FROM keyed GROUP BY ALL),"
        " sized AS (SELECT *, count(*) OVER (PARTITION BY key >> 40) AS coarse,"
        " count(*) OVER (PARTITION BY key >> 20) AS fine FROM once),"
        " levelled AS (SELECT *, CASE WHEN coarse <= $cap THEN 40 WHEN fine <= $cap THEN 20 ELSE 0 END AS bits"
        " FROM sized),"
        " split AS (SELECT bits, key >> bits AS bucket, head, bool_or(whole) AS whole FROM levelled GROUP BY ALL)"
        " SELECT *, count(*) OVER (PARTITION BY bits, bucket) AS members,"
        " row_number() OVER (PARTITION BY bits, bucket ORDER BY head) AS place FROM split",
        {"cap": BUCKET_ENTRIES},
    )
    query = (
        "SELECT DISTINCT l.head AS a, r.head AS b FROM bucketed AS l JOIN bucketed AS r"
        " ON l.bits = r.bits AND l.bucket = r.bucket AND l.head < r.head"
        " WHERE (l.whole OR r.whole) AND (l.members <= $cap OR l.place <= $overfull)"
    )
    for batch in _groups.query_blocks(
        db, query, BLOCK_CANDIDATES, {"cap": BUCKET_ENTRIES, "overfull": OVERFULL_ENTRIES}
    ):
        yield batch.column("a").to_numpy(), batch.column("b").to_numpy()


def _decide(db: DuckDBPyConnection, rows: _Rows, limits: look.MatchLimits) -> None:
    """Adds to `alike` those of the `fresh` pairs that show one picture.

    They are laid on each other where they fit best, and else whole on whole: where there is little but print, the best
    fit may be a line too high.
    """
    for batch in _groups.query_blocks(db, "SELECT a, b, mirror FROM fresh ORDER BY a, b, mirror", BLOCK_PAIRS):
        a, b = batch.column("a").to_numpy(), batch.column("b").to_numpy()
        pairs = _Pairs(rows, a, b, batch.column("mirror").to_numpy(zero_copy_only=False))
        place = pairs.best_places()
        same, similarity = pairs.judge(place, limits)
        moved = look.measure_moved(place) >= look.UNMOVED
        whole, of_whole = pairs.judge(np.tile(look.WHOLE, (len(a), 1)), limits, ~same & moved)
        similarity = np.where(same, similarity, of_whole)
        same |= whole
        _groups.insert(db, "alike", a=a[same], b=b[same], similarity=similarity[same])


@dataclass(frozen=True)
class _Pairs:
    """Pairs of pictures to be laid on each other: rows `a` and `b` (n,), and whether `a` is turned left to right."""

    rows: _Rows
    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    mirror: npt.NDArray[np.bool_]

    def take(self, where: npt.NDArray[np.int64]) -> _Pairs:
        return _Pairs(self.rows, self.a[where], self.b[where], self.mirror[where])

    def planes(self) -> tuple[look.Planes, look.Planes]:
        first, second = (look.split_planes(self.rows.thumbnails[row]) for row in (self.a, self.b))
        return first.mirror(self.mirror), second

    def best_places(self) -> look.Array:
        _, view, inverse = _closest(self.rows, self.a, self.b, self.mirror)
        first, second = self.planes()
        return look.align(first.luma, second.luma, look.starting_places(view, inverse))

    def judge(
        self, place: look.Array, limits: look.MatchLimits, asked: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.bool_], look.Array]:
        """Whether each pair, of those `asked` for, is one picture at its place, and the similarity, (n,) each."""
        left = look.measure_differences(*self.planes(), place)
        stretch = look.measure_stretch(place, self.rows.sides[self.a], self.rows.sides[self.b])
        same = look.is_same_picture(left, limits) & (np.abs(np.log(stretch)) <= np.log(look.MAX_STRETCH))
        candidates = np.flatnonzero(same if asked is None else same & asked)
        same[:] = False
        for start in range(0, len(candidates), BLOCK_DETAILS):
            block = candidates[start : start + BLOCK_DETAILS]
            same[block] = self.take(block).agree(place[block])
        return same, left.similarity

    def agree(self, place: look.Array) -> npt.NDArray[np.bool_]:
        """Whether the details of each pair agree at its place."""
        rows, straight = self.rows, np.zeros(len(self.a), bool)
        first = _detail.split_details(rows.details[self.a], rows.sides[self.a], self.mirror)
        second = _detail.split_details(rows.details[self.b], rows.sides[self.b], straight)
        return _detail.is_same_print(first, second, place)


def _extend(db: DuckDBPyConnection, mirrored: bool) -> None:
    """Proposes to compare a kept picture that is like a copy with that copy's representative."""
    db.execute(
        "INSERT INTO proposed"
        " WITH beside AS (SELECT a AS copy, b AS other FROM alike UNION ALL SELECT b, a FROM alike),"
        " found AS (SELECT DISTINCT least(other, kept) AS a, greatest(other, kept) AS b FROM beside"
        " JOIN assigned ON copy = assigned.head WHERE other <> kept"
        " AND other NOT IN (SELECT head FROM assigned))"
        " SELECT a, b, mirror FROM found, (SELECT unnest(?::BOOLEAN[]) AS mirror)",
        [[False, True] if mirrored else [False]],
    )


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
