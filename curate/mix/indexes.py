"""Lengths of samples in a unit, read from shards' indexes, never from the tars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.mix.schedule import Ints, MixtureError
from curate.shards import ShardError
from curate.shards.index import as_numpy, as_one_array

ANSWER_TOKENS, IMAGES, TEXT_TOKENS = "answer_tokens", "images", "text_tokens"
LAYOUT = "layout"
"""Of a document, in order: the tokens of each text, -1 for an image, -2 - n for a prompt of n tokens; what its system
is told is none of them."""
SYSTEM_TOKENS = "system_tokens"
"""Of a document: the tokens of what its system is told."""
COUNTED_BY = "text_tokens_by"
"""Names, in an index's metadata, by what its texts were counted (`content.counting`)."""


def chosen_tokens(key: str) -> str:
    """The column that tells the tokens of each text found under a mixture's key."""
    return f"{TEXT_TOKENS}:{key}"


def sample_lengths(index: Path, kind: str, unit: str, visual_tokens: int) -> Ints:
    """The length of each sample of a shard in `unit`, from its index."""
    table = read_index(index)
    if unit == "samples":
        return np.ones(len(table), np.int64)
    if unit == "total_tokens":
        return _column(table, index, kind, TEXT_TOKENS) + visual_tokens * _column(table, index, kind, IMAGES)
    return _column(table, index, kind, unit)


def read_index(index: Path) -> pa.Table:
    """An index as a memory-mapped table. Raises ShardError."""
    try:
        with pa.memory_map(str(index)) as source:
            return pa.ipc.open_file(source).read_all()
    except FileNotFoundError:
        raise ShardError(f"{index}: no such index; make it with `curate index`") from None
    except (pa.ArrowInvalid, OSError) as err:
        raise ShardError(f"{index}: not a readable index ({err}); make it again with `curate index`") from None


def _column(table: pa.Table, index: Path, kind: str, name: str) -> Ints:
    if name not in table.column_names:
        # A caption sample is one image and its texts, a text sample has none: no column needs to say so.
        if name == IMAGES and kind in ("caption", "ocr", "text"):
            return np.full(len(table), int(kind != "text"), np.int64)
        raise MixtureError(
            f"{index}: has no column {name!r}, so how long its samples are is not known; add it with"
            f" `curate index {index.parent} --tokenizer NAME`, or weigh and train without lengths"
        )
    column = as_one_array(table.column(name))
    countable = pa.types.is_integer(column.type) and not column.null_count
    out: Ints = as_numpy(column).astype(np.int64) if countable else np.array([-1])
    if out.min(initial=0) < 0:
        raise MixtureError(f"{index}: column {name!r} must be whole numbers of 0 or more, without gaps; index again")
    return out
