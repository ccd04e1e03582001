"""The parts of a run, one after the other: ingest, annotate and decide stage by stage, publish.

Steps are grouped into stages: consecutive row ops run together over each shard, so that an image is decoded
once; a `top` or `bottom` ends a stage, since its cut needs all shards; a group op is a stage of its own. Each
finished stage leaves a small file with its counts and cut, named by the fingerprint of every choice before it.
"""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from curate.commit import commit_text, dump_json, read_json
from curate.engine import publish, tasks
from curate.engine.answers import without_numbers
from curate.engine.candidates import GroupsError, find_cuts
from curate.engine.placement import Placed
from curate.engine.remedies import remedy
from curate.engine.repeats import mark_repeats
from curate.engine.shares import Cut, ShareCuts
from curate.engine.stages import attempts, stages, start_of
from curate.engine.state import OWN_COLUMNS
from curate.engine.steps import Cuts
from curate.engine.workers import Servers, Workers
from curate.pool.funnel import StepCount, check_funnel, merge_counts
from curate.pool.layout import Pool, shard_name
from curate.pool.tables import GROUP, read_table, write_table
from curate.recipe.model import Recipe
from curate.recipe.steps import Resolved, chats_of
from curate.sample import fingerprint
from curate.shards import DatasetInfo, load_dataset
from curate.sources.ingest import SourcePlan, is_fetched


class RunError(RuntimeError):
    """A run that cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class RunProgress:
    """Progress of a part of the run: shards done of `total`, rows computed, rows that failed."""

    what: str
    done: int
    total: int
    computed: int = 0
    failed: int = 0


Watch = Callable[[RunProgress], None]

AT_WORK = ".at-work"
"""The file that says which shard a run without Ray is at."""


@dataclass(frozen=True)
class Decided:
    """Every row's end: the fingerprint of all choices, the counts a step, the samples to publish, and what models wrote
    of the kept rows."""

    key: str
    funnel: list[StepCount]
    samples: int
    written: dict[str, Counter[str]]


@dataclass
class Runner:
    """The parts of a run over a planned source; what of one is committed is only read."""

    recipe: Recipe
    pool: Pool
    planned: SourcePlan
    workers: Workers
    watch: Watch
    placed: Placed
    counts: list[StepCount] = field(default_factory=list)

    @property
    def shards(self) -> range:
        """The numbers of the pool's shards."""
        return range(self.planned.shards)

    def version(self) -> int:
        """The number of times that the pool's failed URLs were tried again."""
        return attempts(self.pool)

    def ingest(self) -> StepCount:
        """Commit every shard of the pool, then find rows whose uid came before."""
        done = self.pool.taken_in
        if done.exists():
            return _reused(StepCount.from_json(read_json(done)))
        blocks = tasks.cut(self.shards, self.workers.count)
        task = functools.partial(tasks.make_ingest, self.recipe, self.pool, self.planned, blocks)
        total, shards = StepCount("ingest"), 0
        allowed = self.recipe.limits.failed * (self.planned.rows or 0)
        servers = Servers(self.recipe.download if is_fetched(self.recipe) else None)
        for result in self.workers.run("ingest", task, range(len(blocks)), servers):
            for count in result:
                total.add(StepCount.from_json(count))
            shards += len(result)
            failed = total.failed.total()
            self.watch(RunProgress("ingest", shards, len(self.shards), total.computed, failed))
            if self.planned.rows is not None and failed > allowed:
                raise too_many_failures(total, self.planned.rows, self.recipe.limits.failed)
        if self.planned.rows is not None and total.rows_in != self.planned.rows:
            raise RunError(f"{self.pool.folder}: {self.planned.rows} rows planned, {total.rows_in} in the pool")
        self._check_failures([total])
        repeats = mark_repeats(self.pool, self.shards, Path(self.recipe.out) / "scratch")
        if repeats:
            total.dropped["unique_uid"] = repeats
        total.kept = total.rows_in - total.failed.total() - repeats
        total.check()
        commit_text(done, dump_json(total.to_json()))
        return total

    def annotate(
        self, ingest: StepCount, steps: Sequence[Resolved]
    ) -> tuple[list[StepCount], dict[tuple[int, str], ShareCuts]]:
        """Every stage in turn; the counts a step, and the cuts of all shares."""
        self.counts = [ingest]
        self._check_failures([])
        cuts: dict[tuple[int, str], ShareCuts] = {}
        for first, last in stages(steps):
            done = Path(self.recipe.out) / "stages" / f"{steps[last].chain}.json"
            if not done.exists() or "cuts" not in read_json(done):  # not there, or of an earlier version
                self._stage(steps, first, last, cuts, done)
                found = read_json(done)
                self.counts += [StepCount.from_json(c) for c in found["counts"]]
            else:
                shutil.rmtree(done.with_suffix(""), ignore_errors=True)
                found = read_json(done)
                self.counts += [_reused(StepCount.from_json(c)) for c in found["counts"]]
            self._check_failures([])
            for name, groups in found["cuts"].items():
                cuts[last, name] = {
                    group: Cut(tuple(words) if words else None, value) for group, (words, value) in groups.items()
                }
        return self.counts[1:], cuts

    def _check_failures(self, now: Sequence[StepCount]) -> None:
        """Stop the run when more rows have failed, in all that was done so far, than the recipe allows."""
        counts = [*self.counts, *now]
        failed = StepCount("all", failed=sum((c.failed for c in counts), Counter[str]()))
        if failed.failed.total() > self.recipe.limits.failed * counts[0].rows_in:
            raise too_many_failures(failed, counts[0].rows_in, self.recipe.limits.failed)

    def _stage(self, steps: Sequence[Resolved], first: int, last: int, cuts: Cuts, done: Path) -> None:
        grouped = steps[first].spec.is_group and self._group(steps, first, cuts)
        folder = done.with_suffix("")
        share = self.placed.share(steps[first : last + 1])
        given = tasks.StageSetting(folder, self.recipe.limits.op_timeout_s, share.cpus if share else 1)
        task = functools.partial(tasks.make_stage, self.pool, steps, (first, last), cuts, given)
        fetches = any(step.fetches for step in steps[first : last + 1])
        servers = Servers(self.recipe.download if fetches else None, chats_of(steps[first : last + 1]))
        parts: list[list[StepCount]] = []
        for number, result in enumerate(self.workers.run(done.stem, task, self.shards, servers, share), 1):
            parts.append([StepCount.from_json(c) for c in result])
            parts = [list(merge_counts(parts))]
            for c in parts[0]:
                self.watch(RunProgress(c.step, number, len(self.shards), c.computed, c.failed.total()))
            self._check_failures(parts[0])
        counts = parts[0]
        if grouped:
            counts[0].computed, counts[0].reused = counts[0].rows_in, 0
        found = self._shares(steps, last, cuts, folder, counts[-1]) if steps[last].shares else {}
        data = {
            name: {group: (cut.words, cut.value) for group, cut in groups.items()} for name, groups in found.items()
        }
        check_funnel(counts)
        commit_text(done, dump_json({"counts": [c.to_json() for c in counts], "cuts": data}))
        shutil.rmtree(folder, ignore_errors=True)

    def _shares(
        self, steps: Sequence[Resolved], last: int, cuts: Cuts, folder: Path, count: StepCount
    ) -> dict[str, ShareCuts]:
        """The cuts of a step's shares; what they drop is added to the step's count."""
        try:
            found: dict[str, ShareCuts] = {
                c.name: find_cuts(c, n, folder, self.shards) for n, c in enumerate(steps[last].shares)
            }
        except GroupsError as err:
            raise RunError(f"step {steps[last].label!r}: {err}") from None
        known = {**cuts, **{(last, name): groups for name, groups in found.items()}}
        task = functools.partial(tasks.make_count, self.pool, steps, last, known)
        decided = StepCount(count.step)
        for result in self.workers.run(f"count {folder.name}", task, self.shards):
            decided.add(StepCount.from_json(result))
        count.dropped, count.kept = decided.dropped, decided.kept
        return found

    def _group(self, steps: Sequence[Resolved], number: int, cuts: Cuts) -> bool:
        """Run a group op unless its columns are there; whether it ran."""
        step = steps[number]
        if all(self.pool.columns(step.key, shard).exists() for shard in self.shards):
            return False
        scratch = Path(self.recipe.out) / "scratch" / step.key
        shutil.rmtree(scratch, ignore_errors=True)
        gather = functools.partial(tasks.make_gather, self.pool, steps, number, cuts, scratch)
        for done, _ in enumerate(self.workers.run(f"gather {step.key}", gather, self.shards), 1):
            self.watch(RunProgress(f"{step.label}: gather", done, len(self.shards)))
        inputs, outputs = ([scratch / f"{k}-{shard_name(s)}.parquet" for s in self.shards] for k in ("in", "out"))
        step.function(inputs, outputs, scratch / "work", **step.knobs)
        for shard, given, made in zip(self.shards, inputs, outputs, strict=True):
            write_table(_group_columns(step, read_table(given), read_table(made)), self.pool.columns(step.key, shard))
        shutil.rmtree(scratch)
        return True

    def decide(self, steps: Sequence[Resolved], cuts: Cuts) -> Decided:
        """Every row's end, from columns alone: what `explain` reads and what is published."""
        recipe = self.recipe
        start, _ = start_of(recipe, self.pool)
        choice = [steps[-1].chain if steps else start, recipe.publish.columns, recipe.seed, self.version()]
        repeat = [recipe.publish.repeat] if recipe.publish.repeat else []
        key = fingerprint([*choice, recipe.publish.shuffle, recipe.publish.split, *repeat])
        folder = decisions_folder(recipe, key)
        done = folder.with_suffix(".json")
        if not done.exists():
            task = functools.partial(tasks.make_decide, recipe, self.pool, steps, cuts, folder)
            parts: list[list[StepCount]] = []
            samples, written = 0, dict[str, Counter[str]]()
            for number, result in enumerate(self.workers.run(f"decide {key}", task, self.shards), 1):
                parts = [list(merge_counts([*parts, [StepCount.from_json(c) for c in result["counts"]]]))]
                samples += result["samples"]
                for column, models in result["written"].items():
                    written.setdefault(column, Counter()).update(models)
                self.watch(RunProgress("decide", number, len(self.shards)))
            check_funnel(parts[0])
            if recipe.publish.split is None and not repeat and samples != parts[0][-1].kept:
                raise RunError(f"{folder}: {parts[0][-1].kept} rows kept, {samples} to publish; this is our bug")
            said = {"counts": [c.to_json() for c in parts[0]], "samples": samples, "written": written}
            commit_text(done, dump_json(said))
        found = read_json(done)
        written = {column: Counter(dict(sorted(n.items()))) for column, n in found.get("written", {}).items()}
        return Decided(key, [StepCount.from_json(c) for c in found["counts"]], found["samples"], written)

    def publish(self, key: str, named: str) -> tuple[DatasetInfo, bool]:
        """Write the dataset unless it is there; returns what it is, and whether it was written now.

        `named`: the fingerprint of the recipe's choices, for dataset.json.
        """
        recipe, out = self.recipe, Path(self.recipe.out)
        target, done = out / "dataset", out / "published.json"
        said = fingerprint([key, recipe.publish.said(), recipe.name])
        building = out / f"publish-{said}"
        there = any((folder / "dataset.json").exists() for folder in (target, building))
        published_now = not (there and done.exists() and read_json(done)["key"] == said)
        if published_now:
            self._build(key, named, building)
            commit_text(done, dump_json({"key": said}))
        publish.swap(building, target)
        shutil.rmtree(out / "scratch", ignore_errors=True)
        return load_dataset(target), published_now

    def _build(self, key: str, named: str, building: Path) -> None:
        recipe, out = self.recipe, Path(self.recipe.out)
        for stale in out.glob("publish-*"):
            if stale != building:
                shutil.rmtree(stale)
        kept = [decisions_folder(recipe, key) / f"kept-{shard_name(s)}.parquet" for s in self.shards]
        shards = publish.plan_shards(kept, recipe.publish, building, out / "scratch" / "sort")
        task = functools.partial(tasks.make_publish, recipe, self.pool, building)
        infos = []
        for number, info in enumerate(self.workers.run(f"publish {key}", task, range(shards)), 1):
            infos.append(info)
            self.watch(RunProgress("publish", number, shards))
        publish.seal(building, recipe, named, infos)


def decisions_folder(recipe: Recipe, key: str) -> Path:
    """The folder of a run's decisions and kept rows."""
    return Path(recipe.out) / "decisions" / key


def too_many_failures(count: StepCount, rows: int, limit: float) -> RunError:
    """The error of a run whose failures pass the limit, with the three commonest and what to do about each."""
    lines = [f"  {error}: {n} rows. {remedy(error)}" for error, n in count.failed.most_common(3)]
    head = f"{count.failed.total()} of {rows} rows failed, more than limits.failed = {limit:g} allows."
    kept = "What was committed is kept. Mend the cause and forget the failures (`curate retry`), or raise the limit:"
    return RunError("\n".join([head, *lines, f"{kept} run again to go on."]))


def _group_columns(step: Resolved, given: pa.Table, made: pa.Table) -> pa.Table:
    if not made["uid"].cast(given["uid"].type).equals(given["uid"]):
        raise RunError(f"op {step.spec.name!r}: its output must hold the input's rows in the same order")
    columns = {name: made[name].cast(kind) for name, kind in step.spec.writes.items()}
    failed = without_numbers(columns)
    said = {at: pa.array([f and getattr(f, at) for f in failed], pa.string()) for at in OWN_COLUMNS}
    table = pa.table({"row": given["row"], **columns, **said})
    return table.replace_schema_metadata({GROUP: b""})


def _reused(count: StepCount) -> StepCount:
    count.computed, count.reused = 0, count.rows_in
    return count
