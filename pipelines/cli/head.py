"""`curate head`: train small heads on the embeddings that a run has kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from pipelines.cli.options import RecipeArgument, SetOption, example

head_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@head_app.callback()
def _heads() -> None:
    """Heads on kept embeddings."""


@head_app.command(
    "train",
    epilog=example("curate head train recipes/mine.yaml labels.csv --out work/liked.safetensors"),
)
def head_train(  # noqa: PLR0913 - options
    recipe: RecipeArgument,
    labels: Annotated[Path, typer.Argument(help="A table with the columns uid and label.", metavar="LABELS")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The head, a .safetensors file.")],
    column: Annotated[str, typer.Option(help="The column of embeddings.")] = "clip_image_embedding",
    kind: Annotated[str, typer.Option(help="logistic (labels 0 and 1) or ridge (any numbers).")] = "logistic",
    l2: Annotated[float, typer.Option(min=0, help="How small the weights are held.")] = 1.0,
    licence: Annotated[str, typer.Option(help="The head's licence, for its file.")] = "unknown",
    set_: SetOption = None,
) -> None:
    """Train a head on labelled rows of a recipe's run, from the embeddings that are there.

    A fifth of the rows is held out: tells how well they are told apart, and the scores that the best of them reach. The
    file says which tower it is for, and is refused where another made the vectors.
    """
    from curate.settings import unknown_message
    from pipelines.cli import show
    from pipelines.materials import head as training

    if kind not in get_args(training.Kind):
        raise ValueError(unknown_message("kind", kind, get_args(training.Kind)))
    options = training.HeadTraining(cast(training.Kind, kind), column, l2, licence)
    show.print_json(training.train(show.load(recipe, set_ or []), labels, out, options))
