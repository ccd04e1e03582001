"""Layout of the pool on disk: ingested rows and computed columns below one folder.

    {out}/pool-{fp}/plans/{fp}/plan.json      the source as its files were, cut into shards; their names in order
    {out}/pool-{fp}/planned/{shard}.parquet   what the source says of a shard's samples before anything is fetched
    {out}/pool-{fp}/{shard}.tar               original bytes
    {out}/pool-{fp}/rows/{shard}.parquet      one row a sample; that they are there commits the shard
    {out}/pool-{fp}/columns/{op}-{fp}/{shard}.parquet  an op's columns: values for each pool row it saw
    {out}/pool-{fp}/columns/{op}-{fp}/{shard}.0.tar    the bytes that an op made or fetched, where columns name some
    {out}/stages/, {out}/decisions/           what was decided (see curate.engine), by the shards' numbers in the plan

A shard is named by what the source says of it. When a source grows, the shards that stay the same are the same files:
nothing of them is fetched or computed again.

Every file appears whole or not at all. A row keeps its number in its shard for ever: columns refer to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from curate.commit import read_json

ROWS = pa.schema(
    [
        ("uid", pa.string()),
        ("origin", pa.string()),
        ("text", pa.string()),
        ("meta", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("detail", pa.string()),
        ("tar", pa.string()),
        ("ext", pa.string()),
        ("offset", pa.int64()),
        ("nbytes", pa.int64()),
        ("sha256", pa.string()),
        ("http_status", pa.int32()),
        ("final_url", pa.string()),
        ("attempts", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
    ]
)
"""A pool row. `status` is img2dataset's vocabulary (success, failed_to_download, failed_to_resize), and
failed_to_read for what never had a URL; `tar` is a path relative to the pool, or absolute for another tool's tar."""

PLAN = pa.schema([("uid", pa.string()), ("origin", pa.string()), ("text", pa.string()), ("meta", pa.string()),
                  ("error", pa.string()), ("detail", pa.string())])  # fmt: skip
"""A planned row: what the source says of a sample before its image is fetched. `error` when it says nonsense."""


def shard_name(number: int) -> str:
    """The name of a shard by its number, from 00000."""
    return f"{number:05d}"


@dataclass(frozen=True)
class Pool:
    """Paths of a source's shards and their columns, by their numbers in the plan.

    `out` is the recipe's folder; `key` the fingerprint of what changes the rows that a source gives; `source` that of
    the source's files as they are.
    """

    out: Path
    key: str
    source: str

    @property
    def folder(self) -> Path:
        """The pool's own folder."""
        return self.out / f"pool-{self.key}"

    @property
    def plan(self) -> Path:
        """The plan of the source as it is."""
        return self.folder / "plans" / self.source / "plan.json"

    @property
    def taken_in(self) -> Path:
        """The counts of the ingest step; no file before all of the plan's shards are there."""
        return self.plan.with_name("ingest.json")

    @cached_property
    def shards(self) -> tuple[str, ...]:
        """The names of the plan's shards, in order. Raises OSError where nothing is planned yet."""
        return tuple(read_json(self.plan)["shards"])

    def planned(self, name: str) -> Path:
        """The planned rows of a shard, by its name."""
        return self.folder / "planned" / f"{name}.parquet"

    def rows(self, shard: int) -> Path:
        """The rows of a shard; that the file exists means that the shard is committed."""
        return self.folder / "rows" / f"{self.shards[shard]}.parquet"

    def tar(self, shard: int, attempt: int = 0) -> Path:
        """The shard's tar; a retry of its failed URLs writes the next attempt's tar beside it."""
        suffix = f".retry{attempt}" if attempt else ""
        return self.folder / f"{self.shards[shard]}{suffix}.tar"

    def repeats(self, shard: int) -> Path:
        """The numbers of the rows whose uid an earlier row of the plan has; no file where there are none."""
        return self.plan.with_name("repeats") / f"{shard_name(shard)}.parquet"

    def columns(self, step: str, shard: int) -> Path:
        """An op's columns for a shard; `step` is op and fingerprint."""
        return self.folder / "columns" / step / f"{self.shards[shard]}.parquet"

    def stored(self, step: str, shard: int, attempt: int) -> Path:
        """The tar of the bytes that an op brought for a shard: one more each time rows are added to its columns."""
        return self.folder / "columns" / step / f"{self.shards[shard]}.{attempt}.tar"

    def locate(self, tar: str) -> Path:
        """The path of the tar that a row names."""
        return self.folder / tar
