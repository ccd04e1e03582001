"""Text near-deduplication: keys and a sketch a row, then a group op that names the kept text.

A pair is proposed by a key that both have and decided by how many runs of words they share; a chain of likenesses
never removes anything. Out of core: tables are DuckDB's, arrays are memory-mapped files in the scratch folder, and
pairs lie in files, a file a range of texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.ops import _groups
from curate.ops.dedup._sketches import SKETCH_NUMBERS, Hashes, Places, Sketches, band_keys
from curate.ops.dedup._word_runs import distinct_runs
from curate.ops.spec import Columns, Count, Share, group_op, op

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Pairs = npt.NDArray[np.uint64]
"""Two texts each, by their places in the kept order: the later in the upper 32 bits, the earlier in the lower."""
_EARLIER = np.uint64(0xFFFFFFFF)

BUCKET_HEADS = 16
"""Each text is compared with the first so many that have its key: cost stays linear where a million texts have one."""
RANGE_TEXTS = 1 << 16
BLOCK_PAIRS = 4096
SLICE_TEXTS = 1 << 24

SIGNATURE = {
    "text_digest": pa.binary(),
    "text_keys": pa.binary(),
    "text_sketch": pa.binary(),
    "text_characters": pa.int64(),
}
NEAR = {"duplicate_of": pa.string(), "duplicate_similarity": pa.float32()}


@op(reads="text", writes=SIGNATURE, version=3, batch_size=256)
def text_signature(texts: Sequence[str], *, shingle_words: Count = 2, bands: Count = 24, rows: Count = 4) -> Columns:
    """Of the set of each text's runs of `shingle_words` plain words: a digest, `bands` keys and a sketch.

    For `near_duplicate_texts`: up to 1.2 kB a row. Null without a word; a text of fewer words has one run. A key is
    made of `rows` MinHashes; the sketch is the set's smallest hashes, the whole set where it has up to 256.
    """
    import xxhash

    hashes, places = distinct_runs(texts, shingle_words)
    keys = band_keys(hashes, places, bands, rows)
    sets = [hashes[start:end] for start, end in zip(places[:-1].tolist(), places[1:].tolist(), strict=True)]
    return {
        "text_digest": [xxhash.xxh3_128_digest(each.tobytes()) if len(each) else None for each in sets],
        "text_keys": [key.tobytes() if len(each) else None for key, each in zip(keys, sets, strict=True)],
        "text_sketch": [each[:SKETCH_NUMBERS].tobytes() if len(each) else None for each in sets],
        "text_characters": [len(text) for text in texts],
    }


@group_op(after=text_signature, writes=NEAR, version=2)
def near_duplicate_texts(  # noqa: PLR0913 - a knob a rule
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    min_similarity: Share = 0.62,
    shingle_words: Count = 2,
    bands: Count = 24,
    rows: Count = 4,
) -> None:
    """`duplicate_of`: uid of the kept text that this one nearly repeats, null where the row is kept; their similarity.

    Kept is the longest text, then the smallest uid; every row was compared with the kept one it names. Similarity is
    that of their sets of runs of `shingle_words` words (Jaccard): exact up to 256 runs, else estimated. Where m of n
    words were replaced it is at least (n - 1 - 2m) / (n - 1 + 2m): .66 where a tenth was. Of pairs with similarity s,
    1 - (1 - s^rows)^bands share a key and are compared: .995 of those at .66, as it stands. Not compared are two texts
    that share no key but those of more than BUCKET_HEADS texts that come before both. Memory: 16 bytes a row, and
    blocks; cost linear.
    """
    del shingle_words, rows  # the signature's; a recipe says them here, as the engine makes the signatures by itself
    if not inputs:
        return
    with _groups.database(scratch) as db:
        _rank(db, inputs)
        texts = _spool(db, inputs, bands, scratch)
        pairs = _propose(texts, scratch)
        _assign_kept(db, texts.sketches, pairs, min_similarity)
        query = (
            "SELECT r.uid, nullif(coalesce(k.uid, t.uid), r.uid) AS duplicate_of,"
            " CASE WHEN k.uid IS NOT NULL THEN similarity WHEN t.uid <> r.uid THEN 1 END AS duplicate_similarity"
            " FROM ranked AS r LEFT JOIN distinct_texts AS t USING (head) LEFT JOIN assigned USING (head)"
            " LEFT JOIN distinct_texts AS k ON k.head = kept ORDER BY shard, row"
        )
        _groups.write_outputs(db, query, inputs, outputs, NEAR)


def _rank(db: DuckDBPyConnection, inputs: Sequence[Path]) -> None:
    """Tables `distinct_texts` (head, uid): distinct texts numbered in the kept order; `ranked` (shard, row, uid, head).

    Texts are one where their digests are.
    """
    _groups.gather_inputs(db, "listed", inputs, "uid, text_digest AS digest, text_characters AS characters")
    db.execute(
        "CREATE TABLE distinct_texts AS SELECT uid, digest,"
        " row_number() OVER (ORDER BY characters DESC, uid) - 1 AS head"
        " FROM (SELECT * FROM listed WHERE digest IS NOT NULL"
        " QUALIFY row_number() OVER (PARTITION BY digest ORDER BY characters DESC, uid) = 1)"
    )
    joined = "SELECT shard, row, l.uid, head FROM listed AS l LEFT JOIN distinct_texts USING (digest)"
    db.execute(f"CREATE TABLE ranked AS {joined}")
    db.execute("DROP TABLE listed")


@dataclass(frozen=True)
class _Texts:
    """The distinct texts in the kept order: memory-mapped, so that only the pages in use are held."""

    keys: Hashes
    """(bands, texts)"""
    sketches: Sketches


def _spool(db: DuckDBPyConnection, inputs: Sequence[Path], bands: int, scratch: Path) -> _Texts:
    count = _groups.query_one(db, "SELECT count(*) FROM distinct_texts")
    keys = _groups.map_zeros(scratch / "keys", np.uint32, (bands, count))
    begins = _groups.map_zeros(scratch / "begins", np.int64, (count,))
    sizes = _groups.map_zeros(scratch / "sizes", np.int32, (count,))
    lengths = [pq.read_metadata(path).num_rows for path in inputs]
    heads_by_shard = _groups.query_by_shard(db, "SELECT head FROM ranked ORDER BY shard, row", lengths)
    written = 0
    with (scratch / "sketches").open("wb") as sketches:
        for path, answer in zip(inputs, heads_by_shard, strict=True):
            found = pq.read_table(path, columns=["text_keys", "text_sketch"]).combine_chunks()
            heads = answer["head"].drop_null().to_numpy()
            numbers, sizes_here = _numbers_of(found["text_sketch"])
            keys[:, heads] = _numbers_of(found["text_keys"])[0].reshape(-1, bands).T
            begins[heads] = written + np.cumsum(sizes_here) - sizes_here
            sizes[heads] = sizes_here
            sketches.write(numbers.tobytes())
            written += len(numbers)
    hashes = np.memmap(scratch / "sketches", np.uint32, "r") if written else np.zeros(0, np.uint32)
    return _Texts(keys, Sketches(hashes, begins, sizes))


def _numbers_of(column: pa.ChunkedArray) -> tuple[Hashes, npt.NDArray[np.int32]]:
    """The numbers of 32 bits in a column of bytes, nulls left out, and how many each row has."""
    values = column.drop_null().to_pylist()
    return np.frombuffer(b"".join(values), "<u4"), np.array([len(each) // 4 for each in values], np.int32)


def _propose(texts: _Texts, scratch: Path) -> list[Path]:
    """Files of pairs to compare, the n-th of those whose later text is of the n-th RANGE_TEXTS."""
    count = texts.keys.shape[1]
    files = [scratch / f"pairs.{number}" for number in range(-(-count // RANGE_TEXTS))]
    for path in files:
        path.write_bytes(b"")
    for keys in texts.keys:
        for pairs in _pairs_of(keys):
            pairs.sort()
            limits = np.arange(len(files) + 1, dtype=np.uint64) * np.uint64(RANGE_TEXTS) << np.uint64(32)
            bounds = np.searchsorted(pairs, limits)
            for path, start, end in zip(files, bounds[:-1], bounds[1:], strict=True):
                if start < end:
                    with path.open("ab") as file:
                        file.write(pairs[start:end].tobytes())
    return files


def _pairs_of(keys: Hashes) -> Iterator[Pairs]:
    """Pairs of texts whose keys of a band agree, for a slice of keys after the other."""
    slices = -(-len(keys) // SLICE_TEXTS)
    for number in range(slices):
        here = np.flatnonzero(keys % np.uint32(slices) == number) if slices > 1 else np.arange(len(keys))
        keyed = keys[here].astype(np.uint64) << np.uint64(32) | here.astype(np.uint64)
        if not len(keyed):
            continue
        keyed.sort()
        same = keyed[1:] >> np.uint64(32) == keyed[:-1] >> np.uint64(32)
        keyed = keyed[np.append(same, False) | np.insert(same, 0, False)]
        yield from _bucket_pairs(keyed)


def _bucket_pairs(keyed: Pairs) -> Iterator[Pairs]:
    """Of (key, text) in order: each text with the first BUCKET_HEADS of those that have its key."""
    starts = np.flatnonzero(np.diff(keyed >> np.uint64(32), prepend=~np.uint64(0)))
    sizes = np.diff(starts, append=len(keyed))
    first = np.repeat(starts, sizes)
    places = np.arange(len(keyed)) - first
    texts = keyed & _EARLIER
    for place in range(BUCKET_HEADS):
        later = np.flatnonzero(places > place)
        yield (texts[later] << np.uint64(32)) | texts[first[later] + place]


def _assign_kept(db: DuckDBPyConnection, sketches: Sketches, files: Sequence[Path], min_similarity: float) -> None:
    """Table `assigned` (head, kept, similarity): in the kept order, what is like an earlier kept text is its copy."""
    db.execute("CREATE TABLE assigned (head BIGINT, kept BIGINT, similarity FLOAT)")
    kept = np.arange(len(sketches.sizes))
    for path in files:
        pairs = np.unique(np.fromfile(path, np.uint64))
        found: dict[int, tuple[int, float]] = {}
        for later, alike in _alike(sketches, pairs, min_similarity):
            if likest := _likest(sketches, later, alike, kept, min_similarity):
                kept[later], found[later] = likest[0], likest
        if found:
            heads, similarities = zip(*found.values(), strict=True)
            columns = {"kept": np.array(heads), "similarity": np.array(similarities, np.float32)}
            _groups.insert(db, "assigned", head=np.array(list(found)), **columns)


def _alike(sketches: Sketches, pairs: Pairs, min_similarity: float) -> Iterator[tuple[int, list[tuple[float, int]]]]:
    """Each later text with the earlier ones that are like it, (-similarity, which), the likest first."""
    current, found = -1, list[tuple[float, int]]()
    for start in range(0, len(pairs), BLOCK_PAIRS):
        block = pairs[start : start + BLOCK_PAIRS]
        later, earlier = (block >> np.uint64(32)).astype(np.int64), (block & _EARLIER).astype(np.int64)
        similarities = sketches.similarities(later, earlier)
        near = similarities >= min_similarity
        for text, other, similarity in zip(*(x[near].tolist() for x in (later, earlier, similarities)), strict=True):
            if text != current and found:
                yield current, sorted(found)
                found = []
            current = text
            found.append((-similarity, other))
    if found:
        yield current, sorted(found)


def _likest(
    sketches: Sketches, text: int, alike: Sequence[tuple[float, int]], kept: Places, min_similarity: float
) -> tuple[int, float] | None:
    """The likest kept text and how like it is; where all that are alike are copies, of the texts they are copies of."""
    for similarity, other in alike:
        if kept[other] == other:
            return other, -similarity
    others = np.unique(kept[[other for _, other in alike]])
    similarities = sketches.similarities(np.full(len(others), text), others)
    likest = int(similarities.argmax())
    return (int(others[likest]), float(similarities[likest])) if similarities[likest] >= min_similarity else None
