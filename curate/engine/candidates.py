"""The rows that a share is taken of: written by the shards' tasks, read again while the cuts are looked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engine.rules import has_value
from curate.engine.shares import EVERYTHING, MOST_GROUPS, Cut, Ranked, group_names, rank_words, share_cuts
from curate.engine.state import ShardState
from curate.engine.steps import Cuts, decide_shard
from curate.pool.layout import Pool, shard_name
from curate.pool.tables import read_table, write_table
from curate.recipe.steps import Condition, Resolved, column_maker

_WORDS = ("key", "high", "low")


class GroupsError(ValueError):
    """A share by a column that has too many values to be one of groups."""


def write_candidates(pool: Pool, shard: int, steps: Sequence[Resolved], cuts: Cuts, folder: Path) -> None:
    """Write, for each share of the last of these steps, the rows of a shard that it is taken of.

    Of what arrives: the rows that the step's other rules leave, the same for all its shares. Of the pool: all that did
    not fail by the step that computed its columns, before any rule.
    """
    arriving: ShardState | None = None
    for number, share in enumerate(steps[-1].shares):
        if share.of_pool:
            made = max(column_maker(steps, column) or 0 for column in share.columns)
            undecided = [*steps[:made], replace(steps[made], conditions=(), part_conditions={})]
            state, _ = decide_shard(pool, shard, undecided, {})
        else:
            arriving = state = arriving or decide_shard(pool, shard, steps, cuts)[0]
        write_table(_candidates(state, share), _path(folder, number, shard))


def _candidates(state: ShardState, share: Condition) -> pa.Table:
    everything = range(len(state.alive))
    column = state.columns[share.column].take(everything)
    rows = pa.array(state.alive & has_value(column))
    words = rank_words(column.filter(rows), state.rows["uid"].filter(rows), share.kind)
    table = {name: pa.array(words[n]) for n, name in enumerate(_WORDS)}
    if share.by is not None:
        names = group_names(state.columns[share.by].take(everything).filter(rows))
        table["group"] = pa.array(names, pa.string()).dictionary_encode()
    return pa.table(table)


def find_cuts(share: Condition, number: int, folder: Path, shards: range) -> dict[str, Cut]:
    """The cuts of the share of this number, by group, over all shards. Raises GroupsError."""
    numbers: dict[str, int] = {EVERYTHING: 0} if share.by is None else {}
    if share.by is not None:
        for shard in shards:
            for name in pc.unique(_table(folder, number, shard)["group"]).to_pylist():
                numbers.setdefault(name, len(numbers))
            if len(numbers) > MOST_GROUPS:
                raise GroupsError(
                    f"rule {share.name}: column {share.by!r} has more than {MOST_GROUPS:,} values; a share is taken"
                    " within groups of rows: name a column with fewer"
                )

    def chunks() -> Iterator[Ranked]:
        for shard in shards:
            table = _table(folder, number, shard)
            words = np.stack([table[c].to_numpy() for c in _WORDS])
            groups = np.zeros(table.num_rows, np.int64)
            if share.by is not None and table.num_rows:
                coded = table["group"].combine_chunks().dictionary_encode()
                own = np.array([numbers[name] for name in coded.dictionary.to_pylist()], np.int64)
                groups = own[coded.indices.to_numpy()]
            yield Ranked(words, groups)

    return share_cuts(share, list(numbers), chunks)


def _table(folder: Path, number: int, shard: int) -> pa.Table:
    table = read_table(_path(folder, number, shard))
    if "group" in table.schema.names:
        table = table.set_column(len(_WORDS), "group", table["group"].cast(pa.string()))
    return table


def _path(folder: Path, number: int, shard: int) -> Path:
    return folder / f"{number}-{shard_name(shard)}.parquet"
