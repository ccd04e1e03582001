"""Semantic duplicates: rows whose embeddings point the same way, found within clusters, by one of three rules.

Abbas et al., "SemDeDup", 2023. Rows are compared with those of their cell alone: a cell is a cluster with all rows to
which it is one of the few nearest, so that a pair across a border is found. Cells are gone through block
by block; edges are never kept, so a cell may hold half of all rows. What decides are whole numbers
(`curate.ops._vectors`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.ops import _groups
from curate.ops._vectors import Bools, Floats, Ints, Vectors, cosines, spool_vectors
from curate.ops.spec import EmbeddingColumn, NumberColumn, Share, group_op

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BLOCK = 1024
"""Rows of a cell that are compared with as many others at once."""

SEMANTIC = {"semantic_duplicate_of": pa.string(), "semantic_similarity": pa.float32()}

Rule = Literal["greedy", "components", "semdedup"]


@group_op(reads=("near_clusters", "cluster_similarity"), writes=SEMANTIC, version=1)
def semantic_duplicates(  # noqa: PLR0913 - a knob a choice
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    column: EmbeddingColumn = "clip_image_embedding",
    eps: Share = 0.01,
    rule: Rule = "greedy",
    prefer: NumberColumn | None = None,
) -> None:
    """`semantic_duplicate_of`: uid of the row that this one repeats, null where it is kept; and their cosine.

    Alike are rows of a cosine above 1 - `eps`. The order: the largest `prefer` first, a score for example, then the
    smallest uid. `greedy`: a row goes if it is like an earlier one that is kept; it names the first such. `components`:
    of rows that hang together by likenesses all but the first go, and name it, however unlike it they are. `semdedup`,
    as published: within each cluster, the farthest from its centroid first, a row goes if it is like any earlier one,
    removed or not, and names the first such; it has no `prefer` and sees no pair across a border. Clusters are those
    of a step `clusters` before: compared are rows that share one of their nearest few. Without an embedding a row is
    kept. Cost: rows x rows of a cell; memory: 40 bytes a row, and blocks.
    """
    if rule == "semdedup" and prefer is not None:
        raise ValueError("semantic_duplicates: rule semdedup has an order of its own; leave `prefer` out")
    vectors = spool_vectors(inputs, "column", column, scratch / "rows")
    with _groups.database(scratch) as db:
        _list_members(db, inputs, rule, prefer is not None)
        pairs = _Pairs(vectors, 1 - eps)
        rows = _Rows.read(db)
        {"greedy": _greedy, "components": _components, "semdedup": _semdedup}[rule](db, pairs, rows)
        _write(db, pairs, rows, inputs, outputs)


@dataclass(frozen=True)
class _Rows:
    """All rows by their place in the order: `at` their vectors stand, which row each repeats, itself where it is kept.

    `cells`: a bit for each cell that a row is in, its nearest the first; 0 without an embedding.
    """

    at: Ints
    repeats: Ints
    cells: npt.NDArray[np.uint8]

    @classmethod
    def read(cls, db: DuckDBPyConnection) -> _Rows:
        query = "SELECT stands, coalesce((1 << len(near_clusters)) - 1, 0)::UTINYINT FROM ranked ORDER BY place"
        count = _groups.query_one(db, "SELECT count(*) FROM ranked")
        found = cls(np.zeros(count, np.int64), np.arange(count), np.zeros(count, np.uint8))
        start = 0
        for batch in _groups.query_blocks(db, query, 65_536):
            found.at[start : start + len(batch)] = batch.column(0).to_numpy()
            found.cells[start : start + len(batch)] = batch.column(1).to_numpy()
            start += len(batch)
        return found


def _list_members(db: DuckDBPyConnection, inputs: Sequence[Path], rule: Rule, preferred: bool) -> None:
    """Tables `ranked` (place, stands, shard, row, uid, and the inputs'), and `members` (cell, turn, place, bit).

    `place` is the row's in the order, `turn` its in a cell's order, `bit` which of its cells it is (see `_Rows`);
    `stands` is the row's number over all inputs: that of its vector.
    """
    prefer = "prefer" if preferred else "NULL"
    columns = f"uid, near_clusters, cluster_similarity, {prefer} AS prefer"
    _groups.gather_inputs(db, "listed", inputs, columns)
    # DuckDB takes NaN for the largest number of all: a score that is none is preferred to nothing.
    order = "CASE WHEN isnan(prefer::DOUBLE) THEN NULL ELSE prefer END DESC NULLS LAST, uid"
    db.execute(
        f"CREATE TABLE ranked AS SELECT row_number() OVER (ORDER BY {order}) - 1 AS place,"
        " row_number() OVER (ORDER BY shard, row) - 1 AS stands, * FROM listed"
    )
    db.execute("DROP TABLE listed")
    if rule == "semdedup":
        found = (
            "near_clusters[1] AS cell, row_number() OVER (ORDER BY cluster_similarity, uid) AS turn, place, 1 AS bit"
        )
    else:
        number = "generate_subscripts(near_clusters, 1)"
        found = f"unnest(near_clusters) AS cell, place AS turn, place, 1 << ({number} - 1) AS bit"
    db.execute(f"CREATE TABLE members AS SELECT {found} FROM ranked WHERE near_clusters IS NOT NULL")


@dataclass(frozen=True)
class _Cell:
    """The members of a cell in their order: their places, and which of their cells it is (bits, see `_Rows`)."""

    places: Ints
    bits: npt.NDArray[np.uint8]

    def blocks(self) -> Iterator[_Cell]:
        """BLOCK members at a time."""
        return (self.take(slice(at, at + BLOCK)) for at in range(0, len(self.places), BLOCK))

    def take(self, which: slice | Bools | np.bool_) -> _Cell:
        """Some of them."""
        return _Cell(self.places[which], self.bits[which])


def _cells(db: DuckDBPyConnection) -> Iterator[_Cell]:
    """Each cell, one after the other."""
    now, parts = -1, [_Cell(np.zeros(0, np.int64), np.zeros(0, np.uint8))]
    for batch in _groups.query_blocks(db, "SELECT cell, place, bit FROM members ORDER BY cell, turn", 65_536):
        cells, places, bits = (column.to_numpy() for column in batch.columns)
        starts = np.flatnonzero(np.diff(cells, prepend=-1)).tolist() or [0]
        starts = starts if starts[0] == 0 else [0, *starts]
        for start, stop in itertools.pairwise([*starts, len(cells)]):
            if cells[start] != now:
                yield _joined(parts)
                now, parts = int(cells[start]), []
            parts.append(_Cell(places[start:stop], bits[start:stop].astype(np.uint8)))
    yield _joined(parts)


def _joined(parts: Sequence[_Cell]) -> _Cell:
    return _Cell(np.concatenate([part.places for part in parts]), np.concatenate([part.bits for part in parts]))


@dataclass(frozen=True)
class _Pairs:
    """Comparison of rows by their vectors: alike is a cosine above `least`."""

    vectors: Vectors
    least: float

    def load(self, at: Ints) -> Floats:
        """(n, width) the vectors at these places, at length 1."""
        x = self.vectors.floats(at)
        size = np.sqrt(np.square(x, dtype=np.float64).sum(axis=1, keepdims=True))
        return np.asarray(x / size, np.float32)

    def alike(self, a: Floats, b: Floats, at_a: Ints, at_b: Ints) -> Bools:
        """(n, m) whether each of `a` is like each of `b`: floats propose, and decide where they cannot be wrong."""
        score = a @ b.T
        error = (self.vectors.width + 16) * 2.0**-24
        found: Bools = score > self.least
        row, other = np.nonzero(np.abs(score - np.float32(self.least)) <= error)
        for start in range(0, len(row), BLOCK):
            some, to = row[start : start + BLOCK], other[start : start + BLOCK]
            found[some, to] = self.cosine(at_a[some], at_b[to]) > self.least
        return found

    def cosine(self, at_a: Ints, at_b: Ints) -> npt.NDArray[np.float64]:
        """(n,) the cosine of each pair of places, exactly."""
        a, b = (self.vectors.units(self.vectors.floats(at)) for at in (at_a, at_b))
        return cosines(a, b)

    def between(self, rows: _Rows, a: Ints, b: Ints) -> Bools:
        """(n, m) whether each of the places `a` is like each of the places `b`."""
        at_a, at_b = rows.at[a], rows.at[b]
        return self.alike(self.load(at_a), self.load(at_b), at_a, at_b)


# The three rules. Each fills `repeats` of the rows.


def _greedy(db: DuckDBPyConnection, pairs: _Pairs, rows: _Rows) -> None:
    """Pass after pass over the cells until every row is decided; then each that goes is given its name."""
    states = _States(np.where(rows.cells, UNDECIDED, KEPT).astype(np.uint8), np.zeros(len(rows.at), np.uint8))
    while (states.of == UNDECIDED).any():
        for cell in _cells(db):
            _decide_cell(pairs, rows, cell, states)
    rows.repeats[states.of == REMOVED] = len(rows.at)
    for cell in _cells(db):
        kept = cell.take(states.of[cell.places] == KEPT)
        for some in cell.take(states.of[cell.places] == REMOVED).blocks():
            _name_first(pairs, rows, some.places, kept)


UNDECIDED, KEPT, REMOVED = 0, 1, 2


@dataclass(frozen=True)
class _States:
    """By place: whether a row is decided, and in which of its cells (bits) nothing that may stay stands before it."""

    of: npt.NDArray[np.uint8]
    clear: npt.NDArray[np.uint8]

    def settle(self, cell: _Cell, rows: _Rows) -> None:
        """Note that nothing in this cell stands before these rows: where that holds in all their cells, they stay."""
        self.clear[cell.places] |= cell.bits
        done = cell.places[self.clear[cell.places] == rows.cells[cell.places]]
        self.of[done] = KEPT


def _decide_cell(pairs: _Pairs, rows: _Rows, cell: _Cell, states: _States) -> None:
    """Decide what can be decided here: an earlier kept row that is alike removes, one that is undecided lets wait."""
    earlier: list[_Cell] = []
    for block in cell.blocks():
        open_here: Bools = (states.of[block.places] == UNDECIDED) & ((states.clear[block.places] & block.bits) == 0)
        left, waits = block.take(open_here), np.zeros(int(open_here.sum()), bool)
        for before in earlier:
            if not len(left.places):
                break
            others = before.places[states.of[before.places] != REMOVED]
            like = pairs.between(rows, left.places, others)
            hit = like[:, states.of[others] == KEPT].any(axis=1)
            states.of[left.places[hit]] = REMOVED
            waits = (waits | like[:, states.of[others] == UNDECIDED].any(axis=1))[~hit]
            left = left.take(~hit)
        if len(left.places):
            _decide_block(pairs, rows, left, waits, block.places[states.of[block.places] != REMOVED], states)
        earlier.append(block)


def _decide_block(pairs: _Pairs, rows: _Rows, left: _Cell, waits: Bools, others: Ints, states: _States) -> None:
    """The same of the rows of one block among themselves, in their order."""
    like = pairs.between(rows, left.places, others) & (others[None, :] < left.places[:, None])
    alone = ~like.any(axis=1) & ~waits
    states.settle(left.take(alone), rows)
    for number in np.flatnonzero(~alone).tolist():
        found = states.of[others[like[number]]]
        if (found == KEPT).any():
            states.of[left.places[number]] = REMOVED
        elif not waits[number] and not (found == UNDECIDED).any():
            states.settle(left.take(slice(number, number + 1)), rows)


def _name_first(pairs: _Pairs, rows: _Rows, some: Ints, kept: _Cell) -> None:
    """The first kept row before each that it is like, of this cell or another."""
    left = some
    for block in kept.blocks():
        if not len(left):
            return
        like = pairs.between(rows, left, block.places) & (block.places[None, :] < left[:, None])
        hit = like.any(axis=1)
        first = block.places[like[hit].argmax(axis=1)]
        rows.repeats[left[hit]] = np.minimum(rows.repeats[left[hit]], first)
        left = left[~hit]


def _components(db: DuckDBPyConnection, pairs: _Pairs, rows: _Rows) -> None:
    """Unite what is alike; the smallest place of each set is its name."""
    for cell in _cells(db):
        blocks = list(cell.blocks())
        for number, block in enumerate(blocks):
            for before in blocks[: number + 1]:
                _unite_alike(pairs, rows, block.places, before.places)
    rows.repeats[:] = _roots(rows.repeats, np.arange(len(rows.repeats)))


def _unite_alike(pairs: _Pairs, rows: _Rows, a: Ints, b: Ints) -> None:
    roots = np.unique(_roots(rows.repeats, a))
    if len(roots) == 1:  # what is one with all of them already is not looked at
        b = b[_roots(rows.repeats, b) != roots[0]]
    if len(b):
        one, other = np.nonzero(pairs.between(rows, a, b))
        _unite(rows.repeats, a[one], b[other])


def _unite(parents: Ints, a: Ints, b: Ints) -> None:
    """Hang the larger root of each pair on the smaller, until all pairs have one."""
    while True:
        a, b = _roots(parents, a), _roots(parents, b)
        apart = a != b
        if not apart.any():
            return
        a, b = a[apart], b[apart]
        np.minimum.at(parents, np.maximum(a, b), np.minimum(a, b))


def _roots(parents: Ints, places: Ints) -> Ints:
    """The root of the set of each place; the way there is shortened."""
    found = parents[places]
    while not np.array_equal(further := parents[found], found):
        found = further
    parents[places] = found
    return found


def _semdedup(db: DuckDBPyConnection, pairs: _Pairs, rows: _Rows) -> None:
    """A row repeats the first before it in its cell that it is like, removed or not."""
    for cell in _cells(db):
        blocks = list(cell.blocks())
        for number, block in enumerate(blocks):
            turn = np.arange(len(block.places))
            for before in blocks[: number + 1]:
                left = rows.repeats[block.places] == block.places
                like = pairs.between(rows, block.places[left], before.places)
                if before is block:
                    like &= turn[None, :] < turn[left][:, None]
                hit = like.any(axis=1)
                rows.repeats[block.places[left][hit]] = before.places[like[hit].argmax(axis=1)]


def _write(db: DuckDBPyConnection, pairs: _Pairs, rows: _Rows, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    db.execute("CREATE TABLE repeated (place BIGINT, kept BIGINT, similarity FLOAT)")
    removed = np.flatnonzero(rows.repeats != np.arange(len(rows.repeats)))
    for start in range(0, len(removed), BLOCK):
        some = removed[start : start + BLOCK]
        kept = rows.repeats[some]
        similarity = pairs.cosine(rows.at[some], rows.at[kept]).astype(np.float32)
        _groups.insert(db, "repeated", place=some, kept=kept, similarity=similarity)
    query = (
        "SELECT r.uid, k.uid AS semantic_duplicate_of, similarity AS semantic_similarity FROM ranked AS r"
        " LEFT JOIN repeated USING (place) LEFT JOIN ranked AS k ON k.place = kept ORDER BY r.shard, r.row"
    )
    _groups.write_outputs(db, query, inputs, outputs, SEMANTIC)
