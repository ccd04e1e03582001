"""The command line: `curate`. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted. NO_COLOR is honoured.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Curate multimodal training data: from raw input to shards, a mixture and a training step.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RecipeArgument = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: --set steps.clip_score.keep...=")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
WorkersOption = Annotated[int, typer.Option("--workers", "-w", min=1, help="Ray workers. Results do not depend on it.")]
InlineOption = Annotated[bool, typer.Option("--inline", help="Run everything in this process, for a debugger.")]

CPUS = os.cpu_count() or 1
INTERRUPTED = 130
# Typer carries its own click, so the class is taken from where typer shows it.
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def example(*lines: str) -> str:
    """The end of a command's help."""
    return "Example:\n\n" + "\n\n".join(f"  {line}" for line in lines)


@app.command(epilog=example("curate run recipes/demo.yaml --set steps.clip_score.keep.clip_score.top=0.5"))
def run(
    recipe: RecipeArgument,
    set_: SetOption = None,
    workers: WorkersOption = CPUS,
    inline: InlineOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Check the recipe and say what would run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe: ingest, annotate, decide, publish.

    What is committed is not done again, whatever was killed in between.
    """
    from pipelines import captions

    checked = captions.load(recipe, set_ or [])
    if dry_run:
        captions.show_plan(checked, as_json)
        return
    captions.run(checked, 0 if inline else workers, as_json)


@app.command(epilog=example("curate retry recipes/demo.yaml && curate run recipes/demo.yaml"))
def retry(
    recipe: RecipeArgument, set_: SetOption = None, workers: WorkersOption = CPUS, inline: InlineOption = False
) -> None:
    """Try the failed URLs of a run again.

    `curate run` with the same recipe then takes in what came.
    """
    from pipelines import captions

    captions.retry(captions.load(recipe, set_ or []), 0 if inline else workers)


@app.command(epilog=example("curate status work/demo", "curate status work/demo --json | jq .funnel"))
def status(
    out: Annotated[Path, typer.Argument(help="A recipe's `out` folder.", metavar="OUT")], as_json: JsonOption = False
) -> None:
    """Show the funnel of a finished run.

    A row a step: in, kept, dropped by which rule, failed by which error.
    """
    from pipelines import captions

    captions.show_status(out, as_json)


@app.command(epilog=example("curate explain 1f0c9a... --out work/demo"))
def explain(
    uid: Annotated[str, typer.Argument(help="A sample's uid, or the first digits of it.", metavar="UID")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The recipe's `out` folder.")],
    as_json: JsonOption = False,
) -> None:
    """Tell what became of a sample, and why.

    Every column, the rule that dropped it and its value, where it came from.
    """
    from pipelines import captions

    captions.show_sample(uid, out, as_json)


@app.command(epilog=example("curate schema > recipe.schema.json"))
def schema() -> None:
    """Print the recipe's JSON Schema, for editors."""
    from curate.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(by_alias=True), indent=2))


@app.command(epilog=example("curate ops", "curate ops clip_score"))
def ops(
    name: Annotated[str | None, typer.Argument(help="One op, for its knobs.", metavar="OP")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the ops, what they read and write, and their knobs."""
    from pipelines import captions

    captions.show_ops(name, as_json)


@app.command(epilog=example("curate mix work/demo/dataset=0.9 work/other/dataset=0.1 -o work/mixture.json"))
def mix(
    datasets: Annotated[list[str], typer.Argument(help="Published datasets and weights.", metavar="PATH=WEIGHT...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest to write.")] = Path("mixture.json"),
    seed: Annotated[int, typer.Option(min=0, help="The seed of every shuffle.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write a mixture of datasets and weights.

    A weight may be left out, it is then 1; weights of any scale are normalised and shown.
    """
    from pipelines import captions

    captions.write_mixture(datasets, out, seed, as_json)


@app.command(epilog=example("curate verify work/demo/dataset"))
def verify(dataset: Annotated[Path, typer.Argument(help="A published dataset's folder.", metavar="DATASET")]) -> None:
    """Check a dataset against its checksums.

    Every tar's size and SHA-256, and every member's header against the index.
    """
    from pipelines import captions

    captions.verify(dataset)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog=example("curate train work/demo/mixture.json --config recipes/demo-train.yaml --out work/demo/train"),
)
def train(context: typer.Context) -> None:
    """Train from a mixture manifest.

    The same as `python -m train`.
    """
    from train.__main__ import main as train_main

    raise typer.Exit(train_main(context.args))


@app.command(epilog=example("curate prepare openclipart && curate run recipes/openclipart.yaml"))
def prepare(
    what: Annotated[str, typer.Argument(help="Only `openclipart` so far.", metavar="WHAT")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The recipe's `out` folder.")] = Path("work/openclipart"),
    as_json: JsonOption = False,
) -> None:
    """Fetch what a recipe of ours curates.

    `openclipart`: some 7,000 drawings with their authors' titles, from two packages of Debian (156 MB).
    """
    from curate.settings import unknown
    from pipelines import captions, openclipart

    if what != "openclipart":
        raise ValueError(unknown("material", what, ["openclipart"]))
    captions.show_prepared(openclipart.prepare(out), out, as_json)


@app.command(epilog=example("curate demo", "curate demo --out /tmp/demo --port 8799"))
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where everything goes.")] = Path("work/demo"),
    port: Annotated[int, typer.Option(help="The loopback port that serves the demo's web.")] = 8697,
    set_: SetOption = None,
    workers: WorkersOption = CPUS,
    inline: InlineOption = False,
) -> None:
    """Show the whole road on real drawings.

    Download, curate, publish, mix, train, report; the rules are judged by labels that are known.
    """
    from pipelines import demo as demonstration

    raise typer.Exit(demonstration.main(out, port, 0 if inline else workers, set_ or []))


def _version(asked: bool) -> None:
    if asked:
        from curate import __version__

        typer.echo(f"curate {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return guarded(lambda: app(args=argv, prog_name="curate", standalone_mode=False))


def guarded(call: Callable[[], Any]) -> int:
    """Call, and turn errors that a user can mend into a sentence and an exit code. Bugs keep their traceback."""
    from curate.settings import SettingsError

    try:
        found = call()
        if found == INTERRUPTED:  # typer turns Ctrl-C into this number
            return _stopped()
        return found if isinstance(found, int) else 0
    except (typer.Abort, KeyboardInterrupt):
        return _stopped()
    except USAGE_ERROR as err:
        err.show()
        return 2
    except typer.Exit as done:
        return int(done.exit_code)
    except SettingsError as err:
        return _say(err, 2)
    except BrokenPipeError:
        # The reader has gone; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as err:
        if isinstance(err, _mendable()):
            return _say(err, 1)
        raise


def _stopped() -> int:
    typer.echo("stopped; run the same command to go on", err=True)
    return INTERRUPTED


def _say(err: Exception, code: int) -> int:
    typer.echo(f"error: {err}", err=True)
    return code


def _mendable() -> tuple[type[Exception], ...]:
    from curate.engine import WorkerError
    from curate.run import RunError
    from curate.steps import StepError

    return (ValueError, OSError, RunError, WorkerError, StepError)
