"""Retry what failed to come: the source's URLs, and images of documents that a step fetched."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.commit import commit_text, dump_json
from curate.engine import tasks
from curate.engine.reuse import reusable_columns
from curate.engine.run import RunError, RunProgress, Watch
from curate.engine.stages import attempts, start_of
from curate.engine.workers import run_tasks
from curate.pool.blob import BLOB
from curate.pool.columns import ColumnsFile, write_columns
from curate.pool.layout import Pool
from curate.pool.tables import is_group_file
from curate.process import hold
from curate.recipe.steps import Resolved, ResolvedRecipe, assign_fingerprints
from curate.sources import ingest


@dataclass(frozen=True)
class Retried:
    """URLs of the source that were tried, and came; rows with absent images, which the next run fetches again."""

    tried: int
    came: int
    documents: int


def retry(resolved: ResolvedRecipe, workers: int, watch: Watch = lambda progress: None) -> Retried:
    """Try a run's failures again, finished or not. Raises RunError where there is nothing that asks servers."""
    recipe = resolved.recipe
    with hold(Path(recipe.out)):
        pool = ingest.pool_of(recipe)
        steps = assign_fingerprints(resolved.steps, *start_of(recipe, pool))
        fetching = [n for n, step in enumerate(steps) if step.fetches]
        if not ingest.is_fetched(recipe) and not fetching:
            raise RunError("only a source of URLs, or a step that fetches, can be tried again")
        planned = ingest.plan_source(recipe, pool).shards if pool.plan.exists() else 0
        shards = [shard for shard in range(planned) if pool.rows(shard).exists()]  # all, unless the run gave up
        if not shards:
            raise RunError(f"{recipe.out}: nothing to try again yet; run the recipe first")
        attempt = attempts(pool) + 1
        # Counted before a row is touched: killed from here on, nothing decided from the old rows is believed.
        commit_text(pool.folder / "retries.json", dump_json({"attempts": attempt}))
        lost = ingest.final_errors(recipe)
        documents = sum(_forget(pool, steps, number, shard, lost) for number in fetching for shard in shards)
        if not ingest.is_fetched(recipe):
            return Retried(0, 0, documents)
        for plan in (pool.folder / "plans").iterdir():  # of the source as it was once, too: its rows change with these
            (plan / pool.taken_in.name).unlink(missing_ok=True)
            shutil.rmtree(plan / "repeats", ignore_errors=True)
        tried = came = 0
        task = functools.partial(tasks.make_retry, recipe, pool, attempt)
        for number, (asked, got) in enumerate(run_tasks(task, shards, workers), 1):
            tried, came = tried + asked, came + got
            watch(RunProgress("retry", number, len(shards), came, tried - came))
        return Retried(tried, came, documents)


def _forget(pool: Pool, steps: Sequence[Resolved], number: int, shard: int, lost: Sequence[str]) -> int:
    """Take the rows whose images did not all come out of a step's columns and all that may hang on it; how many.

    That is every folder of columns but those of the steps before it: an earlier recipe's too, to which one may come
    back. The step's own go last, and those that it may take values over from: killed in between, they still say which
    rows are meant, though the step's name is another by then. Columns of group ops are made anew for every attempt and
    need nothing.
    """
    own = pool.columns(steps[number].key, shard)
    asked = [*reusable_columns(pool, steps[number], shard), *([ColumnsFile(own)] if own.exists() else [])]
    rows = pc.unique(pa.chunked_array([_with_absent(file, steps[number], lost) for file in asked], pa.int32()))
    before = {pool.columns(step.key, shard) for step in steps[:number]}
    last = [file.path for file in asked]
    others = {pool.columns(folder.name, shard) for folder in (pool.folder / "columns").iterdir()}
    for path in (*sorted(others.difference(before, last)), *last) if len(rows) else ():
        if path.exists() and not is_group_file(path):
            file = ColumnsFile(path)
            left = (block.filter(pc.invert(pc.is_in(block["row"], value_set=rows))) for block in file.blocks())
            write_columns(left, file.schema, path)
    return len(rows)


def _with_absent(file: ColumnsFile, step: Resolved, lost: Sequence[str]) -> pa.Array:
    """The numbers of the rows with an image that trying again may bring."""
    lists = [name for name, kind in step.spec.writes.items() if kind == pa.list_(BLOB)]
    wanted = [
        any(blob is not None and blob["error"] not in (None, *lost) for blobs in row.values() for blob in blobs or ())
        for block in file.blocks(lists)
        for row in block.to_pylist()
    ]
    return pa.array(file.rows[np.array(wanted, bool)], pa.int32())
