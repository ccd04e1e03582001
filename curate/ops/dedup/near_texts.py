"""Text near-deduplication: a MinHash signature a row, then a group op that names the kept text.

Broder 1997 for the signature, Indyk and Motwani 1998 for the banding. A pair is proposed by a band that agrees and
decided by the whole signatures; a chain of likenesses never removes anything. Out of core: tables and joins are
DuckDB's, the signatures are a memory-mapped file in the scratch folder.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.ops import _groups
from curate.ops.spec import Columns, Count, Share, group_op, op
from curate.text.words import Numbers, plain_words, window_hashes

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Signatures = npt.NDArray[np.uint32]

BUCKET_HEADS = 16
"""In a bucket, each text is compared with the first so many: cost stays linear where a million texts share a band."""
BLOCK_PAIRS = 16_384
EXTEND_ROUNDS = 4
_BLOCK_SHINGLES = 512

NEAR = {"duplicate_of": pa.string(), "duplicate_similarity": pa.float32()}


@op(reads="text", writes={"minhash": pa.binary(), "text_characters": pa.int64()}, version=2)
def text_signature(texts: Sequence[str], *, shingle_words: Count = 5, bands: Count = 25, rows: Count = 5) -> Columns:
    """MinHash of each text's runs of `shingle_words` plain words: bands x rows numbers of 32 bits; null without a word.

    A text of fewer words has one run. Of two texts, the share of numbers that agree estimates the Jaccard similarity
    of their sets of runs, with a standard error of at most .045 for 125 numbers.
    """
    return {
        "minhash": [_signature(text, shingle_words, bands * rows) for text in texts],
        "text_characters": [len(text) for text in texts],
    }


def _signature(text: str, shingle_words: int, count: int) -> bytes | None:
    numbers = plain_words(text).numbers
    if not len(numbers):
        return None
    shingles = window_hashes(numbers, min(shingle_words, len(numbers)))
    multipliers, shifts = _permutations(count)
    least = np.full(count, np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(shingles), _BLOCK_SHINGLES):
        block = _mix_bits(shingles[start : start + _BLOCK_SHINGLES])
        np.minimum(least, (multipliers * block + shifts).min(1), out=least)
    return (least >> np.uint64(32)).astype("<u4").tobytes()


@functools.cache
def _permutations(count: int) -> tuple[Numbers, Numbers]:
    """(count, 1) odd multipliers and (count, 1) shifts, the same on every machine."""
    drawn = (
        np.frombuffer(hashlib.shake_256(b"minhash").digest(count * 16), "<u8").astype(np.uint64).reshape(2, count, 1)
    )
    return drawn[0] | np.uint64(1), drawn[1]


def _mix_bits(numbers: Numbers) -> Numbers:
    """Numbers of runs well mixed, as a product with a constant leaves their low bits poor (splitmix64's finaliser)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


@group_op(after=text_signature, writes=NEAR, version=1)
def near_duplicate_texts(  # noqa: PLR0913 - a knob a rule
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    min_similarity: Share = 0.75,
    shingle_words: Count = 5,
    bands: Count = 25,
    rows: Count = 5,
) -> None:
    """`duplicate_of`: uid of the kept text that this one nearly repeats, null where the row is kept; their similarity.

    Kept is the longest text, then the smallest uid; every row was compared with the kept one it names. Similarity is
    the estimate from the signatures. Of pairs with similarity s, 1 - (1 - s^rows)^bands are compared by one band at
    least: .997 of those at .75, as it stands. Memory: one byte a row, and blocks; cost linear, see BUCKET_HEADS.
    """
    del shingle_words  # the signature's; a recipe says it here, as the engine makes the signatures by itself
    with _groups.database(scratch) as db:
        _rank(db, inputs)
        signatures = _spool(db, inputs, bands * rows, scratch)
        for name in ("proposed", "tried"):
            db.execute(f"CREATE TABLE {name} (a BIGINT, b BIGINT)")
        db.execute("CREATE TABLE alike (a BIGINT, b BIGINT, similarity FLOAT)")
        db.execute("CREATE TABLE assigned (head BIGINT, kept BIGINT, similarity FLOAT)")
        for band in range(bands):
            _propose(db, signatures[:, band * rows : (band + 1) * rows])
        _assign_kept(db, signatures, min_similarity)
        query = (
            "SELECT r.uid, nullif(coalesce(k.uid, t.uid), r.uid) AS duplicate_of,"
            " CASE WHEN k.uid IS NOT NULL THEN similarity WHEN t.uid <> r.uid THEN 1 END AS duplicate_similarity"
            " FROM ranked AS r LEFT JOIN distinct_texts AS t USING (head) LEFT JOIN assigned USING (head)"
            " LEFT JOIN distinct_texts AS k ON k.head = kept ORDER BY shard, row"
        )
        _groups.write_outputs(db, query, inputs, outputs, NEAR)


def _rank(db: DuckDBPyConnection, inputs: Sequence[Path]) -> None:
    """Tables `distinct_texts` (head, uid): signatures numbered in the kept order; `ranked` (shard, row, uid, head)."""
    db.execute("CREATE TABLE listed (shard BIGINT, row BIGINT, uid VARCHAR, digest VARCHAR, characters BIGINT)")
    for shard, path in enumerate(inputs):
        columns = "?, file_row_number, uid, md5(minhash), text_characters"
        found = f"SELECT {columns} FROM read_parquet(?, file_row_number = true)"
        db.execute(f"INSERT INTO listed {found}", [shard, str(path)])
    db.execute(
        "CREATE TABLE distinct_texts AS SELECT uid, digest,"
        " row_number() OVER (ORDER BY characters DESC, uid) - 1 AS head"
        " FROM (SELECT * FROM listed WHERE digest IS NOT NULL"
        " QUALIFY row_number() OVER (PARTITION BY digest ORDER BY characters DESC, uid) = 1)"
    )
    joined = "SELECT shard, row, l.uid, head FROM listed AS l LEFT JOIN distinct_texts USING (digest)"
    db.execute(f"CREATE TABLE ranked AS {joined}")
    db.execute("DROP TABLE listed")


def _spool(db: DuckDBPyConnection, inputs: Sequence[Path], width: int, scratch: Path) -> Signatures:
    """(distinct texts, width) the signatures in the kept order."""
    count = _groups.query_one(db, "SELECT count(*) FROM distinct_texts")
    signatures = _groups.map_zeros(scratch / "signatures", np.uint32, (count, width))
    sizes = [pq.read_metadata(path).num_rows for path in inputs]
    heads_by_shard = _groups.query_by_shard(db, "SELECT head FROM ranked ORDER BY shard, row", sizes)
    for path, heads in zip(inputs, heads_by_shard, strict=True):
        found = pq.read_table(path, columns=["minhash"])["minhash"].drop_null()
        if len(found):
            joined = b"".join(found.to_pylist())
            signatures[heads["head"].drop_null().to_numpy()] = np.frombuffer(joined, "<u4").reshape(-1, width)
    return signatures


def _propose(db: DuckDBPyConnection, band: Signatures) -> None:
    """Adds to `proposed` pairs a < b of texts whose numbers of this band agree: each with the bucket's first ones."""
    db.execute("CREATE OR REPLACE TABLE keyed (key UBIGINT, head BIGINT)")
    for start in range(0, len(band), _groups.BLOCK_ROWS):
        numbers = band[start : start + _groups.BLOCK_ROWS].astype(np.uint64)
        keys = window_hashes(numbers.ravel(), numbers.shape[1])[:: numbers.shape[1]]
        _groups.insert(db, "keyed", key=keys, head=np.arange(start, start + len(numbers)))
    db.execute(
        "INSERT INTO proposed WITH placed AS (SELECT key, head,"
        " row_number() OVER (PARTITION BY key ORDER BY head) AS place FROM keyed"
        " QUALIFY count(*) OVER (PARTITION BY key) > 1)"
        " SELECT l.head, r.head FROM placed AS l JOIN placed AS r ON l.key = r.key AND l.place < r.place"
        f" WHERE l.place <= {BUCKET_HEADS}"
    )


def _assign_kept(db: DuckDBPyConnection, signatures: Signatures, min_similarity: float) -> None:
    """Fills `assigned`; where a kept text is like a copy, that copy's representative is looked at too, and again."""
    for _ in range(EXTEND_ROUNDS):
        db.execute("CREATE OR REPLACE TABLE fresh AS SELECT DISTINCT a, b FROM proposed ANTI JOIN tried USING (a, b)")
        if not _groups.query_one(db, "SELECT count(*) FROM fresh"):
            return
        _decide(db, signatures, min_similarity)
        db.execute("INSERT INTO tried FROM fresh")
        _groups.assign_kept(
            db, len(signatures), "SELECT b, a, similarity FROM alike ORDER BY b, similarity DESC, a", BLOCK_PAIRS
        )
        db.execute(
            "INSERT INTO proposed"
            " WITH beside AS (SELECT a AS copy, b AS other FROM alike UNION ALL SELECT b, a FROM alike)"
            " SELECT DISTINCT least(other, kept), greatest(other, kept) FROM beside JOIN assigned ON copy = head"
            " WHERE other <> kept AND other NOT IN (SELECT head FROM assigned)"
        )


def _decide(db: DuckDBPyConnection, signatures: Signatures, min_similarity: float) -> None:
    """Adds to `alike` those of the `fresh` pairs whose signatures agree in `min_similarity` of their numbers."""
    for batch in _groups.query_blocks(db, "SELECT a, b FROM fresh ORDER BY a, b", BLOCK_PAIRS):
        a, b = (column.to_numpy() for column in batch.columns)
        similarity = (signatures[a] == signatures[b]).mean(1, dtype=np.float64)
        near = similarity >= min_similarity
        _groups.insert(db, "alike", a=a[near], b=b[near], similarity=similarity[near].astype(np.float32))
