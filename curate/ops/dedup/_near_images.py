"""Near duplicates among frames: pairs are proposed by hashes, laid on each other, and assigned to kept pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from curate.ops import _groups
from curate.ops.dedup import _detail, _votes
from curate.ops.dedup import _lookalike as look
from curate.ops.dedup._frames import BLOCK_ROWS, Frames

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BLOCK_PAIRS = 1024
BLOCK_DETAILS = 32
BLOCK_CANDIDATES = 65536
EDGES = "SELECT b, a, max(similarity) AS s FROM alike GROUP BY ALL ORDER BY b, s DESC, a"
TABLES = 8
CELL = 60.0
"""Side of a hash's cells: copies lie some 2 (re-encoded) to 12 apart (cropped), two drawings at random some 70."""
NEAR_DISTANCE = 18.0
"""Pairs whose descriptors lie farther apart are not looked at: 99.9 % of cropped emoji lie nearer."""
NEAR_OF_CONTRAST, NEAR_FLOOR = 1.0, 3.0
"""And not farther than this share of the lesser contrast and so many levels: pale pictures all lie near each other."""
BUCKET_ENTRIES = 96
"""Pictures that share a hash are all compared, up to this many: see `_bucket_pairs`."""
OVERFULL_ENTRIES = 16
EXTEND_ROUNDS = 4


Wanted = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.bool_]]
"""Which pairs of pictures (n,), (n,) are to be compared, (n,)."""


def find_near(db: DuckDBPyConnection, frames: Frames, limits: look.MatchLimits, mirrored: bool) -> None:
    """Fill table `assigned` (head, kept, similarity): the pictures that are copies of a kept one."""
    _make_tables(db, frames)
    _propose_all(db, frames, mirrored, np.not_equal)
    for _ in range(EXTEND_ROUNDS):
        if not _decide_fresh(db, frames, limits):
            return
        _groups.assign_kept(db, frames.pictures, EDGES, BLOCK_CANDIDATES)
        _extend(db, mirrored)


def find_between(
    db: DuckDBPyConnection, frames: Frames, limits: look.MatchLimits, mirrored: bool, named: npt.NDArray[np.bool_]
) -> None:
    """Fill table `alike` (a, b, similarity): pairs of pictures a < b that are copies, just one of which is `named`."""
    _make_tables(db, frames)
    _propose_all(db, frames, mirrored, lambda a, b: named[a] != named[b])
    _decide_fresh(db, frames, limits)


def _make_tables(db: DuckDBPyConnection, frames: Frames) -> None:
    db.execute("CREATE TABLE framed (frame BIGINT, head BIGINT)")
    for start in range(0, len(frames), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(frames))
        _groups.insert(db, "framed", frame=np.arange(start, stop), head=frames.heads[start:stop])
    db.execute("CREATE TABLE proposed (a BIGINT, b BIGINT, mirror BOOLEAN)")
    db.execute("CREATE TABLE tried (a BIGINT, b BIGINT, mirror BOOLEAN)")
    db.execute("CREATE TABLE alike (a BIGINT, b BIGINT, similarity FLOAT)")
    db.execute("CREATE TABLE assigned (head BIGINT, kept BIGINT, similarity FLOAT)")


def _propose_all(db: DuckDBPyConnection, frames: Frames, mirrored: bool, wanted: Wanted) -> None:
    for mirror in (False, True) if mirrored else (False,):
        for table in range(TABLES):
            _propose(db, frames, table, mirror, wanted)


def _decide_fresh(db: DuckDBPyConnection, frames: Frames, limits: look.MatchLimits) -> bool:
    """Decides what was proposed and not tried; whether there was any."""
    fresh = "SELECT DISTINCT a, b, mirror FROM proposed ANTI JOIN tried USING (a, b, mirror)"
    db.execute(f"CREATE OR REPLACE TABLE fresh AS {fresh}")
    if not _groups.query_one(db, "SELECT count(*) FROM fresh"):
        return False
    _decide(db, frames, limits)
    db.execute("INSERT INTO tried FROM fresh")
    return True


def _propose(db: DuckDBPyConnection, frames: Frames, table: int, mirror: bool, wanted: Wanted) -> None:
    """Adds to `proposed` the pairs a < b that share a bucket of this table and whose descriptors are near."""
    db.execute("CREATE OR REPLACE TABLE keyed (key UBIGINT, head BIGINT, whole BOOLEAN)")
    for start in range(0, len(frames), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(frames))
        parts = [
            (look.bucket_keys(points, table, CELL), np.arange(start, start + len(points)), np.full(len(points), whole))
            for whole, points in _keyed_views(frames, slice(start, stop), mirror)
        ]
        keys, numbers, wholes = (np.concatenate(part) for part in zip(*parts, strict=True))
        _groups.insert(db, "keyed", key=keys, head=numbers, whole=wholes)
    for a, b in _bucket_pairs(db):
        other = wanted(frames.heads[a], frames.heads[b]) & ~frames.add_nothing(a, b, mirror)
        a, b = a[other], b[other]
        blocks = [slice(start, start + BLOCK_PAIRS) for start in range(0, len(a), BLOCK_PAIRS)]
        near = np.concatenate([np.zeros(0, bool), *(_is_near(frames, a[block], b[block], mirror) for block in blocks)])
        _groups.insert(db, "proposed", a=a[near], b=b[near], mirror=np.full(int(near.sum()), mirror))


def _keyed_views(frames: Frames, block: slice, mirror: bool) -> Iterator[tuple[bool, look.Array]]:
    """The points of a block of frames that are hashed: each whole frame, and the windows of whole pictures."""
    views = frames.descriptors[block]
    yield True, views[:, 0]
    others = look.mirror_views(views) if mirror else views
    if mirror:
        yield False, others[:, 0]
    windowed = max(0, min(len(views), frames.pictures - block.start))
    for view in range(1, look.VIEWS):
        yield False, others[:windowed, view]


def _is_near(frames: Frames, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], mirror: bool) -> npt.NDArray[np.bool_]:
    far, _, _ = _closest(frames, a, b, np.full(len(a), mirror))
    contrast = np.minimum(*(np.linalg.norm(frames.descriptors[row, 0, 1:], axis=1) for row in (a, b)))
    return np.asarray(far <= np.minimum(NEAR_DISTANCE, NEAR_OF_CONTRAST * contrast + NEAR_FLOOR))


def _closest(
    frames: Frames, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], mirror: npt.NDArray[np.bool_]
) -> tuple[look.Array, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    return look.closest_views(frames.descriptors[a], frames.descriptors[b], mirror)


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


def _decide(db: DuckDBPyConnection, frames: Frames, limits: look.MatchLimits) -> None:
    """Adds to `alike` those of the `fresh` pairs that show one picture.

    They are laid on each other where they fit best, and else whole on whole: where there is little but print, the best
    fit may be a line too high. What is left over may still be one picture but for a mark (`_votes.py`).
    """
    for batch in _groups.query_blocks(db, "SELECT a, b, mirror FROM fresh ORDER BY a, b, mirror", BLOCK_PAIRS):
        a, b = batch.column("a").to_numpy(), batch.column("b").to_numpy()
        pairs = _Pairs(frames, a, b, batch.column("mirror").to_numpy(zero_copy_only=False))
        pairs = pairs.take(np.flatnonzero(pairs.resemble()))
        same, similarity = pairs.judge(limits)
        heads = np.sort(np.stack([frames.heads[pairs.a[same]], frames.heads[pairs.b[same]]]), axis=0)
        _groups.insert(db, "alike", a=heads[0], b=heads[1], similarity=similarity[same])


@dataclass(frozen=True)
class _Pairs:
    """Pairs of pictures to be laid on each other: rows `a` and `b` (n,), and whether `a` is turned left to right."""

    frames: Frames
    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    mirror: npt.NDArray[np.bool_]

    def take(self, where: npt.NDArray[np.int64]) -> _Pairs:
        return _Pairs(self.frames, self.a[where], self.b[where], self.mirror[where])

    @cached_property
    def planes(self) -> tuple[look.Planes, look.Planes]:
        first, second = self.coloured_planes()
        one, two = first.greyed_like(second), second.greyed_like(first)
        return first.weigh(one), second.weigh(two)

    def coloured_planes(self) -> tuple[look.Planes, look.Planes]:
        first, second = (look.split_planes(self.frames.thumbnails[row]) for row in (self.a, self.b))
        return first.mirror(self.mirror), second

    def resemble(self) -> npt.NDArray[np.bool_]:
        """Whether each pair is worth a closer look, at a tenth of its cost: four of five strangers are not."""
        first, second = (look.halve_luma(self.frames.thumbnails[row]) for row in (self.a, self.b))
        first = np.where(self.mirror[:, None, None], first[:, :, ::-1], first)
        return look.resemble(first, second, self.starts)

    @cached_property
    def starts(self) -> look.Array:
        _, view, inverse = _closest(self.frames, self.a, self.b, self.mirror)
        return look.starting_places(view, inverse)

    def judge(self, limits: look.MatchLimits) -> tuple[npt.NDArray[np.bool_], look.Array]:
        """Whether each pair is one picture, and the similarity, (n,) each."""
        place, whole = self.best_places(), np.tile(look.WHOLE, (len(self.a), 1))
        left, of_whole = self.measure(place), self.measure(whole)
        same = self.agree(place, self.fits(place, left) & look.is_same_picture(left, limits))
        moved = look.measure_moved(place) >= look.UNMOVED
        asked = ~same & moved & self.fits(whole, of_whole) & look.is_same_picture(of_whole, limits)
        same_whole = self.agree(whole, asked)
        unmoved = of_whole.agreeing >= left.agreeing
        likelier = np.where(unmoved[:, None], whole, place)
        agreeing = np.where(unmoved, of_whole.agreeing, left.agreeing)
        fits = np.where(unmoved, self.fits(whole, of_whole), self.fits(place, left))
        marked = self.vote(likelier, ~same & ~same_whole & fits & (agreeing >= look.MIN_AGREEING), left.greyed)
        similarity = np.select([same, same_whole], [left.similarity, of_whole.similarity], agreeing)
        return same | same_whole | marked, similarity

    def best_places(self) -> look.Array:
        first, second = self.planes
        return look.align(first.luma, second.luma, self.starts)

    def measure(self, place: look.Array) -> look.Differences:
        return look.measure_differences(*self.planes, place)

    def fits(self, place: look.Array, left: look.Differences) -> npt.NDArray[np.bool_]:
        """Whether each pair shows nearly all of each other at its place, unstretched."""
        stretch = look.measure_stretch(place, self.frames.sides[self.a], self.frames.sides[self.b])
        unstretched = np.abs(np.log(stretch)) <= np.log(look.MAX_STRETCH)
        return np.asarray(unstretched & (left.shared >= look.MIN_SHARED))

    def agree(self, place: look.Array, asked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether the details of each pair that is `asked` for agree at its place."""
        found = np.zeros(len(self.a), bool)
        for block in _blocks(asked):
            first, second = self.take(block).details()
            found[block] = _detail.is_same_print(first, second, place[block])
        return found

    def vote(
        self, place: look.Array, asked: npt.NDArray[np.bool_], greyed: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Whether each pair that is `asked` for is one picture but for a mark."""
        small = np.minimum(self.frames.sides[self.a].min(1), self.frames.sides[self.b].min(1)) < _votes.LEAST_SIDE
        found = np.zeros(len(self.a), bool)
        for block in _blocks(asked & ~small):
            pairs = self.take(block)
            planes, details = pairs.coloured_planes(), pairs.details()
            weights = planes[0].greyed_like(planes[1]), planes[1].greyed_like(planes[0])
            first, second = (
                _votes.Sight(look.weigh(detail.grey, plane.colour, weight), plane.colour)
                for detail, plane, weight in zip(details, planes, weights, strict=True)
            )
            found[block] = _votes.is_marked_copy(first, second, place[block], greyed[block])
        return found

    def details(self) -> tuple[_detail.Details, _detail.Details]:
        frames, straight = self.frames, np.zeros(len(self.a), bool)
        first = _detail.split_details(frames.details[self.a], frames.sides[self.a], self.mirror)
        return first, _detail.split_details(frames.details[self.b], frames.sides[self.b], straight)


def _blocks(asked: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.int64]]:
    candidates = np.flatnonzero(asked)
    for start in range(0, len(candidates), BLOCK_DETAILS):
        yield candidates[start : start + BLOCK_DETAILS]


def _extend(db: DuckDBPyConnection, mirrored: bool) -> None:
    """Proposes to compare a kept picture that is like a copy with that copy's representative."""
    db.execute(
        "INSERT INTO proposed"
        " WITH beside AS (SELECT a AS copy, b AS other FROM alike UNION ALL SELECT b, a FROM alike),"
        " found AS (SELECT DISTINCT least(other, kept) AS a, greatest(other, kept) AS b FROM beside"
        " JOIN assigned ON copy = assigned.head WHERE other <> kept"
        " AND other NOT IN (SELECT head FROM assigned))"
        " SELECT least(one.frame, two.frame), greatest(one.frame, two.frame), mirror FROM found"
        " JOIN framed AS one ON one.head = found.a JOIN framed AS two ON two.head = found.b,"
        " (SELECT unnest(?::BOOLEAN[]) AS mirror)",
        [[False, True] if mirrored else [False]],
    )
