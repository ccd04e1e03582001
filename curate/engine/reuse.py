"""Values that an op made of the same inputs before: for another recipe, or for the source as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from curate.engine.answers import REUSE_KEY, Answer, part_answers
from curate.pool.columns import ColumnsFile, merge_in_order
from curate.pool.layout import Pool
from curate.recipe.steps import Resolved


class ReusableColumns:
    """Columns that an op made of the same values before: for another recipe, or for the source as it was.

    A group op's columns are new with every decision before it, and so are the columns of all steps that read what it
    made; but most rows' values are what they were, and what was computed or fetched for them is taken over.
    """

    def __init__(self, pool: Pool, step: Resolved, shard: int) -> None:
        self._step = step
        self._opened: list[ColumnsFile] = []
        self._further = reusable_columns(pool, step, shard)

    @property
    def are_there(self) -> bool:
        """Whether there are any."""
        return any(True for _ in self._files())

    def find(self, inputs: Mapping[int, bytes]) -> pa.Table | None:
        """Those of these rows of which the op has read the same; None where there is none."""
        left = sorted(inputs)
        found = []
        for file in self._files():
            read = zip(left, file.column("inputs").take(left).to_pylist(), strict=True)
            if same := [row for row, digest in read if digest == inputs[row]]:
                table = file.between(same[0], same[-1] + 1)
                found.append(table.filter(pc.is_in(table["row"], pa.array(same, pa.int32()))))
                left = sorted(set(left).difference(same))
            if not left:
                break
        return merge_in_order(found)

    def find_parts(self, inputs: Mapping[int, Sequence[bytes]]) -> dict[int, dict[bytes, Answer]]:
        """Of these rows' parts, by their inputs' digests, the answers of those of which the op has read the same."""
        wanted = {row: set(digests) for row, digests in inputs.items()}
        found: dict[int, dict[bytes, Answer]] = {row: {} for row in inputs}
        for file in self._files():
            left = sorted(row for row, digests in wanted.items() if digests)
            if not left:
                break
            table = file.between(left[0], left[-1] + 1)
            for row in table.filter(pc.is_in(table["row"], pa.array(left, pa.int32()))).to_pylist():
                here = wanted[row["row"]]
                found[row["row"]] |= {digest: a for digest, a in part_answers(self._step, row) if digest in here}
                here -= found[row["row"]].keys()
        return found

    def _files(self) -> Iterator[ColumnsFile]:
        """The files, each opened when those before it did not have all."""
        yield from self._opened
        for file in self._further:
            self._opened.append(file)
            yield file


def reusable_columns(pool: Pool, step: Resolved, shard: int) -> Iterator[ColumnsFile]:
    """A shard's other columns of the same op and knobs (`Resolved.reuse_key`), newest first: it has most of them."""
    own = pool.columns(step.key, shard)
    paths = [
        path for path in own.parent.parent.glob(f"{step.spec.name}-*/{own.name}") if path != own and step.reuse_key
    ]
    for path in sorted(paths, key=lambda path: (-path.stat().st_mtime_ns, path)):
        file = ColumnsFile(path)
        if (file.schema.metadata or {}).get(REUSE_KEY) == str(step.reuse_key).encode():
            yield file
