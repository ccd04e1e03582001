"""Verify a run's folder (dataset, pools, decisions), and take out what is damaged; the next run makes it anew."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curate.commit import commit_text, dump_json, take_over
from curate.engine.publish import CONTENT_PLACE
from curate.engine.runner import RunProgress, Watch
from curate.engine.stages import attempts
from curate.pool.damage import DamagedError
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.pool.verification import Damage, damage_of, damage_of_bytes, read_through, shard_names, verify_plans
from curate.pool.verification import verify_shard as verify_pool_shard
from curate.process import hold
from curate.shards import load_dataset, verify_shard
from curate.shards.info import DATASET_FILE

DECIDED = ("stages", "decisions")
"""Folders of what is decided: made anew from columns when they are gone."""


@dataclass
class Verified:
    """A run's folder as it was found: how much was looked at, and what is damaged, of each pool and of all else."""

    samples: int = 0
    shards: int = 0
    pools: dict[Pool, list[Damage]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """All that is damaged, a sentence each."""
        return [*(damage.said for found in self.pools.values() for damage in found), *self.others]


def verify_run(out: Path, watch: Watch = lambda progress: None) -> Verified:
    """Verify what runs made below `out`. Raises ValueError where none did."""
    pools = [Pool(out, folder.name.removeprefix("pool-"), "") for folder in sorted(out.glob("pool-*"))]
    if not pools:
        raise ValueError(f"{out}: no run was here; give the `out` folder of a recipe, or a dataset's folder")
    found = Verified(pools={pool: list(verify_plans(pool)) for pool in pools})
    shards = [(pool, shard) for pool in pools for shard in shard_names(pool)]
    for pool, shard in shards:
        found.pools[pool] += verify_pool_shard(pool, shard)
        found.shards += 1
        watch(RunProgress("verify", found.shards, len(shards)))
    for path in (*out.glob("*.json"), *(path for made in DECIDED for path in sorted((out / made).rglob("*")))):
        found.others += damage_of(path) if path.suffix in (".json", ".parquet") else ()
        found.others += _damaged_content(pools[0], path) if path.match("kept-*.parquet") else ()
    if (out / "dataset" / DATASET_FILE).is_file():
        info = load_dataset(out / "dataset")
        found.samples = info.samples
        found.others += (problem for shard in info.shards for problem in verify_shard(out / "dataset", shard))
    return found


def _damaged_content(pool: Pool, kept: Path) -> Iterator[str]:
    """Of kept rows, what they consist of; what an earlier version decided has no digest of it."""
    blobs = Blobs(pool)
    for block in read_through(kept):
        if not isinstance(block, DamagedError) and CONTENT_PLACE[-1] in block.column_names:
            for row in block.select(["uid", *CONTENT_PLACE]).to_pylist():
                places = (row[name] for name in CONTENT_PLACE)
                yield from (f"{said}, sample {row['uid']}" for said in damage_of_bytes(pool, blobs, *places))
    blobs.close()


def mend(out: Path, found: Verified) -> None:
    """Take out what is damaged: of a pool, the shards that it is in. The next run makes them anew, and publishes.

    Killed in between, the next call goes on: what is decided from a shard goes before its columns, and they before its
    rows.
    """
    with hold(out), take_over(out):
        (out / "published.json").unlink(missing_ok=True)
        for folder in (*out.glob("publish-*"), *(out / made for made in DECIDED)):
            shutil.rmtree(folder, ignore_errors=True)
        for pool, damage in found.pools.items():
            if damage:
                _mend_pool(pool, damage)


def _mend_pool(pool: Pool, damage: Sequence[Damage]) -> None:
    # As by a retry: what comes from a server may be another thing now, and nothing made of the old is believed.
    commit_text(pool.folder / "retries.json", dump_json({"attempts": _attempts(pool) + 1}))
    for plan in (pool.folder / "plans").iterdir():
        (plan / "ingest.json").unlink(missing_ok=True)
        shutil.rmtree(plan / "repeats", ignore_errors=True)
        if any(one.of == "plan" for one in damage):
            (plan / "plan.json").unlink(missing_ok=True)
    for path in [path for one in damage if one.shard for path in _files(pool, one.of, one.shard)]:
        path.unlink(missing_ok=True)


def _files(pool: Pool, of: str, shard: str) -> Iterator[Path]:
    """The files that go with a damaged one: a shard's columns with its rows, and these before the bytes they name."""
    if of == "plan":
        yield pool.planned(shard)
        return
    yield from (pool.folder / "columns").glob(f"*/{shard}.*")
    if of == "rows":
        yield pool.folder / "rows" / f"{shard}.parquet"
        yield from pool.folder.glob(f"{shard}.*tar")


def _attempts(pool: Pool) -> int:
    """How often a retry has run; as far as its tars tell, where the file that says so is damaged."""
    try:
        return attempts(pool)
    except ValueError:
        tars = (re.search(r"\.retry(\d+)\.tar$", path.name) for path in pool.folder.glob("*.tar"))
        return max((int(found[1]) for found in tars if found), default=0)
