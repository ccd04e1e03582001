"""Cut a run into stages: consecutive steps that run together over each shard; and name where decisions start."""

from __future__ import annotations

from collections.abc import Sequence

from curate.commit import read_json
from curate.pool.layout import Pool
from curate.recipe.model import Recipe
from curate.recipe.steps import Resolved
from curate.sample import fingerprint
from curate.sources.ingest import is_fetched


def start_of(recipe: Recipe, pool: Pool) -> tuple[str, int]:
    """The start of the chain of decisions: the pool with the version of its rows, and how often a retry has run."""
    tried = attempts(pool)
    return fingerprint([pool.key, pool.source, tried if is_fetched(recipe) else 0]), tried


def attempts(pool: Pool) -> int:
    """The number of times that `retry` has run on this pool."""
    path = pool.folder / "retries.json"
    return int(read_json(path)["attempts"]) if path.exists() else 0


def stages(steps: Sequence[Resolved]) -> list[tuple[int, int]]:
    """The first and last step of each stage."""
    found: list[tuple[int, int]] = []
    first = 0
    for number, step in enumerate(steps):
        follower_is_group = number + 1 < len(steps) and steps[number + 1].spec.is_group
        ends = step.spec.is_group or follower_is_group or bool(step.shares)
        ends |= step.spec.stores  # what it stores is read by others when it is committed
        ends |= number + 1 < len(steps) and steps[number + 1].placement.group != step.placement.group
        # The same op over the same columns again: it finds what it made the first time when that is committed.
        ends |= number + 1 < len(steps) and steps[number + 1].key in {s.key for s in steps[first : number + 1]}
        if ends or number + 1 == len(steps):
            found.append((first, number))
            first = number + 1
    return found
