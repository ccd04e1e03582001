"""`curate mix`: write a mixture manifest, and look into one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipelines.cli.options import JsonOption, SetOption, example


class DefaultsToWrite(TyperGroup):
    """`curate mix PATH=WEIGHT ...` without a command's name writes a mixture."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name in where it is left out."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["write", *args]
        return super().parse_args(ctx, args)


mix_app = typer.Typer(cls=DefaultsToWrite, no_args_is_help=True, rich_markup_mode=None)
ManifestArgument = Annotated[Path, typer.Argument(help="A mixture manifest.", metavar="MANIFEST")]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Samples a step, where the manifest does not say it.")]


@mix_app.command(
    epilog=example(
        "curate mix work/demo/dataset=0.9 work/other/dataset=0.1 -o work/mixture.json",
        "curate mix mixtures/mm1 -o work/mm1/mixture.json",
        "curate mix new.yaml --continue work/mixture.json@4000 -o work/mixture-2.json",
        "curate mix mm1 --set sources.documents.weight=0.3 -o work/mixture.json",
    )
)
def write(  # noqa: PLR0913 - a command's options
    datasets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Published datasets and weights, or one specification, a YAML file or a name of ours.",
            metavar="PATH=WEIGHT... | SPEC",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest to write.")] = Path("mixture.json"),
    seed: Annotated[int | None, typer.Option(min=0, help="The seed of every shuffle.")] = None,
    onto: Annotated[
        str | None, typer.Option("--continue", metavar="MANIFEST@STEP", help="Go on from a manifest at a step of it.")
    ] = None,
    skip_steps: Annotated[list[str] | None, typer.Option(metavar="A-B", help="Leave these steps out.")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a mixture of datasets and weights.

    The name `write` may be left out. A weight may be left out, it is then 1; weights of any scale are normalised and
    shown both ways. A specification (YAML) nests groups and says units, modes, caps and stages; paths in it are seen
    from the current folder, as on the command line.
    """
    from pipelines.cli import show_mixture
    from pipelines.cli.show import print_json

    if not datasets and onto is None:
        raise typer.BadParameter("give datasets with weights, or a specification")
    built = show_mixture.write(
        datasets or [], out, seed, show_mixture.ContinueFrom.of(onto, skip_steps or []), set_ or []
    )
    if as_json:
        print_json(built.mixture.manifest.model_dump(mode="json"))
        return
    show_mixture.show(built, out)


@mix_app.command(
    epilog=example("curate mix at work/mixture.json --step 4000", "curate mix at m.json --step 0 | cut -f5")
)
def at(
    manifest: ManifestArgument,
    step: Annotated[int, typer.Option(min=0, help="The step, counted from 0.")],
    batch: BatchOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the samples of a step, reading no data.

    Source, epoch, row, uid and tar of each, from the manifest and the indexes alone; what else holds at the step, its
    stage and resolution for example, goes to stderr.
    """
    from pipelines.cli import show_mixture
    from pipelines.cli.show import print_json

    rows = show_mixture.samples_at(manifest, step, batch)
    print_json(rows) if as_json else show_mixture.show_at(rows)
    show_mixture.show_stage(show_mixture.stage_at(manifest, step, batch))


@mix_app.command(epilog=example("curate mix simulate work/mixture.json --steps 100000"))
def simulate(
    manifest: ManifestArgument,
    steps: Annotated[int, typer.Option(min=1, help="How many steps.")],
    batch: BatchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a run would draw: shares, epochs, first repeats.

    By arithmetic: nothing is drawn, a million steps take no longer than one.
    """
    from pipelines.cli import show_mixture
    from pipelines.cli.show import print_json

    found = show_mixture.simulate(manifest, steps, batch)
    print_json(found) if as_json else show_mixture.show_simulated(found)


@mix_app.command("schema", epilog=example("curate mix schema > mixture.schema.json"))
def mix_schema(
    of_specification: Annotated[bool, typer.Option("--spec", help="Of the specification, not the manifest.")] = False,
) -> None:
    """Print the JSON Schema of a mixture manifest."""
    from curate import mix

    schema_ = mix.MixtureSpec.model_json_schema() if of_specification else mix.json_schema()
    typer.echo(json.dumps(schema_, indent=2))
