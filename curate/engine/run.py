"""Run a recipe: plan, ingest, annotate and decide stage by stage, publish; what is committed is never redone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from curate.commit import commit_text, dump_json, take_over
from curate.engine.placement import place
from curate.engine.runner import AT_WORK, RunError, Runner, RunProgress, Watch
from curate.engine.shares import EVERYTHING, ShareCuts
from curate.engine.stages import start_of
from curate.engine.workers import Workers
from curate.llm.model import ChatCost, Gateways, costs_of, share_chats
from curate.pool.funnel import StepCount, check_funnel
from curate.pool.layout import Pool
from curate.process import hold
from curate.recipe.model import PART_CHOICES, RULE_CHOICES, RULES, Recipe
from curate.recipe.source import Written, named_by
from curate.recipe.steps import Resolved, ResolvedRecipe, assign_fingerprints
from curate.sample import fingerprint
from curate.shards import DatasetInfo
from curate.sources.ingest import SourcePlan, plan_source, pool_of

ShownCut = float | None | Mapping[str, float | None]
"""The value of a share's cut, None where it keeps nothing; of a share within groups, by the group's name."""


@dataclass
class Summary:
    """Summary of a run: the funnel (ingest first), the dataset, and its folders."""

    recipe: Recipe
    pool: Pool
    steps: list[Resolved]
    funnel: list[StepCount]
    dataset: DatasetInfo
    key: str
    published_now: bool
    cuts: dict[str, ShownCut] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    costs: tuple[ChatCost, ...] = ()
    written: Mapping[str, Counter[str]] = field(default_factory=dict)
    """Of each column that says which model wrote a text, how many kept rows each model has."""

    @property
    def folder(self) -> Path:
        """The published dataset."""
        return Path(self.recipe.out) / "dataset"

    @property
    def computed(self) -> int:
        """Rows that this run took in or annotated; 0 when everything was there."""
        return sum(c.computed for c in self.funnel)

    def to_json(self) -> dict[str, Any]:
        """The summary as plain data, for `funnel.json` and `--json`; paths are relative to the recipe's folder."""
        return {
            "name": self.recipe.name,
            "key": self.key,
            "pool": {"key": self.pool.key, "source": self.pool.source},
            "dataset": "dataset",
            "samples": self.dataset.samples,
            "bytes": self.dataset.bytes,
            "shards": len(self.dataset.shards),
            "cuts": self.cuts,
            "remarks": list(self.remarks),
            "columns": {shown: [step.key, own] for step in self.steps for own, shown in step.columns.items()},
            "funnel": [c.to_json() for c in self.funnel],
            **({"llm": [cost.to_json(self.funnel[-1].kept) for cost in self.costs]} if self.costs else {}),
            **({"written": {name: dict(n) for name, n in self.written.items()}} if self.written else {}),
        }


def run(resolved: ResolvedRecipe, workers: int, watch: Watch = lambda progress: None) -> Summary:
    """Do all of the recipe that is not done yet. Raises RunError, SourceError, WorkerError, HeldError or OSError."""
    recipe = resolved.recipe
    out = Path(recipe.out)
    placed = place(resolved, workers)
    resolved = placed.resolved
    named = choices(resolved)  # reads models' files: what is missing is said before anything runs
    for chat in resolved.chats:
        chat.check()
    with (
        hold(out),
        take_over(out),
        Gateways(out) as gateways,
        Workers(workers, out / AT_WORK, gateways, recipe.resources.gpus) as crew,
    ):
        pool = pool_of(recipe)
        runner = Runner(recipe, pool, _plan(recipe, pool, gateways, watch), crew, watch, placed)
        ingest = runner.ingest()
        steps = assign_fingerprints(resolved.steps, *start_of(recipe, pool))
        counts, cuts = runner.annotate(ingest, steps)
        decided = runner.decide(steps, cuts)
        _cross_check([ingest, *counts], decided.funnel)
        info, published_now = runner.publish(decided.key, named)
        if info.samples != decided.samples:
            raise RunError(
                f"{out}: {decided.samples} samples to publish, {info.samples} published; delete {out}/dataset"
            )
        values = {name: _shown_cut(steps[at], name, by_group) for (at, name), by_group in cuts.items()}
        funnel, remarks = [ingest, *counts], runner.planned.remarks
        costs = costs_of(out, resolved.chats)
        summary = Summary(
            recipe, pool, steps, funnel, info, decided.key, published_now, values, remarks, costs, decided.written
        )
        commit_text(out / "funnel.json", dump_json(summary.to_json()))
        _forget_decisions(out, decided.key)
        return summary


def _plan(recipe: Recipe, pool: Pool, gateways: Gateways, watch: Watch) -> SourcePlan:
    """The source's plan: for one that a chat model writes, it is asked here."""
    source, chat = recipe.source, recipe.source_chat
    if chat is None or pool.plan.exists():
        return plan_source(recipe, pool)

    def told(rows: int, failed: int) -> None:
        if isinstance(source, Written):
            watch(RunProgress("write", rows - failed, source.count, rows, failed))

    share_chats(gateways.addresses((chat,)))
    try:
        return plan_source(recipe, pool, told)
    finally:
        share_chats({})


def _forget_decisions(out: Path, key: str) -> None:
    """Drop the decisions of earlier choices: the columns that they were made from are kept, so they cost nothing."""
    for path in (out / "decisions").iterdir():
        if path.stem != key:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def choices(resolved: ResolvedRecipe) -> str:
    """The fingerprint of a recipe's choices: not of its `out`, nor of where its source lies."""
    said = resolved.recipe.model_dump(mode="json", exclude={"out", "source", "limits", "resources", "llm"})
    said |= {"source": named_by(resolved.recipe.source), "publish": resolved.recipe.publish.said()}
    # A recipe that says nothing of parts is named as it was before there were rules on them.
    for step in said["steps"]:
        del step["resources"]
        for field_name in [name for name in PART_CHOICES if not step[name] or step[name] == {"any_of": []}]:
            del step[field_name]
        for rules in (step[name] for name in RULES if name in step):
            sets = [{name: rule for name, rule in rules.items() if name != "any_of"}, *rules["any_of"]]
            for rule, (name, unsaid) in product((r for one in sets for r in one.values()), RULE_CHOICES.items()):
                if rule[name] == unsaid:
                    del rule[name]
            if not rules["any_of"]:
                del rules["any_of"]
    return fingerprint([said, [s.key for s in assign_fingerprints(resolved.steps, "")]])


def _shown_cut(step: Resolved, name: str, by_group: ShareCuts) -> ShownCut:
    share = next(share for share in step.shares if share.name == name)
    if share.by is None:
        return by_group[EVERYTHING].value
    return {group: cut.value for group, cut in sorted(by_group.items())}


def _cross_check(counts: Sequence[StepCount], decided: Iterable[StepCount]) -> None:
    """The counts that the stages took while computing must be those that the decisions give from columns."""
    for one, other in zip(counts, decided, strict=True):
        a, b = one.to_json(), other.to_json()
        for told in (a, b):
            told.pop("computed"), told.pop("reused")
        if a != b:
            raise RunError(f"step {one.step!r}: counted {a} while computing, {b} while deciding; this is our bug")
    check_funnel(list(counts))
