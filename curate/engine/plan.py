"""Plan a run: what it would do, and what of it is there already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from curate.engine.hands import GpuShare
from curate.engine.placement import place
from curate.engine.stages import stages, start_of
from curate.lacks import MachineError
from curate.llm.model import ChatModel
from curate.recipe.steps import Decision, Resolved, ResolvedRecipe, assign_fingerprints
from curate.settings import SettingsError
from curate.sources.ingest import pool_of, preview_source


@dataclass(frozen=True)
class PlannedStep:
    """A step as it would run: of how many shards its columns are there; what it takes of GPUs, if it runs on them."""

    step: Resolved
    shards_there: int
    share: GpuShare | None = None

    @property
    def runs_on(self) -> str:
        """The device in words: `cpu`, or with the precision and each worker's share of a GPU."""
        device = self.step.placement.device
        precision = f", {device.precision}" if device.precision else ""
        if self.share is None:
            return f"cpu{precision}"
        share = self.share
        each = f"{share.fraction:g} of a GPU and {share.cpus} thread{'s' * (share.cpus > 1)} each"
        return f"{device.kind}{precision}: up to {share.workers} worker{'s' * (share.workers > 1)}, {each}"

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
    warnings: tuple[str, ...] = ()


def plan_run(resolved: ResolvedRecipe, workers: int) -> RunPlan:
    """Read and plan the source, and look up what is committed; fetches and computes nothing. Raises SourceError.

    `workers` as for `run`: where they are joined on a cluster, its GPUs are those that count. `warnings`: models that
    will run on the processor though there is a GPU.
    """
    placed = place(resolved, workers)
    resolved = placed.resolved
    assign_fingerprints(resolved.steps, "")  # reads models' files: what is missing is said before the source is read
    pool = pool_of(resolved.recipe)
    planned = preview_source(resolved.recipe, pool)
    shards = range(planned.shards)
    steps = assign_fingerprints(resolved.steps, *start_of(resolved.recipe, pool))
    shares = [placed.share(steps[a : b + 1]) for a, b in stages(steps) for _ in range(a, b + 1)]
    there = (sum(pool.columns(s.key, shard).exists() for shard in shards) for s in steps)
    planned_steps = tuple(PlannedStep(s, n, shares[at]) for at, (s, n) in enumerate(zip(steps, there, strict=True)))
    ingested = sum(pool.rows(shard).exists() for shard in shards)
    warnings = (*placed.warnings(), *_unready(resolved.chats))
    return RunPlan(planned.rows, planned.shards, ingested, planned_steps, planned.remarks, warnings)


def _unready(chats: Sequence[ChatModel]) -> Iterator[str]:
    """What a run would be refused for: a chat model without its key, or a budget in money without a price."""
    for chat in chats:
        try:
            chat.check()
        except (MachineError, SettingsError) as err:
            yield str(err)
