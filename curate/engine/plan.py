"""Plan a run: what it would do, and what of it is there already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from curate.engine.stages import start_of
from curate.recipe.steps import Decision, Resolved, ResolvedRecipe, assign_fingerprints
from curate.sources.ingest import plan_source, pool_of


@dataclass(frozen=True)
class PlannedStep:
    """A step as it would run: of how many shards its columns are there."""

    step: Resolved
    shards_there: int

    def conditions(self) -> Iterator[tuple[str, Decision]]:
        """Its rules, each with the field of the recipe that holds it."""
        for kind, conditions in self.step.part_conditions.items():
            yield from ((f"keep_{kind}", condition) for condition in conditions)
        yield from (("keep", condition) for condition in self.step.conditions)


@dataclass(frozen=True)
class RunPlan:
    """The source in shards (`rows`: None where they are counted when files are read), and the steps over them.

    `remarks`: what of the source is no sample, and how it is read where that is not plain to see.
    """

    rows: int | None
    shards: int
    shards_ingested: int
    steps: tuple[PlannedStep, ...]
    remarks: tuple[str, ...]


def plan_run(resolved: ResolvedRecipe) -> RunPlan:
    """Read and plan the source, and look up what is committed; fetches and computes nothing. Raises SourceError."""
    assign_fingerprints(resolved.steps, "")  # reads models' files: what is missing is said before the source is read
    pool = pool_of(resolved.recipe)
    planned = plan_source(resolved.recipe, pool)
    shards = range(planned.shards)
    steps = assign_fingerprints(resolved.steps, *start_of(resolved.recipe, pool))
    there = (PlannedStep(s, sum(pool.columns(s.key, shard).exists() for shard in shards)) for s in steps)
    ingested = sum(pool.rows(shard).exists() for shard in shards)
    return RunPlan(planned.rows, planned.shards, ingested, tuple(there), planned.remarks)
