"""The commands `curate eval` and `curate ask`: results go to stdout, progress to stderr.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from curate import strict_json

if TYPE_CHECKING:
    from train.evaluation.answerer import Manner
    from train.evaluation.figures import View
    from train.evaluation.models import Model

ModelArgument = Annotated[
    Path,
    typer.Argument(
        help="An exported .safetensors, a run's folder, or a folder of transformers with BLIP.", metavar="MODEL"
    ),
]
TokensOption = Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")]
TopPOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="Sample among the likeliest tokens with so much of the mass.")
]
TemperatureOption = Annotated[float | None, typer.Option(min=0, help="Sample: above 1 wilder, below 1 tamer.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the model runs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def evaluate(  # noqa: PLR0913 - options of a command
    model: ModelArgument,
    on: Annotated[Path, typer.Option("--on", help="A published dataset's folder, or a mixture.", metavar="DATASET")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Answers and results; without it, work/eval/MODEL-on-DATASET.")
    ] = None,
    task: Annotated[
        Literal["caption", "answer", "choice"] | None,
        typer.Option(help="Questions of this kind alone; without it, whatever each sample asks."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="The first so many samples alone.")] = None,
    blind: Annotated[bool, typer.Option("--blind/--no-blind", help="Ask again without pictures.")] = True,
    shuffled: Annotated[
        bool, typer.Option("--shuffled/--no-shuffled", help="Ask again with another sample's pictures.")
    ] = True,
    references: Annotated[
        list[str] | None,
        typer.Option(help="Of pairs, a key with more captions (meta.captions); repeatable.", metavar="KEY"),
    ] = None,
    prompt: Annotated[str, typer.Option(help="Asked of every picture for a caption.")] = "",
    shots: Annotated[int, typer.Option(min=0, help="Examples before each question: 0, 4, 8, 16.")] = 0,
    shots_from: Annotated[
        Path | None, typer.Option(help="The dataset of the examples; without it, the same.", metavar="DATASET")
    ] = None,
    label: Annotated[
        str, typer.Option(help="Of a dual encoder, the key of each sample's class (meta.label).", metavar="KEY")
    ] = "",
    tokens: TokensOption = 64,
    top_p: TopPOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    html: Annotated[Path | None, typer.Option(help="A page of figures, answers and pictures.", metavar="PAGE")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on a dataset, and what it would have answered without seeing.

    Captions are scored by CIDEr-D and BLEU, answers by VQA's rule or the match of a text, choices by letter or text, a
    dual encoder by recall. Beside every figure stand its 95 % interval, the figure without pictures and that with
    another sample's: few questions need their picture. Answers are kept as they come; the same command goes on.
    """
    from train.evaluation.asking import AskingPlan
    from train.evaluation.models import load_model, model_digest, torch_device

    views: list[View] = ["seen"]
    views += ["blind"] if blind else []
    views += ["shuffled"] if shuffled else []
    manner = _manner(tokens, top_p, temperature, seed)
    source = None if shots_from is None else str(shots_from)
    wanted = AskingPlan(views, task, references or (), prompt, shots, source, manner)
    folder = out or Path("work") / "eval" / f"{model.stem}-on-{on.resolve().name.removesuffix('.json')}"
    identity = {"model": str(model), "model_digest": model_digest(model), "seed": seed, "limit": limit}
    loaded = load_model(model, torch_device(device))
    results = _evaluate(loaded, on, wanted, folder, {**identity, "label": label}, html)
    if as_json:
        _print_json(results)
    else:
        _show(results, folder, html)


def ask(  # noqa: PLR0913 - options of a command
    model: ModelArgument,
    words: Annotated[
        list[str],
        typer.Argument(help="Pictures, folders of them, a question in quotes.", metavar="PICTURES... [QUESTION]"),
    ],
    together: Annotated[bool, typer.Option("--together", help="Ask about all pictures at once, not each.")] = False,
    tokens: TokensOption = 64,
    top_p: TopPOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Ask a model about pictures; without a question, for a caption.

    Greedy, unless --top-p or --temperature is given. An answer that holds a prompt for an image model, <h>...</h>, is
    printed without it, and the prompt on a line of its own.
    """
    from train.evaluation.answerer import Answerer
    from train.evaluation.ask import ask as asked_of
    from train.evaluation.ask import sort_words
    from train.evaluation.asking import EvaluationError
    from train.evaluation.models import load_model, torch_device
    from train.evaluation.tables import visible

    pictures, question = sort_words(words)
    loaded = load_model(model, torch_device(device))
    if not isinstance(loaded, Answerer):
        raise EvaluationError(
            f"{model} is a dual encoder, which answers nothing: `curate eval` measures it; a model that answers is"
            " trained with the objective caption or multimodal"
        )
    replies = asked_of(loaded, pictures, question, _manner(tokens, top_p, temperature, seed), together=together)
    if as_json:
        _print_json([reply.plain() for reply in replies])
        return
    for reply in replies:
        for line in reply.lines(named=len(pictures) > 1):
            typer.echo(visible(line))


def _manner(tokens: int, top_p: float | None, temperature: float | None, seed: int) -> Manner:
    """Greedy, unless one of the two is given; temperature 0 is greedy, too."""
    from train.evaluation.answerer import Manner

    if (top_p is None and temperature is None) or temperature == 0:
        return Manner(tokens, seed=seed)
    return Manner(tokens, 1.0 if top_p is None else top_p, 1.0 if temperature is None else temperature, seed)


def _evaluate(
    loaded: Model, on: Path, wanted: Any, folder: Path, identity: Mapping[str, Any], html: Path | None
) -> Mapping[str, Any]:
    """The results, written to the folder."""
    from curate.commit import commit_text
    from train.evaluation.answerer import Answerer
    from train.evaluation.asked_samples import AskedSamples
    from train.evaluation.evaluate import evaluate_answers, evaluate_pairs
    from train.evaluation.page import render

    if not isinstance(loaded, Answerer):
        return evaluate_pairs(loaded, on, wanted.views, folder, identity)
    with closing(AskedSamples(on, identity["limit"], identity["seed"])) as samples:
        said = {**identity, "dataset": str(on), "dataset_digest": samples.digest}
        with _progress(len(samples)) as watch:
            evaluated = evaluate_answers(loaded, samples, wanted, folder, said, watch)
        if html is not None:
            commit_text(html, render(evaluated, samples, identity["seed"]))
    return evaluated.results


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on stderr; where that is no terminal, a line at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    if not sys.stderr.isatty():
        yield lambda done: typer.echo(f"asked: {done:,} of {total:,} samples", err=True) if done == total else None
        return
    columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("asking", total=total)
        yield lambda done: bars.update(task, completed=done)


def _show(results: Mapping[str, Any], folder: Path, html: Path | None) -> None:
    from rich.console import Console

    from train.evaluation.tables import count_words, figure_table, notes

    console = Console()
    console.print(figure_table(results))
    for line in (count_words(results["counts"]), notes(results), f"results: {folder / 'results.json'}"):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if html is not None:
        console.print(f"page: {html}", soft_wrap=True, markup=False, highlight=False)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(strict_json.plain(value), indent=2, allow_nan=False))
