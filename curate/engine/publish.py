"""Publish the kept rows, in one seeded order, as webdataset tars with indexes and `dataset.json`.

The order is a sort of all kept rows by a hash of seed and uid, out of core; it is cut into output shards, and
each is written by a task of its own. A dataset is built beside the old one and takes its place when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.commit import commit_file, commit_text, dump_json, read_json
from curate.engine import formats
from curate.pool.damage import DamagedError
from curate.pool.layout import Pool, shard_name
from curate.pool.payloads import Blobs
from curate.pool.tables import read_table, write_table
from curate.recipe.model import Publish, Recipe
from curate.sample import Kind
from curate.shards import DatasetInfo, ShardInfo, ShardWriter, save_dataset

KEPT = ("uid", "origin", "meta", "tar", "ext", "offset", "nbytes", "sha256")
"""What a kept row carries from the pool, besides its content and the columns that the recipe publishes."""

CONTENT_PLACE = ("content", "content_at", "content_bytes", "content_sha256")
"""Columns of a kept row that say where its content lies, relative to the pool, and what it is."""

MEMORY_LIMIT = "256MB"

CODEC = "zstd"
"""What packs the content of kept rows until they are published."""

SHORT = 512
"""Bytes of content below which packing costs more than it saves: a caption's."""


def shuffle_key(seed: int, uid: str) -> int:
    """The key that sorts a sample in the seeded shuffle: 64 bits from (seed, uid), whatever worker asks."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{uid}".encode(), digest_size=8).digest(), "big")


class ContentWriter:
    """The file of what kept rows consist of: JSON objects, packed if that is smaller; committed where `with` ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packed: list[int] = []
        self._digests: list[str] = []
        self._sizes: list[int] = []

    def __enter__(self) -> ContentWriter:
        with ExitStack() as stack:
            self._file = stack.enter_context(open(stack.enter_context(commit_file(self._path)), "wb"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, row: Mapping[str, Any]) -> None:
        """The next row's content."""
        data = json.dumps(row, ensure_ascii=False).encode()
        packed = data if len(data) < SHORT else min(pa.compress(data, CODEC, asbytes=True), data, key=len)
        self._sizes.append(len(data))
        self._digests.append(hashlib.sha256(packed).hexdigest())
        self._packed.append(self._file.write(packed))

    def columns(self) -> dict[str, pa.Array]:
        """The columns that say where each row's content lies."""
        ends = np.cumsum(np.array([0, *self._packed], np.int64))
        # Relative to the pool, as a row's tar is: `out` may be moved between two runs.
        name = Path("..", self._path.parent.parent.name, self._path.parent.name, self._path.name).as_posix()
        place = (pa.array([name] * len(self._sizes), pa.string()), pa.array(ends[:-1]),
                 pa.array(self._packed, pa.int64()), pa.array(self._digests, pa.string()))  # fmt: skip
        sizes = {"content_size": pa.array(self._sizes, pa.int64())}
        return dict(zip(CONTENT_PLACE, place, strict=True)) | sizes


def _content(row: Mapping[str, Any], blobs: Blobs) -> dict[str, Any]:
    # What an earlier version decided has no digest of it.
    data = blobs.read(row["content"], row["content_at"], row["content_bytes"], row.get("content_sha256"))
    if len(data) < row["content_size"]:
        data = pa.decompress(data, row["content_size"], CODEC, asbytes=True)
    return dict(json.loads(data))


def plan_shards(kept: Sequence[Path], settings: Publish, folder: Path, scratch: Path) -> int:
    """Sort the kept rows and cut them into output shards; writes a plan a shard, returns how many."""
    done = folder / "plan.json"
    if done.exists():
        return int(read_json(done)["shards"])
    number = 0
    # All of each is read, and compared with its checksums, which what sorts them does not do.
    extensions = {ext for path in kept for ext in read_table(path)["ext"].unique().to_pylist()}
    one = extensions.pop() if len(extensions) == 1 else "jpg"
    for table in _cut(_sort_rows(kept, scratch), settings):
        name = table["ext"] if settings.image_name == "format" else pa.array([one] * table.num_rows, pa.string())
        write_table(table.append_column("image_name", name), _plan(folder, number))
        number += 1
    commit_text(done, dump_json({"shards": number}))
    return number


def write_shard(pool: Pool, folder: Path, number: int, kind: Kind, columns: Sequence[str]) -> dict[str, Any]:
    """Write output shard `number` from its plan, unless it is committed; returns its ShardInfo as data."""
    tar = folder / f"{shard_name(number)}.tar"
    done = folder / "plan" / f"{shard_name(number)}.json"
    if done.exists():
        return read_json(done)
    rows = read_table(_plan(folder, number))
    carried = pa.schema([rows.schema.field(c) for c in columns])
    blobs = Blobs(pool)
    with ShardWriter(tar, kind=kind, columns=carried) as writer:
        for row in rows.to_pylist():
            values = {c: row[c] for c in columns}
            try:
                row |= _content(row, blobs)
                parts = formats.sample_parts(kind, row, values, blobs.read)
            except DamagedError as err:
                raise DamagedError(f"sample {row['uid']}: {err}") from None
            writer.add(row["uid"], parts, values)
    blobs.close()
    info = vars(writer.info)
    commit_text(done, dump_json(info))
    return info


def seal(folder: Path, recipe: Recipe, choices: str, shards: Sequence[dict[str, Any]]) -> None:
    """Write `dataset.json`: the dataset in `folder` is whole. Its indexes must hold as many samples as were kept."""
    infos = tuple(sorted((ShardInfo(**s) for s in shards), key=lambda s: s.tar))
    samples, size = sum(s.samples for s in infos), sum(s.bytes for s in infos)
    name, kind = recipe.name, recipe.kind
    info = DatasetInfo(name=name, kind=kind, samples=samples, bytes=size, recipe=choices, shards=infos)
    save_dataset(info, folder)
    # The marker first: killed in between, a plan without it is made again.
    (folder / "plan.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "plan", ignore_errors=True)


def swap(folder: Path, target: Path) -> None:
    """Put the finished `folder`, if there is one, where `target` is. Killed in between, the next call goes on."""
    old = target.with_name(f".{target.name}.old")
    if (folder / "dataset.json").exists():
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _plan(folder: Path, number: int) -> Path:
    return folder / "plan" / f"{shard_name(number)}.parquet"


def _sort_rows(kept: Sequence[Path], scratch: Path) -> Iterator[pa.RecordBatch]:
    import duckdb

    scratch.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as db:
        db.execute(f"SET memory_limit='{MEMORY_LIMIT}'; SET threads=2; SET preserve_insertion_order=false")
        db.execute("SET temp_directory=?", [str(scratch)])
        found = db.read_parquet([str(p) for p in kept]).order('"order", uid')
        yield from found.to_arrow_reader(4096)


def _cut(batches: Iterator[pa.RecordBatch], settings: Publish) -> Iterator[pa.Table]:
    """Consecutive rows, at most `shard_samples` and about `shard_bytes` (a single larger sample stands alone)."""
    waiting: list[pa.Table] = []
    samples = size = 0
    for batch in batches:
        table = pa.Table.from_batches([batch])
        start = 0
        for place, nbytes in enumerate(batch.column("nbytes").to_pylist()):
            if samples and (samples == settings.shard_samples or size + nbytes > settings.shard_bytes):
                yield pa.concat_tables([*waiting, table.slice(start, place - start)])
                waiting, samples, size, start = [], 0, 0, place
            samples, size = samples + 1, size + nbytes
        waiting.append(table.slice(start))
    if samples:
        yield pa.concat_tables(waiting)
