"""Image deduplication: a signature a row, then a group op that names the kept image of every copy.

`image_signature` keeps a digest of the decoded pixels and a small thumbnail. `duplicate_images` reads these columns
alone: equal digests are exact duplicates; for the rest, coarse hashes of the thumbnail and of windows in it propose
pairs, and laying one on the other decides: the thumbnails (`_lookalike.py`), then what is finer (`_detail.py`). Out of
core: tables and joins are DuckDB's, arrays are memory-mapped files in the scratch folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.ops import _groups
from curate.ops.dedup import _lookalike as look
from curate.ops.dedup._frames import spool_frames
from curate.ops.dedup._near_images import find_near
from curate.ops.dedup._signature import MAX_DIFFERENCE_LEVELS, image_signature, rank_pictures
from curate.ops.spec import Amount, Share, group_op

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DUPLICATE = {"duplicate_of": pa.string(), "duplicate_kind": pa.string(), "duplicate_similarity": pa.float32()}


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
