"""Run `curate demo`: from raw input to a trained step, with the rules' own scores.

The raw web is built from packages of the Python index and served on loopback; since what is planted in it is
known, the demo tells from labels how well each rule did.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.resources import files
from pathlib import Path
from shutil import which

from rich.table import Table

from curate.commit import file_sha256
from curate.engine import explain
from curate.engine.run import Summary
from curate.engine.workers import stop
from curate.mix import build as build_mixture
from curate.process import hold
from pipelines.cli.show import err_console, load, out_console, run
from pipelines.demo.server import serve
from pipelines.demo.truth import caption_auc, score_rules
from pipelines.demo.web import build

console = out_console


def main(out: Path, port: int, workers: int, overrides: Sequence[str]) -> int:
    """Run the demo below `out`; what an earlier run left is used. Returns the exit code."""
    with hold(out):
        return _demo(out, port, workers, overrides)


def _demo(out: Path, port: int, workers: int, overrides: Sequence[str]) -> int:
    err_console.print("drawings: fetching two packages of the Python index (11 MB, once)")
    web = build(out / "web", port=port)
    planted = ", ".join(f"{n} {plant}" for plant, n in sorted(web.plants.items()))
    console.print(f"raw web: {web.table}\nplanted: {planted}\n", soft_wrap=True)
    recipe = Path(str(files("recipes") / "demo.yaml"))
    own = [f"source.path={web.table}", f"out={out / 'run'}"]
    with serve(web):
        summary = run(load(recipe, [*own, *overrides]), workers)
    stop()
    _show_scores(summary)
    manifest = out / "mixture.json"
    build_mixture([(summary.folder, 1.0)], 0, manifest)
    console.print(f"mixture  {manifest}", soft_wrap=True)
    trained = out / f"train-{file_sha256(manifest)[:8]}"  # another mixture is another training
    code = _train(trained, manifest)
    if code == 0:
        _show_next(out, summary, trained)
    return code


def _show_scores(summary: Summary) -> None:
    out = Path(summary.recipe.out)
    head = ("planted", "rows", "reached", "dropped", "precision", "recall")
    table = Table(*head, title="the rules, judged by the labels of what was planted", title_justify="left")
    for score in score_rules(explain.decisions(out), [count.step for count in summary.funnel]):
        shares = [f"{x:.3f}" if x is not None else "-" for x in (score.precision, score.recall)]
        counts = [f"{n:,}" for n in (score.planted, score.reached, score.ended)]
        table.add_row(score.plant, *counts, *shares)
    console.print(table)
    for name, auc in caption_auc(explain.column(out, "clip_score")).items():
        if auc is not None:
            console.print(f"clip_score tells true captions from swapped ones, {name} things: ROC AUC {auc:.3f}")


def _train(folder: Path, manifest: Path) -> int:
    from train.__main__ import main as train_main

    config = str(files("recipes") / "demo-train.yaml")
    with redirect_stdout(io.StringIO()):  # its JSON is for programs; what it says is read from its metrics
        code = train_main([str(manifest), "--config", config, "--out", str(folder)])
    if code == 0:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        losses = f"{lines[0]['loss']:.2f} to {lines[-1]['loss']:.2f}"
        console.print(f"trained  {lines[-1]['step']} steps on {lines[-1]['position']:,} samples: loss {losses}")
    return code


def _show_next(out: Path, summary: Summary, trained: Path) -> None:
    decisions = explain.decisions(Path(summary.recipe.out))
    dropped = next(
        uid
        for uid, end in zip(decisions["uid"].to_pylist(), decisions["outcome"].to_pylist(), strict=True)
        if end == "dropped"
    )
    lines = [
        ("dataset", summary.folder),
        ("report", Path(summary.recipe.out) / "report.html"),
        ("mixture", out / "mixture.json"),
        ("trained", trained),
    ]
    console.print("\n" + "\n".join(f"{name:<8} {path}" for name, path in lines), soft_wrap=True)
    console.print("\nTry next:", soft_wrap=True)
    curate = _command()
    for rest, why in (
        ("demo --set steps.clip_score.keep.clip_score.top=0.5", "a threshold: nothing is computed again"),
        (f"explain {dropped[:12]} --out {summary.recipe.out}", "why a sample went"),
        ("run your-own.yaml", "your own data, see the README"),
    ):
        console.print(f"  {curate} {rest:<56} # {why}", soft_wrap=True)


def _command() -> str:
    """How this program was called, so that what is shown can be typed."""
    called = Path(sys.argv[0])
    return "curate" if which("curate") or called.name != "curate" else os.path.relpath(called)
