"""What a worker does with a shard in each part of a run: one maker of tasks a part (see curate.engine.run_tasks)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import engine, formats, publish, sources
from curate.download import Downloader
from curate.pool import Pool, read_table, shard_name, write_table
from curate.recipe import Condition, Recipe, Resolved, read_columns
from curate.rules import Cut, StepCount, has_value, rank_words
from curate.sample import Kind, uid_of
from curate.sources.rows import PLACE
from curate.steps import CHUNK_ROWS, Annotator, Cuts, End, ShardState, StepError, open_shard, ruled, settle


@dataclass(frozen=True)
class Holding:
    """A task that holds something which closes, connections for one; the engine closes it."""

    call: engine.Task
    held: Downloader | Annotator

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


def make_ingest(recipe: Recipe, pool: Pool, planned: sources.Plan, blocks: Sequence[Sequence[int]]) -> engine.Task:
    """The task that commits a block of pool shards."""
    downloader = sources.downloader(recipe)

    def task(block: int) -> list[dict[str, Any]]:
        return [count.to_json() for count in sources.ingest(recipe, pool, blocks[block], planned, downloader)]

    return Holding(task, downloader) if downloader else task


def make_retry(recipe: Recipe, pool: Pool, attempt: int) -> engine.Task:
    """The task that tries a shard's failed URLs again."""
    downloader = sources.downloader(recipe)
    assert downloader is not None
    return Holding(lambda shard: sources.retry(recipe, pool, shard, downloader, attempt), downloader)


def make_stage(pool: Pool, steps: Sequence[Resolved], first: int, last: int, cuts: Cuts, folder: Path) -> engine.Task:
    """The task that annotates a shard with steps first..last and leaves what a share's cut needs."""
    annotator = Annotator(pool, steps[first : last + 1])
    share = next((c for c in steps[last].conditions if c.is_global), None)

    def task(shard: int) -> list[dict[str, Any]]:
        read = {name for step in steps[first : last + 1] for name in read_columns(step.spec)}
        state = _settled(pool, shard, steps[:first], cuts, read | ruled(steps[: last + 1]))
        counts = annotator.run(shard, state)
        if share is not None:
            write_table(_candidates(state, share), folder / f"{shard_name(shard)}.parquet")
        return [c.to_json() for c in counts]

    return Holding(task, annotator)


def make_gather(pool: Pool, steps: Sequence[Resolved], number: int, cuts: Cuts, folder: Path) -> engine.Task:
    """The task that writes a shard's admitted rows for a group op."""
    after = steps[number].spec.after
    before = next(s for s in reversed(steps[:number]) if s.function is after)

    def task(shard: int) -> int:
        state = _settled(pool, shard, steps[:number], cuts, ())
        rows = np.flatnonzero(state.alive)
        # From its own file: a step between may have written content of the same name.
        made = read_table(pool.columns(before.key, shard), ["row", *before.columns])
        place = pc.index_in(pa.array(rows, pa.int32()), value_set=made["row"])
        columns = {c: state.rows[c].take(pa.array(rows)) for c in ("uid", "nbytes", "sha256")}
        columns |= {own: made[own].take(place) for own in before.columns}
        table = pa.table(columns | {"row": pa.array(rows, pa.int32())})
        write_table(table, folder / f"in-{shard_name(shard)}.parquet")
        return len(rows)

    return task


def make_decide(recipe: Recipe, pool: Pool, steps: Sequence[Resolved], cuts: Cuts, folder: Path) -> engine.Task:
    """The task that writes a shard's decisions and kept rows."""

    def task(shard: int) -> dict[str, Any]:
        split = recipe.publish.split
        content = ("text", "image", *formats.CONTENT[recipe.kind], *recipe.publish.columns, *([split] if split else []))
        state = open_shard(pool, shard, ruled(steps) | set(content))
        counts = [_ingest_count(state)]
        for number, step in enumerate(steps):
            counts.append(settle(state, pool, shard, step, _mine(cuts, number)))
        write_table(_decisions(state), folder / f"{shard_name(shard)}.parquet")
        kept = _kept(recipe, state, shard, folder / f"content-{shard_name(shard)}.jsonl")
        write_table(kept, folder / f"kept-{shard_name(shard)}.parquet")
        return {"counts": [c.to_json() for c in counts], "samples": kept.num_rows}

    return task


def make_publish(recipe: Recipe, pool: Pool, folder: Path) -> engine.Task:
    """The task that writes an output shard."""
    return lambda number: publish.write_shard(pool, folder, number, recipe.kind, recipe.publish.columns)


def _settled(pool: Pool, shard: int, steps: Sequence[Resolved], cuts: Cuts, read: Iterable[str]) -> ShardState:
    """The shard after these steps; of their columns, those that are read are held."""
    state = open_shard(pool, shard, ruled(steps) | set(read))
    for number, step in enumerate(steps):
        settle(state, pool, shard, step, _mine(cuts, number))
    return state


def _mine(cuts: Cuts, number: int) -> dict[str, Cut]:
    return {name: cut for (step, name), cut in cuts.items() if step == number}


def _candidates(state: ShardState, share: Condition) -> pa.Table:
    column = state.columns[share.column]
    alive = pa.array(state.alive & has_value(column))
    words = rank_words(column.filter(alive), state.rows["uid"].filter(alive), share.kind)
    return pa.table({name: pa.array(words[n]) for n, name in enumerate(("key", "high", "low"))})


def _ingest_count(state: ShardState) -> StepCount:
    ends = [end for end in state.ends if end is not None]
    dropped, failed = (Counter(e.rule for e in ends if e.outcome == o) for o in ("dropped", "failed"))
    return StepCount("ingest", len(state.alive), int(state.alive.sum()), dropped, failed)


def _decisions(state: ShardState) -> pa.Table:
    said = {name: pa.array([end and getattr(end, name) for end in state.ends], pa.string()) for name in End._fields}
    said["outcome"] = said["outcome"].fill_null("kept")
    return pa.table({"uid": state.rows["uid"], **said, "meta": state.rows["meta"]})


def _kept(recipe: Recipe, state: ShardState, shard: int, content: Path) -> pa.Table:
    """The kept rows, their place in the order, and where in the file `content` lies what they consist of.

    Texts and documents go through a file and not the table: what is sorted over all shards must be small.
    """
    rows = np.flatnonzero(state.alive)
    mine = pa.array(rows)
    columns = {c: state.rows[c].take(mine) for c in publish.KEPT}
    columns |= {c: state.columns[c].take(mine) for c in recipe.publish.columns}
    said = _content(recipe.kind, state, mine)
    columns |= _payload(recipe.kind, state, mine, said)
    table = pa.table(columns | {"row": pa.array((shard << 32) + rows, pa.uint64())})
    batches = said.to_batches(max_chunksize=CHUNK_ROWS)
    contents: Iterable[dict[str, Any]] = (row for batch in batches for row in batch.to_pylist())
    if recipe.publish.split is not None:
        table, contents = _split(table, state.columns[recipe.publish.split].take(mine))
    for name, values in publish.write_content(contents, content).items():
        table = table.append_column(name, values)
    if recipe.publish.shuffle:
        order = [publish.shuffle_key(recipe.seed, uid) for uid in table["uid"].to_pylist()]
        table = table.set_column(table.schema.get_field_index("row"), "row", pa.array(order, pa.uint64()))
    return table.rename_columns({"row": "order"})


def _content(kind: Kind, state: ShardState, mine: pa.Array) -> pa.Table:
    """What a kind of sample consists of, its bytes aside: the steps' own where they made it."""
    text = state.columns.get("text", state.rows["text"]).take(mine)
    made = {c: state.columns[c].take(mine) for c in formats.CONTENT[kind] if c in state.columns}
    return pa.table({"text": pc.fill_null(text, ""), **made})


def _payload(kind: Kind, state: ShardState, mine: pa.Array, said: pa.Table) -> dict[str, Any]:
    """The place of the bytes, if an op made the image; and how large a sample is, by which shards are cut."""
    if kind in ("caption", "ocr"):
        if "image" not in state.columns:
            return {}
        image = state.columns["image"].take(mine).combine_chunks()
        place = {name: pc.struct_field(image, name) for name in PLACE}
        if place["tar"].null_count:
            lost = state.rows["uid"].take(mine)[pc.index(pc.is_null(place["tar"]), True).as_py()]
            raise StepError(f"sample {lost} is kept without its image; let the op that makes it fail such rows")
        return place
    size = pc.cast(pc.binary_length(said["text"]), pa.int64())
    if kind == "interleaved" and "images" in said.column_names:
        images = [sum(b["nbytes"] or 0 for b in one.as_py() or () if b is not None) for one in said["images"]]
        size = pc.add(size, pa.array(images, pa.int64()))
    return {"nbytes": size}


def _split(table: pa.Table, parts: pa.ChunkedArray) -> tuple[pa.Table, Iterable[dict[str, Any]]]:
    """A row for each text of each row's list that is not empty, with a uid of its own, and these texts.

    The meta of each names the text that it is a part of, and its number in the list.
    """
    lists = parts.to_pylist()
    places = [(n, at, text) for n, texts in enumerate(lists) for at, text in enumerate(texts or ()) if text]
    split = table.take(pa.array([n for n, _, _ in places], pa.int64())).to_pylist()
    for row, (_, number, text) in zip(split, places, strict=True):
        meta = json.loads(row["meta"] or "{}") | {"part": number, "part_of": row["uid"]}
        row |= {"uid": uid_of("text", row["uid"], str(number)), "nbytes": len(text.encode())}
        row["meta"] = json.dumps(meta, ensure_ascii=False, sort_keys=True)
    return pa.Table.from_pylist(split, schema=table.schema), ({"text": text} for _, _, text in places)
