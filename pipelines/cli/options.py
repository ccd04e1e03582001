"""Arguments and options that the commands of `curate` share, and the end of a command's help."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[Path, typer.Argument(help="A YAML file, or a name of `curate recipes`.", metavar="RECIPE")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: --set steps.clip_score.keep...=")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
WorkersOption = Annotated[int, typer.Option("--workers", "-w", min=1, help="Ray workers. Results do not depend on it.")]
InlineOption = Annotated[bool, typer.Option("--inline", help="Run everything in this process, for a debugger.")]
GpusOption = Annotated[int | None, typer.Option("--gpus", min=0, help="GPUs that models may use; 0 for none.")]
GpuFractionOption = Annotated[
    float | None, typer.Option("--gpu-fraction", help="Share of a GPU of a worker with models: .5 puts two on each.")
]
CpusOption = Annotated[
    int | None, typer.Option("--cpus", min=1, help="Threads of a worker with models that read ahead for its GPU.")
]

CPUS = os.cpu_count() or 1


def resources(gpus: int | None, gpu_fraction: float | None, cpus: int | None) -> list[str]:
    """Overrides of a recipe's resources, as the command line says them."""
    said = {"gpus": gpus, "gpu_fraction": gpu_fraction, "cpus": cpus}
    return [f"resources.{name}={value}" for name, value in said.items() if value is not None]


def example(*lines: str) -> str:
    """The end of a command's help."""
    return "Example:\n\n" + "\n\n".join(f"  {line}" for line in lines)
