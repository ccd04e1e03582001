"""Look at the parts of documents: examples of those that left, and the values that the rules on parts looked at.

As of rows: the first shards, in their mixed order, give the values; which parts are shown hangs on their rows' uids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.ops.spec import PartKind
from curate.pool.columns import ColumnsFile
from curate.pool.layout import Pool
from curate.pool.tables import read_table
from curate.recipe.steps import Resolved
from curate.report.values import ShownValues, join_values, shown_values

EXAMPLES = 8


class PartEnd(NamedTuple):
    """One way in which parts leave their documents: dropped by a rule or failed by an error, at a step."""

    step: str
    of: PartKind
    outcome: str
    rule: str


class EndedPart(NamedTuple):
    """A part that left: what it was (an image's URL, how a paragraph begins), the value as JSON, and its row's uid."""

    what: str
    value: str
    uid: str


@dataclass
class PartSurvey:
    """Examples by end, and values by (step, kind of part, column)."""

    examples: dict[PartEnd, list[EndedPart]] = field(default_factory=dict)
    values: dict[tuple[str, PartKind, str], ShownValues] = field(default_factory=dict)


def survey_parts(pool: Pool, shards: Sequence[Path], steps: Sequence[Resolved]) -> PartSurvey:
    """Look at the parts of these shards, given by their files of decisions."""
    found = PartSurvey()
    if not any(step.decides_parts for step in steps):
        return found
    values: dict[tuple[str, PartKind, str], list[ShownValues]] = {}
    for path in shards:
        ended = read_table(path, ["uid", "step"])
        _pick(found, path.with_name(f"parts-{path.name}"), ended["uid"])
        for at, one in _values(pool, int(path.stem), ended["step"].to_pylist(), steps):
            values.setdefault(at, []).append(one)
    found.values = {at: join_values(parts) for at, parts in values.items()}
    return found


def _pick(found: PartSurvey, path: Path, uids: pa.ChunkedArray) -> None:
    """Add the parts of a shard that left, and keep of each end those whose rows' uids come first."""
    table = read_table(path)
    rows = table["row"].to_numpy()
    uid = np.array(uids.to_pylist(), dtype=object)[rows]
    ends = list(zip(*(table[c].to_pylist() for c in PartEnd._fields), strict=True))
    for end in dict.fromkeys(ends):
        mine = [at for at, one in enumerate(ends) if one == end]
        first = sorted(mine, key=lambda at: (uid[at][16:], at))[:EXAMPLES]
        what, value = (table[c].take(pa.array(first)).to_pylist() for c in ("what", "value"))
        fresh = [EndedPart(w, v, str(uid[at])) for w, v, at in zip(what, value, first, strict=True)]
        key = PartEnd(*end)
        found.examples[key] = sorted([*found.examples.get(key, []), *fresh], key=lambda p: p.uid[16:])[:EXAMPLES]


def _values(
    pool: Pool, shard: int, ended_at: Sequence[str | None], steps: Sequence[Resolved]
) -> Iterator[tuple[tuple[str, PartKind, str], ShownValues]]:
    """The values of the parts of the rows that came to each step, by the columns of its rules on parts."""
    order = {s.label: n for n, s in enumerate(steps)} | {"ingest": -1, None: len(steps)}
    last = np.array([order[label] for label in ended_at], dtype=np.int64)
    for number, step in enumerate(steps):
        for kind, conditions in step.part_conditions.items():
            for column in dict.fromkeys(name for c in conditions for name in c.columns):
                made, own = next((s, own) for s in steps for own, name in s.columns.items() if name == column)
                rows = np.flatnonzero(last >= number)
                lists = ColumnsFile(pool.columns(made.key, shard)).column(own).take(rows).combine_chunks()
                flat = pc.list_flatten(lists)
                yield (step.label, kind, column), shown_values(column, flat, np.zeros(len(flat), dtype=bool), kind)
