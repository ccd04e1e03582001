"""Tasks of a worker on a shard in each part of a run, one maker a part (see `workers.Workers`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.download import Downloader
from curate.engine import formats, publish
from curate.engine.answers import StepError
from curate.engine.apply_rules import PART_ENDS, PartEnds
from curate.engine.candidates import write_candidates
from curate.engine.state import RowEnd, ShardState, open_shard
from curate.engine.steps import CHUNK_ROWS, Annotator, Cuts, decide_shard
from curate.engine.workers import Task
from curate.pool.columns import ColumnsFile, ColumnsWriter, ColumnValues, write_columns
from curate.pool.funnel import StepCount
from curate.pool.layout import Pool, shard_name
from curate.pool.tables import write_table
from curate.recipe.model import Recipe
from curate.recipe.steps import Resolved
from curate.sample import Kind, uid_of
from curate.sources import ingest
from curate.sources.rows import PLACE

KEYS = ("uid", "nbytes", "sha256")
"""What a group op is told of every sample, besides what its row op made."""

WITH_IMAGE = ("caption", "ocr")
"""The kinds of sample that are one image and its text."""


@dataclass(frozen=True)
class RowsColumn:
    """A column of the pool's rows, taken as those of steps are."""

    values: pa.ChunkedArray

    def take(self, numbers: Sequence[int] | npt.NDArray[np.int64]) -> pa.ChunkedArray:
        """Take the values of these rows, in their order."""
        return self.values.take(pa.array(numbers, pa.int64()))


@dataclass(frozen=True)
class Holding:
    """A task that holds something which closes, connections for one; the engine closes it."""

    call: Task
    held: Downloader

    def __call__(self, shard: int) -> Any:
        """Do a shard."""
        return self.call(shard)

    def close(self) -> None:
        """Close what it holds."""
        self.held.close()


def cut(shards: Sequence[int], workers: int) -> list[Sequence[int]]:
    """Consecutive shards in blocks, about four blocks a worker but at most 16 shards each."""
    size = max(1, min(16, len(shards) // (4 * max(1, workers))))
    return [shards[at : at + size] for at in range(0, len(shards), size)]


def make_ingest(recipe: Recipe, pool: Pool, planned: ingest.SourcePlan, blocks: Sequence[Sequence[int]]) -> Task:
    """The task that commits a block of pool shards."""
    downloader = ingest.make_downloader(recipe)

    def task(block: int) -> list[dict[str, Any]]:
        return [count.to_json() for count in ingest.ingest(recipe, pool, blocks[block], planned, downloader)]

    return Holding(task, downloader) if downloader else task


def make_retry(recipe: Recipe, pool: Pool, attempt: int, errors: Sequence[str]) -> Task:
    """The task that tries a shard's failed rows again: failed URLs, or what failed by one of these errors."""
    downloader = ingest.make_downloader(recipe)

    def task(shard: int) -> tuple[int, int]:
        return ingest.retry(recipe, pool, shard, downloader, ingest.Attempt(attempt, tuple(errors)))

    return Holding(task, downloader) if downloader else task


@dataclass(frozen=True)
class StageTask:
    """Annotate a shard with consecutive steps, and leave what a share's cut needs."""

    pool: Pool
    steps: Sequence[Resolved]
    first: int
    cuts: Cuts
    folder: Path
    annotator: Annotator

    def __call__(self, shard: int) -> list[dict[str, Any]]:
        """Do a shard."""
        return self._do(shard, self.annotator.run)

    def narrow(self, shard: int) -> list[dict[str, Any]]:
        """Do a shard of which a worker died: see `Annotator.narrow`."""
        return self._do(shard, self.annotator.narrow)

    def close(self) -> None:
        """Close what the ops hold."""
        self.annotator.close()

    def _do(self, shard: int, annotate: Callable[[int, ShardState], list[StepCount]]) -> list[dict[str, Any]]:
        state, _ = decide_shard(self.pool, shard, self.steps[: self.first], self.cuts)
        counts = annotate(shard, state)
        if self.steps[-1].shares:
            write_candidates(self.pool, shard, self.steps, self.cuts, self.folder)
        return [c.to_json() for c in counts]


@dataclass(frozen=True)
class StageSetting:
    """Setting of a stage's task besides its steps: the folder for a share's cut, the recipe's limit of a call, and
    how many threads may read ahead of an accelerator."""

    folder: Path
    timeout_s: float | None
    threads: int


def make_stage(
    pool: Pool, steps: Sequence[Resolved], stage: tuple[int, int], cuts: Cuts, setting: StageSetting
) -> Task:
    """The task that annotates a shard with the steps of a stage, by the numbers of its first and last."""
    first, last = stage
    annotator = Annotator(pool, steps[first : last + 1], setting.timeout_s, setting.threads)
    return StageTask(pool, steps[: last + 1], first, cuts, setting.folder, annotator)


def make_count(pool: Pool, steps: Sequence[Resolved], last: int, cuts: Cuts) -> Task:
    """The task that counts what the shares of a step drop of a shard, when their cuts are known."""

    def task(shard: int) -> dict[str, Any]:
        return decide_shard(pool, shard, steps[: last + 1], cuts)[1][-1].to_json()

    return task


def make_gather(pool: Pool, steps: Sequence[Resolved], number: int, cuts: Cuts, folder: Path) -> Task:
    """The task that writes a shard's admitted rows for a group op."""

    def task(shard: int) -> int:
        state, _ = decide_shard(pool, shard, steps[:number], cuts)
        columns = _group_inputs(pool, shard, steps, number, state)
        rows = np.flatnonzero(state.alive)
        schema = pa.schema([(name, values.take([]).type) for name, values in columns.items()] + [("row", pa.int32())])
        blocks = (
            pa.table({**{name: values.take(some) for name, values in columns.items()}, "row": some}, schema)
            for some in (rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS))
        )
        write_columns(blocks, schema, folder / f"in-{shard_name(shard)}.parquet")
        return len(rows)

    return task


def _group_inputs(
    pool: Pool, shard: int, steps: Sequence[Resolved], number: int, state: ShardState
) -> dict[str, ColumnValues]:
    """What a group op is given of every row: KEYS, what its own row op made, what it reads, what its knobs name."""
    step = steps[number]
    found: dict[str, ColumnValues] = {name: RowsColumn(state.rows[name]) for name in KEYS}
    if step.spec.after is not None:
        # From its own file: a step between may have written content of the same name.
        before = next(s for s in reversed(steps[:number]) if s.function is step.spec.after)
        made = ColumnsFile(pool.columns(before.key, shard))
        found |= {own: made.column(own) for own in before.columns}
    named = {name: name for name in step.spec.reads} | step.spec.names(step.knobs)
    return found | {shown: state.columns[column] for shown, column in named.items()}


def make_decide(recipe: Recipe, pool: Pool, steps: Sequence[Resolved], cuts: Cuts, folder: Path) -> Task:
    """The task that writes a shard's decisions and kept rows."""

    def task(shard: int) -> dict[str, Any]:
        ingest = _ingest_count(open_shard(pool, shard))
        with _part_ends(folder, shard, steps) as keep:
            state, counts = decide_shard(pool, shard, steps, cuts, keep)
        counts = [ingest, *counts]
        write_table(_decisions(state), folder / f"{shard_name(shard)}.parquet")
        kept = _kept(recipe, state, shard, folder / f"content-{shard_name(shard)}.zst")
        write_table(kept, folder / f"kept-{shard_name(shard)}.parquet")
        written = _written_by(state, steps)
        return {"counts": [c.to_json() for c in counts], "samples": kept.num_rows, "written": written}

    return task


def _written_by(state: ShardState, steps: Sequence[Resolved]) -> dict[str, dict[str, int]]:
    """Of each column that says which model wrote a text, how many kept rows each model has."""
    rows, found = np.flatnonzero(state.alive), {}
    for column in (step.columns[name] for step in steps if step.over is None for name in step.spec.written_by):
        models = state.columns[column].take(rows).combine_chunks().field("model").value_counts().to_pylist()
        found[column] = {one["values"]: one["counts"] for one in models if one["values"] is not None}
    return found


def make_publish(recipe: Recipe, pool: Pool, folder: Path) -> Task:
    """The task that writes an output shard."""
    return lambda number: publish.write_shard(pool, folder, number, recipe.kind, recipe.publish.columns)


@contextmanager
def _part_ends(folder: Path, shard: int, steps: Sequence[Resolved]) -> Iterator[PartEnds | None]:
    """Where the parts that leave their documents are told; a recipe that decides on none has no such file."""
    if not any(step.decides_parts for step in steps):
        yield None
        return
    with ColumnsWriter(folder / f"parts-{shard_name(shard)}.parquet", PART_ENDS) as parts:
        yield parts.add


def _ingest_count(state: ShardState) -> StepCount:
    ends = [end for end in state.ends if end is not None]
    dropped, failed = (Counter(e.rule for e in ends if e.outcome == o) for o in ("dropped", "failed"))
    return StepCount("ingest", len(state.alive), int(state.alive.sum()), dropped, failed)


def _decisions(state: ShardState) -> pa.Table:
    said = {name: pa.array([end and getattr(end, name) for end in state.ends], pa.string()) for name in RowEnd._fields}
    said["outcome"] = said["outcome"].fill_null("kept")
    return pa.table({"uid": state.rows["uid"], **said, "meta": state.rows["meta"]})


def _kept(recipe: Recipe, state: ShardState, shard: int, content: Path) -> pa.Table:
    """The kept rows, their place in the order, and where in the file `content` lies what they consist of.

    Texts and documents go through a file and not the table: what is sorted over all shards must be small.
    """
    rows = np.flatnonzero(state.alive)
    columns = {c: state.rows[c].take(pa.array(rows)) for c in publish.KEPT}
    columns |= {c: state.columns[c].take(rows) for c in recipe.publish.columns}
    columns |= _place_of_image(recipe.kind, state, rows)
    table = pa.table(columns | {"row": pa.array((shard << 32) + rows, pa.uint64())})
    with publish.ContentWriter(content) as written:
        if recipe.publish.split is not None:
            table = _split(table, state.columns[recipe.publish.split], rows, written)
        else:
            sizes = [_write(recipe.kind, one, written) for one in _content(recipe.kind, state, rows)]
            if recipe.kind not in WITH_IMAGE:
                table = _with(table, "nbytes", pa.array(sizes, pa.int64()))
    for name, values in written.columns().items():
        table = table.append_column(name, values)
    if recipe.publish.repeat is not None:
        table = _repeated(recipe.kind, table, state.columns[recipe.publish.repeat].take(rows))
    if recipe.publish.shuffle:
        order = [publish.shuffle_key(recipe.seed, uid) for uid in table["uid"].to_pylist()]
        table = _with(table, "row", pa.array(order, pa.uint64()))
    return table.rename_columns({"row": "order"})


def _repeated(kind: Kind, table: pa.Table, times: pa.ChunkedArray) -> pa.Table:
    """Each row as often as it is said, the copies with uids of their own; the meta of each names the row it repeats."""
    counts = np.asarray(times.cast(pa.int64()).fill_null(0).to_numpy(), np.int64)
    if (counts < 1).any():
        uid = table["uid"][int(np.flatnonzero(counts < 1)[0])]
        raise StepError(f"publish.repeat: sample {uid} is kept, but to be written no time; let a rule drop such rows")
    places = np.repeat(np.arange(len(counts)), counts)
    copy = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = table.take(pa.array(places))
    uids, metas = table["uid"].to_pylist(), table["meta"].to_pylist()
    for at in np.flatnonzero(copy).tolist():
        number, uid = int(copy[at]), uids[at]
        said = json.loads(metas[at] or "{}") | {"copy": number, "copy_of": uid}
        uids[at] = uid_of(kind, uid, "copy", str(number))
        metas[at] = json.dumps(said, ensure_ascii=False, sort_keys=True)
    table = _with(table, "uid", pa.array(uids, table["uid"].type))
    return _with(table, "meta", pa.array(metas, table["meta"].type))


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def _content(kind: Kind, state: ShardState, rows: npt.NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """What each row consists of, its image's bytes aside: the steps' own where they made it."""
    made = {c: state.columns[c] for c in formats.CONTENT[kind] if c in state.columns}
    for start in range(0, len(rows), CHUNK_ROWS):
        mine = rows[start : start + CHUNK_ROWS]
        text = state.columns["text"].take(mine) if "text" in state.columns else state.rows["text"].take(pa.array(mine))
        yield from pa.table({"text": pc.fill_null(text, ""), **{c: v.take(mine) for c, v in made.items()}}).to_pylist()


def _write(kind: Kind, content: Mapping[str, Any], written: publish.ContentWriter) -> int:
    """Write what a sample consists of; its bytes, by which output shards are cut: of its text and its images."""
    written.add(content)
    images = sum(blob["nbytes"] or 0 for blob in content.get("images") or () if blob is not None)
    return len(content["text"].encode()) + images


def _place_of_image(kind: Kind, state: ShardState, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The place of the bytes, if an op made the image."""
    if kind not in WITH_IMAGE or "image" not in state.columns:
        return {}
    image = state.columns["image"].take(rows).combine_chunks()
    place = {name: pc.struct_field(image, name) for name in PLACE}
    if place["tar"].null_count:
        lost = state.rows["uid"][int(rows[pc.index(pc.is_null(place["tar"]), True).as_py()])]
        raise StepError(f"sample {lost} is kept without its image; let the op that makes it fail such rows")
    return place


def _split(
    table: pa.Table, parts: ColumnValues, rows: npt.NDArray[np.int64], written: publish.ContentWriter
) -> pa.Table:
    """A row for each text of each row's list that is not empty, with a uid of its own; the texts are written.

    The meta of each names the text that it is a part of, and its number in the list.
    """
    found = []
    for start in range(0, len(rows), CHUNK_ROWS):
        of_rows = table.slice(start, CHUNK_ROWS).to_pylist()
        texts = parts.take(rows[start : start + CHUNK_ROWS]).to_pylist()
        for row, number, text in (
            (r, n, t) for r, ts in zip(of_rows, texts, strict=True) for n, t in enumerate(ts or ())
        ):
            if text:
                meta = json.loads(row["meta"] or "{}") | {"part": number, "part_of": row["uid"]}
                said = json.dumps(meta, ensure_ascii=False, sort_keys=True)
                uid = uid_of("text", row["uid"], str(number))
                found.append(row | {"uid": uid, "nbytes": _write("text", {"text": text}, written), "meta": said})
    return pa.Table.from_pylist(found, schema=table.schema)
