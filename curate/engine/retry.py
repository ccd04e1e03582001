"""Retry what failed: URLs of the source, images that a step fetched; and, by name, any other failures."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.commit import commit_text, dump_json, take_over
from curate.engine import tasks
from curate.engine.placement import place
from curate.engine.reuse import reusable_columns
from curate.engine.runner import AT_WORK, RunError, RunProgress, Watch
from curate.engine.stages import attempts, start_of
from curate.engine.state import OWN_COLUMNS, OWN_OF_PARTS
from curate.engine.workers import Servers, Workers
from curate.llm.model import Gateways
from curate.pool.blob import BLOB
from curate.pool.columns import ColumnsFile, write_columns
from curate.pool.layout import Pool
from curate.pool.tables import is_group_file
from curate.process import hold
from curate.recipe.steps import Resolved, ResolvedRecipe, assign_fingerprints
from curate.settings import unknown_message
from curate.sources import ingest

INGEST = "ingest"

RowsOf = Callable[[ColumnsFile], pa.Array]
"""Which rows of a step's columns are meant: their numbers."""


@dataclass(frozen=True)
class Retried:
    """Rows of the source that were tried, and came; rows with absent images, and rows that failed by a name that was
    asked for, which the next run computes again."""

    tried: int
    came: int
    documents: int = 0
    forgotten: int = 0


@dataclass(frozen=True)
class Wanted:
    """The failures that are meant: by their names, at one step or any; without names, what asks servers."""

    errors: tuple[str, ...] = ()
    step: str | None = None

    def has(self, label: str) -> bool:
        """Whether a step is meant."""
        return self.step in (None, label)


def retry(
    resolved: ResolvedRecipe, workers: int, watch: Watch = lambda progress: None, wanted: Wanted | None = None
) -> Retried:
    """Try a run's failures again, finished or not. Raises RunError where there is nothing that could be tried."""
    recipe, wanted = resolved.recipe, wanted or Wanted()
    out = Path(recipe.out)
    resolved = place(resolved, workers).resolved
    with (
        hold(out),
        take_over(out),
        Gateways(out) as gateways,
        Workers(workers, out / AT_WORK, gateways, recipe.resources.gpus) as crew,
    ):
        pool = ingest.pool_of(recipe)
        steps = assign_fingerprints(resolved.steps, *start_of(recipe, pool))
        _check(resolved, steps, wanted)
        planned = ingest.plan_source(recipe, pool).shards if pool.plan.exists() else 0
        shards = [shard for shard in range(planned) if pool.rows(shard).exists()]  # all, unless the run gave up
        if not shards:
            raise RunError(f"{recipe.out}: nothing to try again yet; run the recipe first")
        attempt = attempts(pool) + 1
        # Counted before a row is touched: killed from here on, nothing decided from the old rows is believed.
        commit_text(pool.folder / "retries.json", dump_json({"attempts": attempt}))
        documents = forgotten = 0
        if wanted.errors:
            shutil.rmtree(out / "stages", ignore_errors=True)
            asked = [n for n, step in enumerate(steps) if wanted.has(step.label)]
            which = functools.partial(_with_error, wanted.errors)
            forgotten = sum(_forget(pool, steps, number, shards, which) for number in asked)
        else:
            which = functools.partial(_with_absent, ingest.final_errors(recipe))
            asked = [n for n, step in enumerate(steps) if step.fetches]
            documents = sum(_forget(pool, steps, number, shards, which) for number in asked)
        if not wanted.has(INGEST) or not ingest.can_retry(recipe):
            return Retried(0, 0, documents, forgotten)
        for plan in (pool.folder / "plans").iterdir():  # of the source as it was once, too: its rows change with these
            (plan / pool.taken_in.name).unlink(missing_ok=True)
            shutil.rmtree(plan / "repeats", ignore_errors=True)
        tried = came = 0
        task = functools.partial(tasks.make_retry, recipe, pool, attempt, wanted.errors)
        servers = Servers(recipe.download if ingest.is_fetched(recipe) else None)
        for number, (asked_for, got) in enumerate(crew.run("retry", task, shards, servers), 1):
            tried, came = tried + asked_for, came + got
            watch(RunProgress("retry", number, len(shards), came, tried - came))
        return Retried(tried, came, documents, forgotten)


def _check(resolved: ResolvedRecipe, steps: Sequence[Resolved], wanted: Wanted) -> None:
    """Refuse what cannot be tried again."""
    recipe, labels = resolved.recipe, [INGEST, *(step.label for step in steps if not step.spec.is_group)]
    if wanted.step is not None and not wanted.errors:
        raise RunError("--step says where an --error is forgotten; name the error, too")
    if wanted.step is not None and wanted.step not in labels:
        raise RunError(unknown_message("step", wanted.step, labels))
    if wanted.step == INGEST and not ingest.can_retry(recipe):
        raise RunError(
            f"what fails of a source of type {recipe.source.type} lies in its files: mend these, and the next run "
            "takes in what changed"
        )
    if not wanted.errors and not ingest.is_fetched(recipe) and not any(step.fetches for step in steps):
        raise RunError(
            "only a source of URLs, or a step that fetches, is tried again as a whole; name the failures of other "
            "steps: --error NAME (`curate status` shows the names)"
        )


def _forget(pool: Pool, steps: Sequence[Resolved], number: int, shards: Sequence[int], which: RowsOf) -> int:
    """Take rows out of a step's columns and all that may hang on it; how many.

    That is every folder of columns but those of the steps before it: an earlier recipe's too, to which one may come
    back. The step's own go last, and those that it may take values over from: killed in between, they still say which
    rows are meant, though the step's name is another by then. Columns of group ops are of all rows: they are made anew.
    """
    if steps[number].spec.is_group:
        return 0
    found = {shard: rows for shard in shards if len(rows := _rows(pool, steps[number], shard, which))}
    if not found:
        return 0
    before = {step.key for step in steps[:number]}
    folders = sorted(f for f in (pool.folder / "columns").iterdir() if f.name not in before)
    for folder in folders:
        if any(is_group_file(path) for path in sorted(folder.glob("*.parquet"))[:1]):
            shutil.rmtree(folder)
    for shard, rows in found.items():
        last = [file.path for file in _files(pool, steps[number], shard)]
        others = [path for folder in folders if (path := pool.columns(folder.name, shard)) not in last]
        for path in (*others, *last):
            if path.exists():
                file = ColumnsFile(path)
                left = (block.filter(pc.invert(pc.is_in(block["row"], value_set=rows))) for block in file.blocks())
                write_columns(left, file.schema, path)
    return sum(map(len, found.values()))


def _files(pool: Pool, step: Resolved, shard: int) -> list[ColumnsFile]:
    """A step's columns of a shard, and those that it may take values over from."""
    own = pool.columns(step.key, shard)
    return [*reusable_columns(pool, step, shard), *([ColumnsFile(own)] if own.exists() else [])]


def _rows(pool: Pool, step: Resolved, shard: int, which: RowsOf) -> pa.Array:
    files = _files(pool, step, shard)
    return pc.unique(pa.chunked_array([which(file).cast(pa.int32()) for file in files], pa.int32()))


def _with_error(errors: Collection[str], file: ColumnsFile) -> pa.Array:
    """The numbers of the rows that failed by one of these errors, or a part of which did."""
    of_rows, of_parts = OWN_COLUMNS[0], OWN_OF_PARTS[0]
    names = [name for name in (of_rows, of_parts) if name in file.schema.names]
    wanted = [
        row[of_rows] in errors or any(error in errors for error in row.get(of_parts) or ())
        for block in file.blocks(names)
        for row in block.to_pylist()
    ]
    return pa.array(file.rows[np.array(wanted, bool)], pa.int32())


def _with_absent(lost: Sequence[str], file: ColumnsFile) -> pa.Array:
    """The numbers of the rows with an image that trying again may bring."""
    lists = [field.name for field in file.schema if field.type == pa.list_(BLOB)]
    wanted = [
        any(blob is not None and blob["error"] not in (None, *lost) for blobs in row.values() for blob in blobs or ())
        for block in file.blocks(lists)
        for row in block.to_pylist()
    ]
    return pa.array(file.rows[np.array(wanted, bool)], pa.int32())
