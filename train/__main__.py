"""The trainer's command line: `python -m train`, alone or under torchrun; `curate train` calls the same.

Results go to stdout as one JSON line, progress to stderr. Exit codes: 0 done, 1 failed, 2 wrong use, 128 and a signal's
number where one ended it (130 Ctrl-C, 143 SIGTERM).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from curate import strict_json
from curate.extras import MissingExtraError
from curate.process import hold, speak_utf8, stop_on_signals
from curate.settings import expand_home
from curate.shipped import recipe_path

if TYPE_CHECKING:
    from train.config import Config
    from train.loop import Outcome

# Before torch is imported: threads that wait for each other sleep. Spinning, they take tens of times as long where
# another process wants the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

OUT = Path("out/train")
EPILOG = (
    "Example: python -m train out/mixture.json --config tiny-clip --set optim.steps=50 --out out/train"
    " --export out/tiny.safetensors. On two processes: torchrun --nproc-per-node 2 --no-python curate train ..."
)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
def train(  # noqa: PLR0913 - each is an option
    manifest: Annotated[Path, typer.Argument(help="The mixture manifest (mixture.json).")],
    config: Annotated[
        Path,
        typer.Option(help="What to train and how: a YAML file (paths in it are seen from here), or a name of ours."),
    ],
    set_: Annotated[list[str] | None, typer.Option("--set", help="key.path=value over the file; repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of checkpoints and metrics.")] = OUT,
    resume: Annotated[Literal["auto", "never"], typer.Option(help="auto goes on from the newest checkpoint.")] = "auto",
    evaluate: Annotated[Path | None, typer.Option(help="Dataset to measure the result on: recall, AUC.")] = None,
    export: Annotated[Path | None, typer.Option(help="Where to write the weights (.safetensors).")] = None,
    export_precision: Annotated[
        Literal["fp32", "fp16", "bf16"], typer.Option(help="Of the exported weights.")
    ] = "fp32",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and read the first batch; write nothing.")
    ] = False,
) -> None:
    """Train on a mixture: a dual encoder, a matcher, BLIP-2's Q-Former, or a language model that sees.

    Goes on where it stopped.
    """
    if dry_run:
        raise typer.Exit(_run_guarded(lambda: _describe(manifest, _read(config, set_ or []))))
    wanted = After(evaluate, export, export_precision)
    raise typer.Exit(_run_guarded(lambda: _train(manifest, _read(config, set_ or []), out, resume, wanted)))


def _read(config: Path, overrides: Sequence[str]) -> Config:
    from train.config import read

    return read(recipe_path(config, "train"), overrides)


def _describe(manifest: Path, config: Config) -> None:
    from train.describe import describe

    typer.echo(describe(config, manifest))


@dataclass(frozen=True)
class After:
    """Actions after a training."""

    evaluate: Path | None
    export: Path | None
    precision: Literal["fp32", "fp16", "bf16"]


def _train(manifest: Path, config: Config, out: Path, resume: str, after: After) -> None:
    from train import loop, ranks

    if config.objective.type not in ("contrastive", "matching") and after.evaluate:
        raise ValueError("--evaluate measures a dual encoder, of the objectives contrastive and matching; leave it out")
    if config.objective.type == "qformer" and after.export:
        raise ValueError(
            "--export writes what an op can run, and of the objective qformer nothing is: leave it out, and start the"
            " next stage from this run's folder"
        )
    if resume == "never" and any((out / "checkpoints").glob("[0-9]*")):
        raise ValueError(f"{out} holds checkpoints already; choose another --out, or leave --resume at auto")
    with ExitStack() as held:
        with ranks.join_ranks(config.run.device) as place:
            if place.is_first:
                held.enter_context(hold(out))
                held.enter_context(hold(after.export, whole=True) if after.export else nullcontext())
            outcome = loop.run(config, manifest, out, place)
        if place.is_first:
            told = strict_json.plain(outcome.summary | _after(outcome, config, after))
            typer.echo(json.dumps(told, allow_nan=False))


def _after(outcome: Outcome, config: Config, after: After) -> dict[str, Any]:
    """Do what is wanted after a training; what is to be told of it."""
    from train.evaluation.dual_encoders import evaluate
    from train.export import export

    told: dict[str, Any] = {}
    if after.export is not None:
        export(outcome.clip, outcome.objective, config, after.export, after.precision)
        told["export"] = str(after.export)
    if after.evaluate is not None:
        told["evaluate"] = evaluate(outcome.clip, after.evaluate).plain()
    return told


def _run_guarded(work: Callable[[], None]) -> int:
    """Do the work; what went wrong becomes one sentence on stderr and an exit code."""
    with stop_on_signals() as stop:
        try:
            work()
        except KeyboardInterrupt:
            return stop.tell("interrupted; run the same command to go on from the newest checkpoint")
        except ValueError as err:
            from curate.stream.stream import StreamError

            return _print_error(f"error: {err}", 1 if isinstance(err, StreamError) else 2)
        except (RuntimeError, OSError, MissingExtraError) as err:
            return _print_error(f"error: {err}", 1)
    return 0


def _print_error(message: str, code: int) -> int:
    typer.echo(message, err=True)
    return code


def main(argv: Sequence[str] | None = None, prog: str = "python -m train") -> int:
    """Run the command line; returns the exit code."""
    try:
        app([expand_home(word) for word in (sys.argv[1:] if argv is None else argv)], prog_name=prog)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


if __name__ == "__main__":
    speak_utf8()
    sys.exit(main())
