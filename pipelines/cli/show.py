"""Show recipes on the command line: before, during and after a run, of every kind of sample."""

from __future__ import annotations

import inspect
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from curate import strict_json
from curate.document.segments import DOCUMENT
from curate.engine import explain, verification
from curate.engine import retry as retrying
from curate.engine import run as engine_run
from curate.engine.placement import place
from curate.engine.plan import plan_run
from curate.engine.probe import ChatEstimate, Interval, probe
from curate.engine.runner import RunProgress, Watch
from curate.llm.model import ChatCost
from curate.ops.spec import GIVEN, spec_of
from curate.ops.table import OPS, find_op
from curate.pool.blob import BLOB
from curate.pool.funnel import StepCount
from curate.recipe import source
from curate.recipe.resolve import load as recipe_load
from curate.recipe.steps import AnyOf, Condition, Decision, ResolvedRecipe
from curate.report.page import percent
from curate.report.write import write as write_report
from curate.settings import unknown_message
from curate.shards import load_dataset, verify_shard
from curate.shards.info import DATASET_FILE
from curate.shipped import recipe_path, shipped_recipes

out_console = Console(highlight=False)
err_console = Console(stderr=True, highlight=False)


def load(path: Path, overrides: Sequence[str]) -> ResolvedRecipe:
    """Read and check a recipe, given by its path or by a name of ours. Raises SettingsError."""
    return recipe_load(recipe_path(path, "run"), overrides)


def run(checked: ResolvedRecipe, workers: int, as_json: bool = False) -> engine_run.Summary:
    """Run a recipe with a progress bar a step, then show the funnel and say where everything lies."""
    _print_warnings(place(checked, workers).warnings())
    with progress_bars() as watch:
        summary = engine_run.run(checked, workers, watch)
    pages = write_report(summary)
    if as_json:
        print_json(summary.to_json())
        return summary
    out_console.print(funnel_table(summary.funnel))
    for line in tally_lines(summary.funnel):
        out_console.print(line, soft_wrap=True, markup=False)
    for cost in summary.costs:
        out_console.print(cost_words(cost, summary.funnel[-1].kept), soft_wrap=True, markup=False)
    _print_remarks(summary.remarks)
    made = "written now" if summary.published_now else "unchanged"
    out_console.print(_work_text(summary), soft_wrap=True)
    if not summary.dataset.samples:
        last = next(count for count in reversed(summary.funnel) if count.rows_in)
        why = ", ".join(name for name, _ in (last.dropped + last.failed).most_common(3))
        err_console.print(f"nothing was kept: the last rows ended in step {last.step} by {why}", soft_wrap=True)
    out_console.print(f"dataset  {summary.folder}  ({summary.dataset.samples:,} samples, {made})", soft_wrap=True)
    for page in pages:
        out_console.print(f"report   {page}", soft_wrap=True)
    if others := [p.name for p in sorted(Path(checked.recipe.out).glob("pool-*")) if p != summary.pool.folder]:
        why = "of this source as it was, or of another: not read now, may be deleted"
        err_console.print(f"{checked.recipe.out} also holds {', '.join(others)}, {why}", soft_wrap=True)
    return summary


def retry(checked: ResolvedRecipe, workers: int, errors: Sequence[str] = (), step: str | None = None) -> None:
    """Try failed URLs again, or forget failures by name."""
    with progress_bars() as watch:
        done = retrying.retry(checked, workers, watch, retrying.Wanted(tuple(errors), step))
    if done.documents:
        out_console.print(f"{done.documents:,} documents lack images; `curate run` fetches these again")
    if done.forgotten:
        out_console.print(f"{done.forgotten:,} failures forgotten; `curate run` computes these rows again")
    if done.tried:
        what = "failed rows" if errors else "failed URLs"
        out_console.print(f"{done.tried:,} {what} tried again, {done.came:,} came; `curate run` takes them in")
    elif not done.documents and not done.forgotten:
        none = (
            f"nothing failed by {' or '.join(errors)}" if errors else "no URL failed that another attempt could bring"
        )
        out_console.print(f"nothing to try again: {none}")


def show_plan(checked: ResolvedRecipe, workers: int, as_json: bool, probed: int | None = None) -> None:
    """Show what a run would do: the source in shards, each step with device and rules, and what is there already.

    `probed`: so many rows are asked of its chat models, for an estimate of what all would cost.
    """
    planned = plan_run(checked, workers)
    with progress_bars() as watch:
        estimates = probe(checked, probed, watch) if probed is not None else ()
    lines: list[dict[str, Any]] = [
        {
            "step": at.step.label,
            "op": at.step.spec.name,
            "over": at.step.over,
            "reads": list(at.step.reads) or ["all rows"],
            "runs_on": at.runs_on,
            "rules": [_rule(field, condition) for field, condition in at.conditions()],
            "shards_there": at.shards_there,
        }
        for at in planned.steps
    ]
    if as_json:
        said = {"rows": planned.rows, "shards": planned.shards, "shards_ingested": planned.shards_ingested}
        print_json(
            said
            | {"remarks": list(planned.remarks), "warnings": list(planned.warnings), "steps": lines}
            | ({"estimates": [one.to_json() for one in estimates]} if probed is not None else {})
        )
        return
    rows = f"{planned.rows:,} rows" if planned.rows is not None else "rows are counted when the files are read"
    out_console.print(f"source: {rows} in {_shards(planned.shards)}, {planned.shards_ingested} of them ingested")
    _print_remarks(planned.remarks)
    table = Table("step", "reads", "runs on", "keeps", "columns there")
    for line in lines:
        there_now = f"{line['shards_there']} of {_shards(planned.shards)}"
        reads = ", ".join(line["reads"]) + (f" of {line['over']}" if line["over"] else "")
        table.add_row(line["step"], reads, line["runs_on"], "\n".join(line["rules"]) or "(all)", there_now)
    out_console.print(table)
    _print_warnings(planned.warnings)
    for one in estimates:
        out_console.print(_estimate_words(one), soft_wrap=True, markup=False)
    if probed is not None and not estimates:
        out_console.print("probe: no step asks a chat model, or the source is to be written first")
    asked = "some rows of it were asked about, and their answers are kept for the run"
    done = asked if estimates else "nothing was fetched or computed"
    out_console.print(f"dry run: the source was read and planned, {done}")


def _estimate_words(one: ChatEstimate) -> str:
    """What a chat model would cost, with the interval at 95 %."""

    def words(found: Interval, form: str) -> str:
        high = "?" if math.isinf(found.high) else format(found.high, form)
        return f"{found.mean:{form}} ({found.low:{form}} to {high})"

    return (
        f"chat model {one.chat.name} ({one.chat.endpoint.name}), by a probe of {one.probed:,} rows, for {one.rows:,}"
        f" rows: {words(one.requests, ',.0f')} requests, {words(one.tokens, ',.0f')} tokens, {words(one.usd, ',.4f')}"
        " dollars; in brackets the interval at 95 %"
    )


def _print_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        err_console.print(f"WARNING: {warning}", style="bold red", soft_wrap=True)


def _rule(field: str, decision: Decision) -> str:
    of = {"keep": "", "keep_images": "images with ", "keep_paragraphs": "paragraphs with "}[field]
    if isinstance(decision, AnyOf):
        ways = (" and ".join(_rule("keep", c) for c in one) for one in decision.alternatives)
        return f"{of}any of: {'; '.join(ways)}"
    said = f"{decision.column} {decision.kind} {_plain(_value(decision))}"
    by = f" by {decision.by}" if decision.by else ""
    share = f" of the pool{by}" if decision.of_pool else by
    strict = f", strict {decision.strict}" if decision.strict else ""
    return f"{of}{said}{share}{strict}{' or null' if decision.or_null else ''}"


def _value(condition: Condition) -> Any:
    grouped = isinstance(condition.value, tuple) and condition.kind not in ("in", "not_in")
    return ", ".join(f"{group}: {number:g}" for group, number in condition.value) if grouped else condition.value


def show_status(out: Path, as_json: bool) -> None:
    """Show the funnel of the last finished run."""
    summary = explain.read_summary(out)
    if as_json:
        print_json(summary)
        return
    out_console.print(funnel_table([StepCount.from_json(c) for c in summary["funnel"]]))
    out_console.print(f"dataset  {out / summary['dataset']}  ({summary['samples']:,} samples)", soft_wrap=True)


def show_sample(uid: str, out: Path, as_json: bool) -> None:
    """Show all about a sample."""
    found = explain.explain(uid, out)
    if as_json:
        print_json(found)
        return
    for sample in found:
        folded = (Column(overflow="fold"), Column(overflow="fold"))
        table = Table(*folded, show_header=False, title=sample["uid"], title_justify="left")
        for name, value in sample.items():
            if value is not None and name not in ("uid", "columns", "parts_gone"):
                table.add_row(name, _cell(value))
        for part in sample.get("parts_gone", ()):
            why = f"{part['outcome']} at {part['step']} by {part['rule']}, value {_cell(part['value'])}"
            table.add_row(f"{part['of'][:-1]} {part['part']}", f"{why}: {_cell(part['what'])}")
        for folder, values in sample["columns"].items():
            table.add_section()
            for name, value in values.items():
                table.add_row(f"{folder.rsplit('-', 1)[0]}: {name}", _cell(value))
        out_console.print(table)


def show_ops(name: str | None, as_json: bool) -> None:
    """Show the ops with their summaries; of one op, all of it: its documentation, columns and knobs."""
    specs = [spec_of(find_op(n)) for n in ([name] if name else OPS)]
    said: list[dict[str, Any]] = [
        {
            "op": s.name,
            "summary": s.summary,
            "reads": [*s.reads, *(f"the column that `{knob}` names" for knob in s.chosen)],
            "writes": {c: type_words(t) for c, t in s.writes.items()},
            "knobs": {k: _default(p) for k, p in s.knobs.items() if k not in GIVEN},
            "runs_on": s.runs_on,
        }
        for s in specs
    ]
    if as_json:
        print_json(said)
        return
    if name is None:
        table = Table("op", "what it is", Column("writes", overflow="fold"), padding=(0, 1, 1, 1))
        for op in said:
            table.add_row(f"[bold]{op['op']}[/]", op["summary"], ", ".join(op["writes"]))
        out_console.print(table)
        out_console.print("`curate ops NAME` shows one op's columns and knobs")
        return
    (op,) = said
    out_console.print(_reflowed(inspect.getdoc(find_op(name)) or ""), markup=False)
    out_console.print(f"\nreads  {', '.join(op['reads']) or 'all rows at once'}", markup=False)
    for title, pairs in (("writes", op["writes"]), ("knob (default)", op["knobs"])):
        table = Table(title, "", box=None, padding=(0, 3, 0, 0))
        for one, value in pairs.items():
            plain = isinstance(value, str) and value.isprintable() and value
            table.add_row(one, value if plain else json.dumps(value))
        if pairs:
            out_console.print("", table)


def _reflowed(text: str) -> str:
    """Paragraphs as one line each, for a terminal of any width; what is indented or a list stays as it is."""
    return re.sub(r"(?<=\S)\n(?=[^\s*-])", " ", text)


def _default(knob: inspect.Parameter) -> Any:
    return "(required)" if knob.default is knob.empty else knob.default


def type_words(kind: pa.DataType) -> str:
    """A column's type as a reader wants it; `bytes` are files that an op stores."""
    if kind in (BLOB, DOCUMENT):
        return "bytes" if kind == BLOB else "document"
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list of {type_words(kind.value_type)}"
    return "record" if pa.types.is_struct(kind) else str(kind)


def show_sources(name: str | None, as_json: bool) -> None:
    """Show the types of source with the kinds of sample that they make; of one type, its keys."""
    union, _ = get_args(source.Source)
    models = {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(union)}
    if name is not None and name not in models:
        raise ValueError(unknown_message("type of source", name, models))
    said: dict[str, dict[str, Any]] = {
        kind: {
            "summary": (inspect.getdoc(model) or "").split("\n", 1)[0],
            "kinds": [sample for sample, types in source.KINDS.items() if kind in types],
            "keys": {key: field.description or "" for key, field in model.model_fields.items() if key != "type"},
        }
        for kind, model in models.items()
        if name in (None, kind)
    }
    if as_json:
        print_json(said)
        return
    if name is None:
        table = Table("type", "what it is", "makes", padding=(0, 1, 1, 1))
        for kind, one in said.items():
            table.add_row(f"[bold]{kind}[/]", one["summary"], ", ".join(one["kinds"]))
        out_console.print(table)
        out_console.print("`curate sources TYPE` shows the keys of one")
        return
    out_console.print(said[name]["summary"], markup=False)
    table = Table("key", "", box=None, padding=(0, 3, 0, 0))
    for key, description in said[name]["keys"].items():
        table.add_row(key, description)
    out_console.print("", table)


def show_recipes(as_json: bool) -> None:
    """The recipes that come with the package: name, the command that takes it, and what it is for."""
    found = shipped_recipes()
    if as_json:
        print_json([{"name": r.name, "command": r.command, "purpose": r.purpose, "path": str(r.path)} for r in found])
        return
    table = Table("recipe", "for", "what it is", padding=(0, 1, 1, 1))
    for recipe in found:
        table.add_row(f"[bold]{recipe.name}[/]", f"curate {recipe.command}", recipe.purpose)
    out_console.print(table)
    out_console.print("a name stands for the file: `curate run demo`, `curate train MIXTURE --config demo-train`")


def show_prepared(prepared: Any, out: Path, as_json: bool) -> None:
    """Show counts of what was fetched."""
    counts = {name: value for name, value in vars(prepared).items() if isinstance(value, (int, dict))}
    if as_json:
        print_json(counts)
        return
    for name, value in counts.items():
        told = ", ".join(f"{n:,} {error}" for error, n in value.items()) if isinstance(value, dict) else f"{value:,}"
        out_console.print(f"{name.replace('_', ' '):<18} {told or 'none'}", soft_wrap=True)
    out_console.print(f"laid down in       {out}", soft_wrap=True)


def verify(folder: Path, mended: bool) -> None:
    """Check a dataset, or all of a run's folder; raises ValueError when it is not what it says."""
    if (folder / DATASET_FILE).is_file() and not mended:
        _verify_dataset(folder)
        return
    with progress_bars() as watch:
        found = verification.verify_run(folder, watch)
    if found.problems and not mended:
        end = f"`curate verify {folder} --mend` takes out what is damaged, and the next run makes it anew"
        raise ValueError("\n".join([*found.problems, end]))
    if found.problems:
        verification.mend(folder, found)
        said = f"{len(found.problems):,} damaged and taken out; run the recipe again, which makes anew what is missing"
    else:
        said = f"{_shards(found.shards)} of pools, {found.samples:,} published samples: all as they should be"
    out_console.print("\n".join([*found.problems, f"{folder}: {said}"]), soft_wrap=True, markup=False)


def _verify_dataset(dataset: Path) -> None:
    info = load_dataset(dataset)
    problems = [p for s in info.shards for p in verify_shard(dataset, s)]
    if problems:
        raise ValueError("\n".join(problems))
    out_console.print(f"{dataset}: {_shards(len(info.shards))}, {info.samples:,} samples: all as they should be")


def funnel_table(funnel: Sequence[StepCount]) -> Table:
    """The funnel: a row a step, and below it a row for each rule and error."""
    table = Table("step", "in", "kept", "dropped", "failed", "computed now", title="funnel", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for count in funnel:
        gone = [f"{n:,}" if n else "" for n in (count.dropped.total(), count.failed.total())]
        now = f"{count.computed:,}" if count.computed else ""
        table.add_row(f"[bold]{count.step}[/]", f"{count.rows_in:,}", f"{count.kept:,}", *gone, now)
        for rule, n in sorted(count.dropped.items()):
            table.add_row(f"  {rule}", "", "", f"{n:,}", "", "")
        for error, n in sorted(count.failed.items()):
            table.add_row(f"  {error}", "", "", "", f"{n:,}", "")
        for kind, part in count.parts.items():
            lost = (f"{n:,}" if n else "" for n in part.ended())
            table.add_row(f"  its {kind}", f"{part.parts_in:,}", f"{part.kept:,}", *lost, "")
            for rule, n in sorted(part.dropped.items()):
                table.add_row(f"    {rule}", "", "", f"{n:,}", "", "")
            for error, n in sorted(part.failed.items()):
                table.add_row(f"    {error}", "", "", "", f"{n:,}", "")
    return table


@contextmanager
def progress_bars() -> Iterator[Watch]:
    """A progress bar a step on stderr; plain lines where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield _plain_progress
        return
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[failed]}"), console=err_console) as bars:
        known: dict[str, Any] = {}

        def watch(at: RunProgress) -> None:
            if at.what not in known:
                known[at.what] = bars.add_task(at.what, total=at.total, failed="")
            failed = f"{at.failed:,} failed" if at.failed else ""
            bars.update(known[at.what], completed=at.done, failed=failed)

        yield watch


def _plain_progress(at: RunProgress) -> None:
    if at.done == at.total:
        computed = f", {at.computed:,} rows computed" if at.computed else ""
        failed = f", {at.failed:,} failed" if at.failed else ""
        print(f"{at.what}: {_shards(at.total)} done{computed}{failed}", file=sys.stderr, flush=True)


def _shards(number: int) -> str:
    return f"{number:,} shard{'' if number == 1 else 's'}"


def print_json(value: Any) -> None:
    """Print strict JSON on stdout, in its own escapes where that takes no UTF-8; NaN as null."""
    ascii_alone = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
    said = strict_json.plain(value, 2 * strict_json.LEVELS)
    print(json.dumps(said, indent=2, ensure_ascii=ascii_alone, allow_nan=False))


def _print_remarks(remarks: Sequence[str]) -> None:
    for remark in remarks:
        out_console.print(f"source: {remark}", soft_wrap=True, markup=False)


def tally_lines(funnel: Sequence[StepCount]) -> Iterator[str]:
    """A line for each column whose values are counted, the commonest first."""
    for count in funnel:
        for column, tally in count.tallies.items():
            said = ", ".join(f"{value} {n:,} ({percent(n, tally.total())})" for value, n in tally.most_common())
            yield f"{column}: {said}"


def cost_words(cost: ChatCost, kept: int) -> str:
    """The costs of a chat model, in a line."""
    spent, account = cost.account.spent, cost.account
    dollars = cost.usd_per_1000(kept)
    each = f", {dollars:.4g} dollars a 1,000 samples kept" if dollars else ""
    doubts = [f"{account.unsaid:,} answers without a count of tokens"] if account.unsaid else []
    doubts += [f"{account.in_doubt:,} requests in doubt, counted at the most"] if account.in_doubt else []
    more = f" ({'; '.join(doubts)})" if doubts else ""
    return (
        f"chat model {cost.chat.name} ({cost.chat.endpoint.name}), all runs so far: {spent.requests:,} requests,"
        f" {spent.tokens:,} tokens, {cost.usd:.4f} dollars{each}{more}"
    )


def _work_text(summary: engine_run.Summary) -> str:
    if summary.computed:
        new = summary.funnel[0].computed
        came = f"; {new:,} rows of the source are new" if new else "; the source has no new rows"
        return f"computed {summary.computed:,} rows over all steps{came}"
    if summary.published_now:
        return "computed nothing: every column was there; decided anew and published"
    return "computed nothing: all of it was committed by an earlier run"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = "".join(c if c.isprintable() else "↵" if c == "\n" else "�" for c in text)
    return shown if len(shown) <= 500 else f"{shown[:500]}... ({len(shown):,} characters)"
