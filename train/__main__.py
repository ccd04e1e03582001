"""The trainer's command line: `python -m train`, alone or under torchrun; `curate train` calls the same.

Results go to stdout as one JSON line, progress to stderr. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import typer

# Before torch is imported: threads that wait for each other sleep. Spinning, they take tens of times as long where
# another process wants the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

OUT = Path("out/train")
EPILOG = (
    "Example: python -m train out/mixture.json --config recipes/tiny-clip.yaml --set optim.steps=50 --out out/train"
    " --export out/tiny.safetensors. On two processes: torchrun --nproc-per-node 2 -m train ..."
)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
def train(  # noqa: PLR0913 - each is an option
    manifest: Annotated[Path, typer.Argument(help="The mixture manifest (mixture.json).")],
    config: Annotated[Path | None, typer.Option(help="The run, as YAML; without it, the defaults.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key.path=value over the file; repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of checkpoints and metrics.")] = OUT,
    resume: Annotated[Literal["auto", "never"], typer.Option(help="auto goes on from the newest checkpoint.")] = "auto",
    evaluate: Annotated[Path | None, typer.Option(help="Dataset to measure the result on: recall, AUC.")] = None,
    export: Annotated[Path | None, typer.Option(help="Where to write the weights (.safetensors).")] = None,
    export_precision: Annotated[
        Literal["fp32", "fp16", "bf16"], typer.Option(help="Of the exported weights.")
    ] = "fp32",
) -> None:
    """Train on a mixture: a dual encoder (contrastive), or a captioner. Goes on where it stopped."""
    from train import evaluate as evaluation
    from train import loop, model, ranks
    from train.config import read

    settings = read(config, set_ or [])
    if settings.objective.type != "contrastive" and (export or evaluate):
        raise click.UsageError(
            "--export and --evaluate are for a dual encoder; a captioner's weights are in its checkpoint"
        )
    if resume == "never" and any((out / "checkpoints").glob("[0-9]*")):
        raise click.UsageError(f"{out} holds checkpoints already; choose another --out, or leave --resume at auto")
    with ranks.joined(settings.run.device) as place:
        outcome = loop.run(settings, manifest, out, place)
    if not place.first:
        return
    summary = outcome.summary
    if export is not None:
        model.export(outcome.clip, export, export_precision)
        summary["export"] = str(export)
    if evaluate is not None:
        summary["evaluate"] = evaluation.evaluate(outcome.clip, evaluate).plain()
    typer.echo(json.dumps(summary))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code: Any = app(arguments, prog_name="python -m train", standalone_mode=False)
    except click.exceptions.Abort:
        return _said("interrupted; run the same command to go on from the newest checkpoint", 130)
    except KeyboardInterrupt:
        return _said("interrupted; run the same command to go on from the newest checkpoint", 130)
    except click.ClickException as err:
        err.show(file=sys.stderr)
        return 2
    except ValueError as err:
        from train.data import StreamError

        return _said(f"error: {err}", 1 if isinstance(err, StreamError) else 2)
    except (RuntimeError, OSError) as err:
        return _said(f"error: {err}", 1)
    return code if isinstance(code, int) else 0


def _said(message: str, code: int) -> int:
    typer.echo(message, err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
