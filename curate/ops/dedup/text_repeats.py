"""Repeated lines and paragraphs (menus, notices, licences): counted over the corpus, and taken out.

`line_digests` gives each line of a text a number, `repeated_lines` names those that stand in many texts, and
`without_repeated_lines` writes the text without them. CCNet (Wenzek et al. 2020, section 3.2) does so with paragraphs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from curate.ops import _groups
from curate.ops.spec import Columns, Count, group_op, op

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Unit = Literal["line", "paragraph"]
REPEATED = {
    "repeated_lines": pa.list_(pa.int32()),
    "repeated_line_share": pa.float32(),
    "repeated_character_share": pa.float32(),
}

_DIGITS = re.compile(r"\d+")
_SEPARATORS: dict[Unit, re.Pattern[str]] = {"line": re.compile(r"\n"), "paragraph": re.compile(r"\n[ \t]*\n\s*")}


@op(
    reads="text",
    writes={"line_digests": pa.list_(pa.int64()), "line_characters": pa.list_(pa.int32())},
    version=1,
)
def line_digests(texts: Sequence[str], *, unit: Unit = "line") -> Columns:
    """A number for each line (or paragraph), letter case, digits and the width of spaces aside; null without a letter.

    Numbers are 64 bits of a digest: among 1e9 different lines, two agree by chance with a probability of .03.
    """
    lines = [_lines(text, unit) for text in texts]
    return {
        "line_digests": [[_digest(line) for line in each] for each in lines],
        "line_characters": [[len(line) for line in each] for each in lines],
    }


def _lines(text: str, unit: Unit) -> list[str]:
    return _SEPARATORS[unit].split(text)


def _digest(line: str) -> int | None:
    folded = _DIGITS.sub("0", " ".join(line.casefold().split()))
    if not any(map(str.isalpha, folded)):
        return None
    digest = hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


@group_op(after=line_digests, writes=REPEATED, version=1)
def repeated_lines(
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    unit: Unit = "line",
    min_texts: Count = 3,
    keep_first: bool = False,
) -> None:
    """Find the lines (or paragraphs) of a text that stand in `min_texts` texts or more, by their place in it, from 0.

    Their share of the text's lines that have a letter, and of those lines' characters. `keep_first`: where the text
    with the smallest uid has such a line, it is not counted there (CCNet); else it is, wherever it stands (OBELICS).
    A line that one text repeats counts once. Memory: DuckDB's, with spilling; cost linear.
    """
    del unit  # the digests'; a recipe says it here, as the engine makes them by itself
    with _groups.database(scratch) as db:
        db.execute(
            "CREATE TABLE lines (shard BIGINT, row BIGINT, uid VARCHAR, place INT, digest BIGINT, characters INT)"
        )
        for shard, path in enumerate(inputs):
            db.execute(
                "INSERT INTO lines SELECT ?, file_row_number, uid, generate_subscripts(line_digests, 1) - 1,"
                " unnest(line_digests), unnest(line_characters) FROM read_parquet(?, file_row_number = true)",
                [shard, str(path)],
            )
        db.execute(
            "CREATE TABLE common AS SELECT digest, min(uid) AS first FROM lines WHERE digest IS NOT NULL"
            " GROUP BY digest HAVING count(DISTINCT uid) >= ?",
            [min_texts],
        )
        _write_repeats(db, inputs, outputs, keep_first)


def _write_repeats(db: DuckDBPyConnection, inputs: Sequence[Path], outputs: Sequence[Path], keep_first: bool) -> None:
    again = "common.digest IS NOT NULL" + (" AND lines.uid <> first" if keep_first else "")
    db.execute(
        f"CREATE TABLE judged AS SELECT shard, row, place, {again} AS again, characters"
        " FROM lines LEFT JOIN common USING (digest) WHERE lines.digest IS NOT NULL"
    )
    db.execute("CREATE TABLE listed (shard BIGINT, row BIGINT, uid VARCHAR)")
    for shard, path in enumerate(inputs):
        rows = "SELECT ?, file_row_number, uid FROM read_parquet(?, file_row_number = true)"
        db.execute(f"INSERT INTO listed {rows}", [shard, str(path)])
    query = (
        "SELECT any_value(uid) AS uid, coalesce(list(place ORDER BY place) FILTER (again), []) AS repeated_lines,"
        " coalesce(count(*) FILTER (again) / nullif(count(again), 0), 0) AS repeated_line_share,"
        " coalesce(sum(characters) FILTER (again) / nullif(sum(characters), 0), 0) AS repeated_character_share"
        " FROM listed LEFT JOIN judged USING (shard, row) GROUP BY shard, row ORDER BY shard, row"
    )
    _groups.write_outputs(db, query, inputs, outputs, REPEATED)


@op(reads=("text", "repeated_lines"), writes={"text": pa.string()}, version=1)
def without_repeated_lines(texts: Sequence[str], repeated: Sequence[Sequence[int]], *, unit: Unit = "line") -> Columns:
    """The text that later steps read: without the lines (or paragraphs, as there) that `repeated_lines` found."""
    return {"text": [_drop_lines(text, set(places), unit) for text, places in zip(texts, repeated, strict=True)]}


def _drop_lines(text: str, places: set[int], unit: Unit) -> str:
    if not places:
        return text
    kept = [line for place, line in enumerate(_lines(text, unit)) if place not in places]
    return ("\n" if unit == "line" else "\n\n").join(kept).strip("\n")
