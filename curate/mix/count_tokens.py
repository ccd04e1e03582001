"""Count tokens of samples into a dataset's indexes (`curate index --tokenizer`).

    text_tokens        tokens of the sample's own texts, counted as the trainer spells them
    answer_tokens      of these, the tokens that are predicted: all but a conversation's questions and system prompts
    images             images that are there
    system_tokens      of a document: the tokens of what its system is told, which comes before all
    layout             of a document, in order: the tokens of each other text, -1 for an image, -2 - n for a prompt of n
    text_tokens:KEY    tokens of each text found under KEY, of which a mixture may choose (`texts`)

The tars and dataset.json stay as they are, so that a mixture made before goes on being valid. A sample that does not
say what its kind should has length 0; a stream replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.commit import commit_file
from curate.mix.content import (
    PICTURE,
    Picture,
    Prompt,
    Segment,
    laid_prompt,
    laid_tokens,
    part_system,
    sample_segments,
    texts_under,
)
from curate.mix.indexes import (
    ANSWER_TOKENS,
    COUNTED_BY,
    IMAGES,
    LAYOUT,
    SYSTEM_TOKENS,
    TEXT_TOKENS,
    chosen_tokens,
)
from curate.process import hold
from curate.sample import Kind
from curate.shards import ShardInfo, ShardReader, load_dataset
from curate.shards.info import dataset_file
from curate.tokens.counter import Count, token_counter

Row = dict[str, Any]


def add_text_tokens(dataset: Path, tokenizer: str, texts: Sequence[str] = ()) -> dict[str, int]:
    """Write the columns into every index of a dataset, each whole or not at all; returns samples and tokens counted.

    `texts` are the keys that a mixture may choose from. An index that has its columns by the same tokenizer and rules
    is left alone. Raises ValueError for a tokenizer not known.
    """
    (count, mark), info, total = token_counter(tokenizer), load_dataset(dataset), 0
    folder = dataset_file(dataset).parent
    with hold(folder):
        for shard in info.shards:
            total += _add_to_index(folder, shard, _Counting(info.kind, count, mark, texts))
    return {"samples": info.samples, TEXT_TOKENS: total}


@dataclass(frozen=True)
class _Counting:
    """What is counted of samples of a kind: tokens by `count`, whose mark is kept; and the keys of texts."""

    kind: Kind
    count: Count
    mark: str
    texts: Sequence[str]


def _add_to_index(folder: Path, shard: ShardInfo, of: _Counting) -> int:
    """Write the columns into a shard's index, unless it has them; returns its tokens."""
    with ShardReader(folder / shard.tar, folder / shard.index) as reader:
        table = reader.table
        wanted = _schema(of.kind, of.texts)
        if reader.metadata.get(COUNTED_BY) != of.mark or not set(wanted.names) <= set(table.column_names):
            rows = list(_count_rows(reader, of.kind, of.count, of.texts))
            table = _with_columns(table, pa.Table.from_pylist(rows, wanted), of.mark)
            with commit_file(folder / shard.index) as temporary:
                _write(table, temporary)
    return sum(table.column(TEXT_TOKENS).to_pylist())


def _schema(kind: Kind, texts: Sequence[str]) -> pa.Schema:
    fields = [pa.field(name, pa.int32()) for name in (TEXT_TOKENS, ANSWER_TOKENS, IMAGES)]
    if kind == "interleaved":
        fields += [pa.field(SYSTEM_TOKENS, pa.int32()), pa.field(LAYOUT, pa.list_(pa.int32()))]
    return pa.schema([*fields, *(pa.field(chosen_tokens(key), pa.list_(pa.int32())) for key in texts)])


def _count_rows(reader: ShardReader, kind: Kind, count: Count, texts: Sequence[str]) -> Iterator[Row]:
    wordy = {"txt", *texts, *(["json"] if texts or kind == "interleaved" else [])}
    for row in range(len(reader)):
        names = [part.name for part in reader.parts(row)]
        parts = {name: reader.read_part(row, name) if name in wordy else b"" for name in names}
        told, segments = part_system(_segments_or_none(kind, parts))
        system_tokens = count(told)
        laid = [_lay(segment, count) for segment in segments]
        yield {
            TEXT_TOKENS: system_tokens + sum(map(laid_tokens, laid)),
            ANSWER_TOKENS: sum(part for part in laid if part > 0),
            IMAGES: laid.count(PICTURE),
            SYSTEM_TOKENS: system_tokens,
            LAYOUT: laid,
            **{chosen_tokens(key): _count_texts_under(parts, key, count) for key in texts},
        }


def _lay(segment: Segment, count: Count) -> int:
    """How a segment stands in a layout."""
    if isinstance(segment, Picture):
        return PICTURE
    return laid_prompt(count(segment.text)) if isinstance(segment, Prompt) else count(segment)


def _segments_or_none(kind: Kind, parts: Mapping[str, bytes]) -> Sequence[Segment]:
    try:
        return sample_segments(kind, parts)
    except (ValueError, RecursionError):
        return []


def _count_texts_under(parts: Mapping[str, bytes], key: str, count: Count) -> list[int]:
    try:
        return [count(text) for text in texts_under(parts, key)]
    except (ValueError, RecursionError):
        return []


def _with_columns(table: pa.Table, counted: pa.Table, mark: str) -> pa.Table:
    """The index with the counted columns in place of any it had by those names."""
    kept = table.drop_columns([name for name in counted.column_names if name in table.column_names])
    for field in counted.schema:
        kept = kept.append_column(field, counted.column(field.name))
    return kept.replace_schema_metadata({**(table.schema.metadata or {}), COUNTED_BY.encode(): mark.encode()})


def _write(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
