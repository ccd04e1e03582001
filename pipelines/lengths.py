"""Lengths of texts and numbers of images, as columns of a dataset's indexes: what `curate index --tokenizer` adds.

The tars and dataset.json stay as they are, so that a mixture made before goes on being valid. A text is what the part
`txt` of a sample says; a sample without it has length 0.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from curate.sample import commit_file
from curate.shards import ShardReader, load_dataset
from curate.shards.info import dataset_file
from curate.text_tokens import Count, token_counter

COLUMN = "text_tokens"
IMAGES = "images"
IMAGE_PARTS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "avif", "bmp", "tif", "tiff"})
MADE_BY = "text_tokens_by"


def add_text_tokens(dataset: Path, tokenizer: str) -> dict[str, int]:
    """Write the column into every index of a dataset, each whole or not at all; returns samples and tokens counted.

    An index that has the column by the same tokenizer is left alone. Raises ValueError for a tokenizer not known.
    """
    count, info, total = token_counter(tokenizer), load_dataset(dataset), 0
    folder = dataset_file(dataset).parent
    for shard in info.shards:
        with ShardReader(folder / shard.tar, folder / shard.index) as reader:
            table = reader.table
            if reader.metadata.get(MADE_BY) != tokenizer:
                rows = range(len(reader))
                table = _with(table, COLUMN, [_length(reader, row, count) for row in rows])
                table = _with(table, IMAGES, [_images(reader, row) for row in rows])
                metadata = {**(table.schema.metadata or {}), MADE_BY.encode(): tokenizer.encode()}
                table = table.replace_schema_metadata(metadata)
                with commit_file(folder / shard.index) as temporary:
                    _write(table, temporary)
            total += sum(table.column(COLUMN).to_pylist())
    return {"samples": info.samples, COLUMN: total}


def _length(reader: ShardReader, row: int, count: Count) -> int:
    if not any(part.name == "txt" for part in reader.parts(row)):
        return 0
    return count(reader.read_part(row, "txt").decode("utf-8", "replace"))


def _images(reader: ShardReader, row: int) -> int:
    return sum(part.name.rpartition(".")[2].lower() in IMAGE_PARTS for part in reader.parts(row))


def _with(table: pa.Table, name: str, numbers: list[int]) -> pa.Table:
    kept = table.drop_columns([name]) if name in table.column_names else table
    return kept.append_column(pa.field(name, pa.int32()), pa.array(numbers, pa.int32()))


def _write(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
