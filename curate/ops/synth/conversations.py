"""Ops on conversations as they are: those about one image become one, and turns are shuffled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.document.segments import DOCUMENT, Segment, is_image, text_of
from curate.ops import _groups
from curate.ops._keys import generator
from curate.ops.spec import Columns, Count, Natural, group_op, op, spec_of


@op(
    reads="document",
    writes={"conversation_key": pa.string(), "conversation_turns": pa.int32()},
    version=1,
    batch_size=256,
)
def conversation_key(documents: Sequence[Sequence[Segment]]) -> Columns:
    """Digest of what conversations share that can be one: their images, by URL, and what their system is told.

    Null without images, and where an image stands within a turn: its place in the document says what it shows.
    `conversation_turns`: questions with their answers.
    """
    parted = [part_turns(document) for document in documents]
    return {
        "conversation_key": [_key(head, turns) for head, turns in parted],
        "conversation_turns": [len(turns) for _, turns in parted],
    }


@group_op(
    after=conversation_key,
    reads=("document",),
    writes={"document": DOCUMENT, "text": pa.string(), "merged_into": pa.string(), "merged_turns": pa.int32()},
    version=1,
)
def merged_conversations(
    inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path, *, max_turns: Count = 64
) -> None:
    """Make one conversation of all that are about one image: Idefics2 (Laurençon et al. 2405.02246, 4.1).

    The first of them by uid gets the turns of all, in the order of their uids; `merged_into` names it in the others,
    which stay as they are: `keep: {merged_into: {is: null}}`. Where they are more than about `max_turns`, further ones
    make another conversation. Put it before the images are fetched, and `shuffled_turns` after it.
    """
    with _groups.database(scratch) as db:
        columns = "uid, document, conversation_key AS key, greatest(conversation_turns, 1) AS turns"
        _groups.gather_inputs(db, "rows", inputs, columns)
        db.execute(_PLACE.format(most=int(max_turns)))
        sizes = [pq.read_metadata(path).num_rows for path in inputs]
        found = _groups.query_by_shard(db, _ANSWER, sizes)
        schema = pa.schema([("uid", pa.string()), *spec_of(merged_conversations).writes.items()])
        for path, table in zip(outputs, found, strict=True):
            rows = [_merged(row["uid"], row["holder"], row["document"], row["others"]) for row in table.to_pylist()]
            pq.write_table(pa.Table.from_pylist(rows, schema), path)


_PLACE = """
CREATE TABLE placed AS SELECT *, row_number() OVER (PARTITION BY key, part ORDER BY uid, shard, row) AS rank FROM (
    SELECT *, (sum(turns) OVER (PARTITION BY key ORDER BY uid, shard, row) - turns) // {most} AS part FROM rows
)
"""
"""Which part of its key's turns a row stands in, and at which place."""

_ANSWER = """
WITH held AS (
    SELECT key, part, min(uid) AS holder, list(document ORDER BY uid, shard, row) AS documents
    FROM placed WHERE key IS NOT NULL GROUP BY key, part HAVING count(*) > 1
)
SELECT uid, document, CASE WHEN rank > 1 THEN holder END AS holder, CASE WHEN rank = 1 THEN documents END AS others
FROM placed LEFT JOIN held USING (key, part) ORDER BY shard, row
"""
"""A document, the one that holds its turns where another does, and where it is that one, all that it holds."""


def _merged(uid: str, holder: str | None, own: list[Segment], held: list[list[Segment]] | None) -> dict[str, object]:
    if held:
        own = [*part_turns(own)[0], *(s for document in held for turn in part_turns(document)[1] for s in turn)]
    turns = len(part_turns(own)[1])
    return {"uid": uid, "document": own, "text": text_of(own), "merged_into": holder, "merged_turns": turns}


@op(reads=("document", "uid"), writes={"document": DOCUMENT, "text": pa.string()}, version=1, batch_size=256)
def shuffled_turns(documents: Sequence[list[Segment]], uids: Sequence[str], *, seed: Natural = 0) -> Columns:
    """Shuffle the turns of a conversation by (seed, uid): Idefics2 (2405.02246, 4.1).

    One with an image within a turn stays as it is. Put it before the images are fetched.
    """
    found = [_shuffled(document, uid, seed) for document, uid in zip(documents, uids, strict=True)]
    return {"document": found, "text": [text_of(document) for document in found]}


def part_turns(document: Sequence[Segment]) -> tuple[list[Segment], list[list[Segment]]]:
    """Part a conversation: all before its first question; then a turn from each question that follows no other."""
    head: list[Segment] = []
    turns: list[list[Segment]] = []
    before = None
    for segment in document:
        block = segment["block"]
        if block == "question" and before != "question":
            turns.append([])
        (turns[-1] if turns else head).append(segment)
        before = before if is_image(segment) else block
    return head, turns


def _key(head: Sequence[Segment], turns: Sequence[Sequence[Segment]]) -> str | None:
    images = [str(s["url"]) for s in head if is_image(s)]
    if not images or any(is_image(s) for turn in turns for s in turn):
        return None
    told = [str(s["text"]) for s in head if not is_image(s)]
    return hashlib.blake2b(repr((images, told)).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _shuffled(document: list[Segment], uid: str, seed: int) -> list[Segment]:
    head, turns = part_turns(document)
    if len(turns) < 2 or any(is_image(s) for turn in turns for s in turn):
        return document
    order = generator(seed, uid, "turns").permutation(len(turns)).tolist()
    return [*head, *(segment for n in order for segment in turns[n])]
