"""Start weights: those of an earlier stage's run or of an exported file, taken by name."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from curate.models.experts import upcycled
from curate.settings import PathText, Settings, seen_from_here
from train.checkpoint import STATE, newest_checkpoint, read_weights, weights_digest
from train.groups import match_names
from train.objectives.parts import Parted

TOLD = 6
"""Names that are told one by one, of those that did not match."""


class StartError(ValueError):
    """Start weights that are not there or are another network's; the message says what to do."""


class Start(Settings):
    """Start weights."""

    run: PathText
    """An earlier run's folder (its newest checkpoint), one of its checkpoints, or a .safetensors that `--export` wrote.
    What is in it is part of what is trained: a run that has gone on since is another start."""
    match: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    """Parts, or patterns of parameters' names, that take their weights from there."""
    rename: Mapping[str, str] = {}
    """Beginnings of names there, and what stands for them here: `{net.visual: tower}`."""

    def weights(self) -> Path:
        """The checkpoint's folder, or the file. Raises StartError."""
        path = Path(self.run)
        found = newest_checkpoint(path / "checkpoints") or path
        if not found.is_file() and not (found / STATE).is_file():
            raise StartError(
                f"start.run: no weights in {self.run}{seen_from_here(self.run)}; name the --out of a run that has"
                " written a checkpoint, or a .safetensors"
            )
        return found

    def digest(self) -> str:
        """SHA-256 of the weights. Raises StartError."""
        return weights_digest(self.weights())


def load_start(objective: Parted, start: Start) -> str:
    """Take the start weights by name; returns a sentence of what was taken and what was not. Raises ValueError.

    A weight of another shape is an error, never left as it was drawn. A dense feed-forward becomes every expert of the
    mixture in its place (`curate.models.experts.upcycled`).
    """
    assert isinstance(objective, nn.Module)
    path = start.weights()
    named = {_renamed(name, start): value for name, value in read_weights(path).items()}
    state, there = objective.state_dict(), upcycled(named, objective)
    wanted = _wanted(objective, start.match)
    taken = sorted(wanted & there.keys())
    if not taken:
        raise StartError(
            f"start: nothing in {path} is named as what is wanted; there {_few(sorted(there))}, wanted"
            f" {_few(sorted(wanted))}; say start.rename: {{BEGINNING THERE: BEGINNING HERE}}"
        )
    for name in taken:
        if there[name].shape != state[name].shape:
            raise StartError(
                f"start: {name} is {tuple(there[name].shape)} in {path} and {tuple(state[name].shape)} here; make the"
                " model as it was, or name in start.match what to take without it"
            )
    with torch.no_grad():
        for name in taken:
            state[name].copy_(there[name])
    missing, left = sorted(wanted - there.keys()), sorted(there.keys() - set(taken))
    return (
        f"start: {len(taken)} of {len(wanted)} tensors taken from {path}"
        f"{f'; not there: {_few(missing)}' if missing else ''}{f'; left there: {_few(left)}' if left else ''}"
    )


def _renamed(name: str, start: Start) -> str:
    """The name here of what is named so there, by the longest beginning that is renamed."""
    beginnings = [old for old in start.rename if name == old or name.startswith(f"{old}.")]
    if not beginnings:
        return name
    old = max(beginnings, key=len)
    return start.rename[old] + name[len(old) :]


def _wanted(objective: Parted, match: tuple[str, ...]) -> set[str]:
    """The parameters that are matched, and the kept buffers that are, or stand in a module with one that is."""
    names = match_names(objective, match, "start.match")
    modules, kept = {name.rpartition(".")[0] for name in names}, objective.state_dict().keys()
    buffers = [name for name, _ in objective.named_buffers() if name in kept]
    matched = {name for name in buffers if any(fnmatchcase(name, entry) for entry in match)}
    return names | matched | {name for name in buffers if name.rpartition(".")[0] in modules}


def _few(names: list[str]) -> str:
    rest = len(names) - TOLD
    return ", ".join(names[:TOLD]) + (f" and {rest} more" if rest > 0 else "")
