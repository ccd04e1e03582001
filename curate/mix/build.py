"""Build a manifest from a specification and the datasets it names, with warnings for a person."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from curate.commit import file_sha256
from curate.mix.leaves import resolve_leaves, unused_name
from curate.mix.manifest import Continued, Lengths, Manifest, Mode, Segment, Source, Spread, Stage, save
from curate.mix.mixture import Mixture
from curate.mix.order import run_lengths
from curate.mix.plan import skipped, stream_position
from curate.mix.schedule import MixtureError, exact_weights
from curate.mix.segments import EpochLimits, Laid, lay_out
from curate.mix.spec import Entry, MixtureSpec, StageSpec
from curate.mix.spread import tables, write
from curate.mix.strata import Table
from curate.mix.weights import Leaf, Shares, resolve_shares
from curate.process import hold
from curate.settings import validate
from curate.shards import is_url

WHOLE = StageSpec(name="whole")


@dataclass(frozen=True)
class Onto:
    """A mixture to go on from, at a position of its stream."""

    mixture: Mixture
    position: int

    def taken_over(self) -> Continued:
        """The manifest that is gone on from, by its file's SHA-256, and the position."""
        return Continued(digest=file_sha256(self.mixture.path), position=self.position)


@dataclass(frozen=True)
class Built:
    """A mixture, the leaves and the shares of its own stages, and what deserves a warning."""

    mixture: Mixture
    leaves: tuple[Leaf, ...]
    shares: tuple[Shares, ...]
    notes: tuple[str, ...]


def build(datasets: Sequence[tuple[Path | str, float]], seed: int, out: Path) -> Mixture:
    """Check the datasets (folders, URLs) and weights, and write the manifest `out`. Raises MixtureError, ShardError."""
    return compose(short(datasets, seed), Path(), out).mixture


def short(
    datasets: Sequence[tuple[Path | str, float]], seed: int, mode: Mode = "interleave", batch: int | None = None
) -> MixtureSpec:
    """The specification of datasets and weights without more ado. Raises MixtureError."""
    if not datasets:
        raise MixtureError("no datasets to mix: give at least one folder that holds a dataset.json")
    exact_weights([weight for _, weight in datasets])
    entries = tuple(Entry(path=str(path), weight=weight) for path, weight in datasets)
    return MixtureSpec(seed=seed, mode=mode, batch=batch, sources=entries)


def compose(
    spec: MixtureSpec, home: Path, out: Path, onto: Onto | None = None, skip_steps: Sequence[tuple[int, int]] = ()
) -> Built:
    """Resolve a specification, whose paths are seen from `home`, and write the manifest `out`.

    With `onto`, the mixture goes on from another: up to its position everything is as it was, from there the new
    weights hold and every source goes on where it stood. `skip_steps` are (first, last) steps to leave out.
    Raises MixtureError, ShardError, SettingsError or HeldError.
    """
    leaves = tuple(resolve_leaves(spec, home))
    stages = spec.stages or (WHOLE,)
    shares = tuple(resolve_shares(spec, leaves, stage.weights) for stage in stages)
    draft = _Draft(spec, out, leaves, stages, shares, onto)
    skips, position = (onto.mixture.manifest.skips, onto.position) if onto else ((), 0)
    with hold(out, whole=True):
        data = draft.data(skipped(skips, draft.batch, position, skip_steps))
        mixture = Mixture(validate(data, Manifest, str(out)).sealed(), out)
        notes = tuple(_notes(leaves, shares, mixture))
        save(mixture.manifest, out)
    return Built(mixture, leaves, shares, notes)


def skip(onto: Onto, out: Path, steps: Sequence[tuple[int, int]]) -> Built:
    """The same mixture without some (first, last) steps that are still to come; everything after them is as it was."""
    old, path = onto.mixture.manifest, onto.mixture.path
    folders = [_moved(source.path, path.parent, out.parent) for source in old.datasets]
    sources = [s.model_copy(update={"path": there}) for s, there in zip(old.datasets, folders, strict=True)]
    skips = skipped(old.skips, old.batch, onto.position, steps)
    end = None if old.end is None else stream_position(onto.mixture.mixture_position(old.end - 1) + 1, skips)
    with hold(out, whole=True):
        data = old.model_dump(exclude={"seal"}) | {
            "datasets": [source.model_dump() for source in sources],
            "skips": skips,
            "end": end,
            "lengths": _beside(out, list(tables(old, path))),
            "continued": onto.taken_over(),
        }
        mixture = Mixture(validate(data, Manifest, str(out)).sealed(), out)
        save(mixture.manifest, out)
    return Built(mixture, (), (), ())


@dataclass(frozen=True)
class _Draft:
    """Everything a manifest is made of, before positions are counted."""

    spec: MixtureSpec
    out: Path
    leaves: tuple[Leaf, ...]
    stages: tuple[StageSpec, ...]
    shares: tuple[Shares, ...]
    onto: Onto | None

    @property
    def old(self) -> Manifest | None:
        """The manifest to go on from, where there is one."""
        return self.onto.mixture.manifest if self.onto else None

    @property
    def batch(self) -> int | None:
        if self.spec.mode == "accumulate":
            return sum(self.per_step())
        return self.spec.batch or (self.old.batch if self.old else None)

    @property
    def start(self) -> int:
        """The position (of the mixture) from which this specification holds."""
        return self.onto.mixture.mixture_position(self.onto.position) if self.onto else 0

    def per_step(self) -> list[int]:
        """Samples of each source in a step of mode accumulate."""
        found = [leaf.entry.batch for leaf in self.leaves]
        if None in found:
            lacking = self.leaves[found.index(None)].name
            raise MixtureError(f"mode accumulate draws every source in every step: say `batch` of {lacking!r} as well")
        total = sum(n or 0 for n in found)
        if self.spec.batch not in (None, total):
            raise MixtureError(f"the sources' batches add up to {total}, `batch` says {self.spec.batch}; leave it out")
        return [n or 0 for n in found]

    def data(self, skips: Sequence[tuple[int, int]]) -> dict[str, object]:
        """The manifest as plain data, with ranges of positions left out."""
        spec, old = self.spec, self.old
        places = _places(self.leaves, old)
        width = max([*places, *(range(len(old.datasets)) if old else ())]) + 1
        self._check_onto()
        sources, stages = self._sources(places, width), self._stages(places, width)
        segments, end = self._segments(stages, places, width)
        before = [s for s in old.segments if s.start < self.start] if old else []
        return {
            "seed": old.seed if old else spec.seed,
            "mode": spec.mode,
            "unit": spec.unit,
            "visual_tokens": spec.visual_tokens,
            "batch": self.batch,
            "epoch": self.shares[0].epoch,
            "end": None if end is None else stream_position(end, skips),
            "skips": skips,
            "open_shards": old.open_shards if old else spec.open_shards,
            "datasets": sources,
            "lengths": _beside(self.out, self._lines(places, sources)),
            "stages": stages,
            "segments": [
                *(Segment(start=s.start, slots=_wide(s.slots, range(len(s.slots)), width, 0)) for s in before),
                *(Segment(start=start, slots=slots) for start, slots in segments),
            ],
            "continued": self.onto.taken_over() if self.onto else None,
        }

    def _sources(self, places: Sequence[int], width: int) -> list[Source]:
        out: list[Source | None] = [None] * width
        folder = self.out.parent
        if self.onto:
            for at, source in enumerate(self.onto.mixture.manifest.datasets):
                there = _moved(source.path, self.onto.mixture.path.parent, folder)
                out[at] = source.model_copy(update={"path": there, "share": 0.0, "weight": 0.0})
        for at, leaf, share in zip(places, self.leaves, self.shares[0].of_whole, strict=True):
            old = out[at]
            if old is not None and old.rotate != leaf.entry.rotate:
                raise MixtureError(f"source {old.name!r}: `rotate` cannot change mid-run, it decides the order")
            made = _source(leaf, share, old.name if old else leaf.name, folder)
            out[at] = made.model_copy(update={"spread": old.spread if old else self._spread(leaf)})
        return [source for source in out if source is not None]

    def _spread(self, leaf: Leaf) -> Spread | None:
        """How the order spreads a new source by length: not where rows must stay in their part, nor with no shares."""
        if not leaf.held.uneven or leaf.entry.rotate > 1 or self.spec.mode == "accumulate":
            return None
        return Spread(unit=self.spec.unit, visual_tokens=self.spec.visual_tokens)

    def _lines(self, places: Sequence[int], sources: Sequence[Source]) -> list[Table]:
        """The lines of each source that is spread: as they were, or as they were surveyed."""
        found = {at: leaf.held.lines for at, leaf in zip(places, self.leaves, strict=True)}
        if self.onto:
            found |= dict(enumerate(tables(self.onto.mixture.manifest, self.onto.mixture.path)))
        return [found[at] for at, source in enumerate(sources) if source.spread]

    def _stages(self, places: Sequence[int], width: int) -> list[Stage]:
        out: list[Stage] = []
        if self.old:
            for stage in self.old.stages:
                if stage.start < self.start:
                    wide = _wide(stage.weights, range(len(stage.weights)), width, 0.0)
                    out.append(stage.model_copy(update={"weights": wide}))
        start, size = self.start, self.batch or 1
        for spec, shares in zip(self.stages, self.shares, strict=True):
            weights = _wide([float(w) for w in shares.samples], places, width, 0.0)
            out.append(
                Stage(
                    name=unused_name(spec.name, [s.name for s in out]),
                    start=start,
                    ramp=spec.ramp * size,
                    weights=weights,
                    **spec.model_dump(
                        include={"resolution", "resolution_multiple", "sequence", "sequence_multiple", "train"}
                    ),
                )
            )
            start += (spec.steps or 0) * size
        return out

    def _segments(self, stages: list[Stage], places: Sequence[int], width: int) -> tuple[list[Laid], int | None]:
        had = [0] * width
        if self.onto:
            before = self.onto.mixture.counts(self.start).tolist()
            had[: len(before)] = before
        draws: list[int | None] = [None] * width
        for at, leaf in zip(places, self.leaves, strict=True):
            if leaf.max_epochs is not None:
                draws[at] = int(Fraction(repr(leaf.max_epochs)) * leaf.info.samples)
        names = [s.name for s in self._sources(places, width)]
        limits = EpochLimits(draws, had, self.spec.at_limit, self._until())
        if self.spec.mode == "accumulate":
            return self._every_source(_wide(self.per_step(), places, width, 0), limits, names)
        mine = stages[len(stages) - len(self.stages) :]
        weights = [_wide(s.samples, places, width, Fraction(0)) for s in self.shares]
        if self.onto and stages[0] is not mine[0] and mine[0].ramp:
            mine = [stages[-len(self.stages) - 1].model_copy(update={"start": self.start}), *mine]
            weights = [tuple(exact_weights(mine[0].weights)), *weights]
        unit = (self.batch or 1) if self.spec.mode == "homogeneous" else 1
        return lay_out(mine, weights, unit, limits, names)

    def _every_source(
        self, slots: tuple[int, ...], limits: EpochLimits, names: Sequence[str]
    ) -> tuple[list[Laid], int | None]:
        """Mode accumulate: every source in every step, until one has had its epochs."""
        laid: list[Laid] = [(self.start, slots)]
        steps = [(n - h) // s for n, h, s in zip(limits.draws, limits.had, slots, strict=True) if n is not None and s]
        if not steps:
            return laid, None
        end = self.start + min(steps) * sum(slots)
        short = limits.until is None or end < limits.until
        if limits.policy == "redistribute" or (limits.policy == "refuse" and short):
            raise MixtureError(
                f"a source reaches its max_epochs at position {end}, and mode accumulate draws every source in every"
                " step: say `at_limit: stop`, or raise max_epochs"
            )
        return laid, end

    def _until(self) -> int | None:
        known = all(stage.steps for stage in self.stages)
        steps = sum(stage.steps or 0 for stage in self.stages) if known else self.spec.steps
        return None if steps is None else self.start + steps * (self.batch or 1)

    def _check_onto(self) -> None:
        if self.onto is None:
            return
        old, path, size = self.onto.mixture.manifest, self.onto.mixture.path, self.batch or 1
        if old.mode != self.spec.mode or (old.batch is not None and old.batch != self.batch):
            raise MixtureError(f"{path}: a mixture goes on in its own mode and batch, {old.mode}, {old.batch}")
        if self.spec.mode in ("homogeneous", "accumulate") and self.start % size:
            raise MixtureError(f"position {self.onto.position} is within a step of {size}; go on from a step's start")
        if old.end is not None and self.onto.position > old.end:
            raise MixtureError(f"{path}: ends at position {old.end}, before {self.onto.position}")


def _beside(out: Path, lines: Sequence[Table]) -> Lengths | None:
    """Write the lines beside the manifest `out`, where there are any."""
    if not any(len(each) for each in lines):
        return None
    file = out.with_suffix(".lengths.npy")
    write(file, lines)
    return Lengths(file=file.name, sha256=file_sha256(file))


def _places(leaves: Sequence[Leaf], old: Manifest | None) -> list[int]:
    """Where each leaf stands in the manifest: where the same content stood before, else behind."""
    free = dict(enumerate(old.datasets)) if old else {}
    after = len(free)
    out: list[int] = []
    for leaf in leaves:
        same = [at for at, source in free.items() if source.digest == leaf.digest]
        same.sort(key=lambda at: free[at].name != leaf.name)
        out.append(same[0] if same else after)
        after += not same
        if same:
            del free[same[0]]
        elif old and leaf.name in {source.name for source in old.datasets}:
            raise MixtureError(
                f"source {leaf.name!r} has changed since the mixture it is to go on in, so what was seen of it is not"
                " known; publish what is new as a dataset of its own, or give this one another name"
            )
    return out


def _source(leaf: Leaf, share: float, name: str, folder: Path) -> Source:
    entry = leaf.entry
    choices = {"text": entry.texts, "template": entry.templates, "system": entry.system}
    return Source(
        name=name,
        group=leaf.group,
        path=(entry.path or "").rstrip("/") if is_url(entry.path or "") else _seen_from(folder, leaf.folder),
        weight=entry.weight,
        share=share,
        samples=leaf.info.samples,
        units=leaf.held.units,
        digest=leaf.digest,
        shards=run_lengths([shard.samples for shard in leaf.info.shards]),
        again=entry.again,
        rotate=entry.rotate,
        max_epochs=leaf.max_epochs,
        choices={what: options for what, options in choices.items() if options},
    )


def _notes(leaves: Sequence[Leaf], shares: Sequence[Shares], mixture: Mixture) -> Iterator[str]:
    """What deserves a warning: content in two sources, sources that no stage draws, shares that must stray."""
    owner: dict[str, str] = {}
    for at, leaf in enumerate(leaves):
        twice = {owner[s.sha256] for s in leaf.info.shards if s.sha256 in owner} - {leaf.name}
        if twice and not leaf.entry.again:
            yield f"{leaf.name} has shards that {', '.join(sorted(twice))} has as well: their samples come oftener"
        owner.update({s.sha256: leaf.name for s in leaf.info.shards})
        if any(stage.epoch is not None and stage.samples[at] > leaf.taken for stage in shares):
            yield f"{leaf.name} gives more than its {leaf.taken:,} samples to a pass, so that some come twice in it"
        if not any(stage.samples[at] for stage in shares):
            yield f"{leaf.name} is never drawn: its weight is 0, or its part of a pass is less than a sample"
    if mixture.manifest.mode != "accumulate":
        yield from _strays(leaves, mixture)


def _strays(leaves: Sequence[Leaf], mixture: Mixture) -> Iterator[str]:
    """Sources whose share of the unit is not kept to about the longest sample within an epoch."""
    manifest, held = mixture.manifest, {leaf.digest: leaf for leaf in leaves if leaf.held.uneven}
    unit = manifest.unit.replace("_", " ")
    for number, source in enumerate(manifest.datasets):
        leaf = held.get(source.digest)
        if leaf is None:
            continue
        off = mixture.strays(number)
        if off is None or source.spread is None or source.spread.unit != manifest.unit:
            yield f"{leaf.name} keeps an order that does not spread its {unit}: their share strays within an epoch"
        elif off > 2 * leaf.held.longest:
            yield (
                f"{leaf.name} has shards of unlike lengths, {manifest.open_shards} of them are read together, and"
                f" between such it is off by up to {off:,} {unit}; raise `open_shards`, or shuffle what is published"
            )


T = TypeVar("T")


def _wide(values: Sequence[T], places: Sequence[int], width: int, empty: T) -> tuple[T, ...]:
    """Values put at their places in a row of `width`."""
    out = [empty] * width
    for at, value in zip(places, values, strict=True):
        out[at] = value
    return tuple(out)


def _moved(path: str, old: Path, new: Path) -> str:
    """A path in a manifest of one folder as it stands in one of another."""
    return path if is_url(path) else _seen_from(new, old / path)


def _seen_from(folder: Path, target: Path) -> str:
    try:
        return Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return target.resolve().as_posix()
