"""Mixture commands: write a manifest, list a step's samples, simulate a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from curate import mix
from curate.settings import load as load_settings
from curate.settings import unknown_message
from curate.shipped import ShippedRecipe, shipped_recipes

console = Console(highlight=False)
err_console = Console(stderr=True, highlight=False)
SPECIFICATIONS = (".yaml", ".yml")
MOST_POSITIONS = 1 << 48
"""Of a run that is worked out: more than any will have."""


@dataclasses.dataclass(frozen=True)
class ContinueFrom:
    """The mixture to continue from: another's manifest and the step, and the steps that are left out."""

    manifest: Path | None = None
    step: int = 0
    skip: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def of(onto: str | None, skip: Sequence[str]) -> ContinueFrom:
        """Parse `MANIFEST@STEP` and ranges `A-B`. Raises ValueError."""
        path, sign, step = (onto or "").rpartition("@")
        if onto is not None and not (sign and step.isdigit()):
            raise ValueError(f"--continue {onto}: expected MANIFEST@STEP, for example work/mixture.json@4000")
        return ContinueFrom(Path(path) if onto else None, int(step or 0), parse_ranges(skip))


def write(
    arguments: Sequence[str], out: Path, seed: int | None, going: ContinueFrom, changes: Sequence[str] = ()
) -> mix.Built:
    """Write the manifest of `path=weight` arguments or of one specification, `changes` made to it (`key.path=value`).

    Raises ValueError subclasses.
    """
    onto = _onto(going)
    ours = _shipped(arguments)
    if ours is not None:
        spec = load_settings(ours.path, mix.MixtureSpec, changes)
        return mix.compose(_with_seed(spec, seed), Path(), out, onto, going.skip)
    specified = [a for a in arguments if a.endswith(SPECIFICATIONS)]
    if specified and len(arguments) > 1:
        raise mix.MixtureError(f"{specified[0]}: a specification names all its datasets; give it alone")
    if specified:
        spec = load_settings(specified[0], mix.MixtureSpec, changes)
        return mix.compose(_with_seed(spec, seed), Path(), out, onto, going.skip)
    if changes:
        raise ValueError(f"--set {changes[0]}: there is no specification to change; give one, or other weights")
    if not arguments and onto is not None:
        return mix.skip(onto, out, going.skip)
    return mix.compose(_short(arguments, seed, onto), Path(), out, onto, going.skip)


def _shipped(arguments: Sequence[str]) -> ShippedRecipe | None:
    """The specification of ours that a name stands for, where it stands alone and no dataset is called so."""
    if len(arguments) != 1 or set("=:.") & set(arguments[0]) or Path(arguments[0]).exists():
        return None
    ours = {recipe.name: recipe for recipe in shipped_recipes() if recipe.command == "mix"}
    if arguments[0] not in ours:
        raise mix.MixtureError(f"{arguments[0]}: no such folder, and {unknown_message('recipe', arguments[0], ours)}")
    return ours[arguments[0]]


def show(built: mix.Built, out: Path) -> None:
    """Show weights as given and as shares: of the group, of the whole, in samples; what a pass takes; what binds."""
    manifest = built.mixture.manifest
    for number, (shares, stage) in enumerate(zip(built.shares, _own_stages(built), strict=True)):
        title = f"stage {stage.name}, from position {stage.start:,}" if len(built.shares) > 1 else None
        rows = [_row(built, number, shares) for number in range(len(built.leaves))]
        table = Table(*rows[0], title=title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row.values())
        console.print(table)
        if number == 0 and shares.epoch:
            console.print(f"a pass over the mixture is {shares.epoch:,} samples")
    for note in built.notes:
        err_console.print(f"warning: {note}", soft_wrap=True)
    if manifest.end is not None:
        console.print(f"the mixture ends at position {manifest.end:,}: a source has had its epochs")
    console.print(f"mode {manifest.mode}, manifest {out}", soft_wrap=True)


def _own_stages(built: mix.Built) -> Sequence[mix.Stage]:
    """The stages that this mixture adds to those it goes on from (none, where it only leaves steps out)."""
    stages = built.mixture.manifest.stages
    return stages[len(stages) - len(built.shares) :]


def _row(built: mix.Built, number: int, shares: Any) -> dict[str, str]:
    """A source's line: what stands in every line only where it tells something."""
    manifest, leaf = built.mixture.manifest, built.leaves[number]
    drawn, whole = shares.samples[number], sum(shares.samples)
    row = {"dataset": f"{leaf.group}/{leaf.name}" if leaf.group else leaf.name, "samples": f"{leaf.info.samples:,}"}
    row |= {"weight": f"{leaf.entry.weight:g}", "of group": f"{shares.of_group[number]:.4%}"}
    if manifest.mode == "accumulate":
        return {**row, "weight of its loss": f"{float(drawn):g}", "in a step": str(leaf.entry.batch)}
    if manifest.unit != "samples":
        row[f"of {manifest.unit.replace('_', ' ')}"] = f"{shares.of_whole[number]:.4%}"
    row["of draws"] = f"{float(drawn / whole):.4%}"
    if shares.epoch:
        row["in a pass"] = f"{float(drawn):,.0f}"
        row["epochs in a pass"] = f"{float(drawn / leaf.info.samples):.4g}"
    if any(other.cap is not None for other in built.leaves):
        row["cap binds"] = "" if leaf.cap is None else f"yes: {leaf.cap:,}" if leaf.binds else "no"
    return row


def samples_at(path: Path, step: int, batch: int | None) -> list[dict[str, Any]]:
    """List a step's samples: position, source, epoch, row, uid and tar, a choice of text where there is one."""
    mixture = mix.read(path)
    found = mix.uids_at(mixture, mixture.positions_of(step, batch))
    numbers = {source.name: n for n, source in enumerate(mixture.manifest.datasets)}
    out = []
    for drawn in found:
        number = numbers[drawn.source]
        kinds = mixture.manifest.datasets[number].choices
        chosen = {kind: mixture.choose(number, drawn.uid, drawn.epoch, kind) for kind in kinds}
        out.append({**dataclasses.asdict(drawn), **chosen})
    return out


def stage_at(path: Path, step: int, batch: int | None = None) -> dict[str, Any]:
    """The settings of a step: its stage, whether it ramps, resolution, sequence, what is trained, the weights."""
    mixture = mix.read(path)
    found = dataclasses.asdict(mixture.stage_of(step * mixture.step_size(batch)))
    names = (source.name for source in mixture.manifest.datasets)
    return {"step": step, **found, "weights": dict(zip(names, found["weights"], strict=True))}


def show_stage(found: dict[str, Any]) -> None:
    """Print a line on stderr, where it is in nobody's way: nothing of what the manifest leaves to the trainer."""
    parts = [f"stage {found['name']}" + (", ramping" if found["ramping"] else "")]
    if found["resolution"] is not None:
        parts.append(_count_text(found["resolution"], "pixels"))
    if found["sequence"] is not None:
        parts.append(f"sequences of {_count_text(found['sequence'], 'tokens')}")
    if found["train"] is not None:
        parts.append(f"trains {', '.join(found['train']) or 'nothing'}")
    err_console.print(f"step {found['step']:,}: " + "; ".join(parts), soft_wrap=True)


def _count_text(said: int | dict[str, int], unit: str) -> str:
    each = said if isinstance(said, dict) else {"": said}
    return ", ".join(f"{n:,} {unit}{f' ({name})' if name else ''}" for name, n in each.items())


def show_at(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line a sample, its cells apart by tabs, that other tools can cut."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    print("\t".join(keys))
    for row in rows:
        print("\t".join(str(row.get(key, "")) for key in keys))


def simulate(path: Path, steps: int, batch: int | None) -> dict[str, Any]:
    """Simulate shares, epochs and first repeat of each source over the first `steps` steps, by arithmetic alone."""
    mixture = mix.read(path)
    manifest, size = mixture.manifest, mixture.step_size(batch)
    last = steps * size
    if last > MOST_POSITIONS:
        raise ValueError(f"--steps {steps}: at most {MOST_POSITIONS // size:,} steps of {size:,} samples")
    if manifest.end is not None:
        last = min(last, manifest.end)
    drawn = mixture.served(last)
    units = np.array([s.units / s.samples for s in manifest.datasets]) * drawn
    sources = []
    for number, source in enumerate(manifest.datasets):
        repeat = _first_repeat(mixture, number, last)
        sources.append(
            {
                "name": source.name,
                "samples": int(drawn[number]),
                "share": float(drawn[number] / max(drawn.sum(), 1)),
                f"share_of_{manifest.unit}": float(units[number] / max(units.sum(), 1)),
                "epochs": float(drawn[number] / source.samples),
                "first_repeat_position": repeat,
                "first_repeat_step": None if repeat is None else repeat // size,
            }
        )
    stages = [_describe_stage(mixture, number, size) for number in range(len(manifest.stages))]
    return {"steps": last / size, "positions": last, "ended": last < steps * size, "stages": stages, "sources": sources}


def show_simulated(found: dict[str, Any]) -> None:
    """Print a table of what `simulate` found; the share of the unit where that is another than samples."""
    unit = next(key for key in found["sources"][0] if key.startswith("share_of_"))
    of_unit = [] if unit == "share_of_samples" else [unit.replace("_", " ")]
    table = Table("dataset", "samples drawn", "share of draws", *of_unit, "epochs", "first repeat at step")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in found["sources"]:
        repeat = row["first_repeat_step"]
        cells = [f"{row['samples']:,}", f"{row['share']:.4%}", *(f"{row[unit]:.4%}" for _ in of_unit)]
        cells.append(f"{row['epochs']:.4g}")
        table.add_row(row["name"], *cells, "" if repeat is None else f"{repeat:,}")
    console.print(table)
    for stage_ in found["stages"] if len(found["stages"]) > 1 else ():
        console.print(_cell_text(stage_), soft_wrap=True)
    ends = ", where the mixture ends" if found["ended"] else ""
    console.print(f"{found['steps']:,.6g} steps, {found['positions']:,} samples{ends}")


def _describe_stage(mixture: mix.Mixture, number: int, size: int) -> dict[str, Any]:
    """A stage: from which step it holds and over how many it ramps; resolution and sequence at first and then."""
    own = mixture.manifest.stages[number]
    first, ramp = mixture.stream_position(own.start), own.ramp // size if number else 0
    ends = [mixture.stage_of(first), mixture.stage_of(mixture.stream_position(own.start + own.ramp))]
    told = {what: [getattr(stage, what) for stage in ends] for what in ("resolution", "sequence")}
    return {"name": own.name, "from_step": first // size, "ramp_steps": ramp, **told, "train": own.train}


def _cell_text(found: dict[str, Any]) -> str:
    parts = [f"stage {found['name']} from step {found['from_step']:,}"]
    if found["ramp_steps"]:
        parts.append(f"ramping over {found['ramp_steps']:,} steps")
    for (first, then), unit, before in (
        (found["resolution"], "pixels", ""),
        (found["sequence"], "tokens", "sequences of "),
    ):
        if then is not None:
            grown = f"{_count_text(first, unit)} to " if first != then else ""
            parts.append(before + grown + _count_text(then, unit))
    return "; ".join(parts)


def _first_repeat(mixture: mix.Mixture, source: int, last: int) -> int | None:
    """The first position of the stream at which a source gives a row for the second time."""
    rows = mixture.manifest.datasets[source].samples

    def begun(position: int) -> bool:
        return bool(mixture.counts(mixture.mixture_position(position) + 1)[source] > rows)

    if last == 0 or not begun(last - 1):
        return None
    low, high = -1, last - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if begun(middle) else (middle, high)
    return high


def _onto(going: ContinueFrom) -> mix.Onto | None:
    if going.manifest is None:
        return None
    old = mix.load(going.manifest)
    return mix.Onto(old, going.step * old.step_size() if going.step else 0)


def _with_seed(spec: mix.MixtureSpec, seed: int | None) -> mix.MixtureSpec:
    return spec if seed is None else spec.model_copy(update={"seed": seed})


def _short(arguments: Sequence[str], seed: int | None, onto: mix.Onto | None) -> mix.MixtureSpec:
    weighted = [_parse_weight(argument) for argument in arguments]
    old = onto.mixture.manifest if onto else None
    return mix.short(weighted, seed or 0, old.mode if old else "interleave", old.batch if old else None)


def _parse_weight(text: str) -> tuple[str, float]:
    path, equals, weight = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        found = float(weight)
    except ValueError:
        found = -1.0
    if not 0 <= found < math.inf:
        raise ValueError(f"{text}: expected PATH=WEIGHT with a number of 0 or more, for example work/demo/dataset=0.9")
    return path, found


def parse_ranges(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Parse `a-b` as (a, b), `a` as (a, a)."""
    out = []
    for text in texts:
        first, dash, last = text.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"--skip-steps {text}: expected the first and the last step, for example 100-120")
        out.append((int(first), int(last if dash else first)))
    return tuple(out)
