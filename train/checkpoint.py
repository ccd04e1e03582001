"""Checkpoints: a folder a step, written whole or not at all, of safetensors and JSON; no pickle.

    00000500/model.safetensors      weights and buffers
             optimizer.safetensors  AdamW's two moments and step a parameter, by the parameter's name
             state.json             step, position in the stream, counts, and what is trained (for the refusal below)

The folder is written under a temporary name, flushed to disk and renamed: a kill at any moment leaves the last whole
checkpoint in place. A checkpoint of another configuration or manifest is refused, naming what differs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from curate.commit import dump_json

WEIGHTS, MOMENTS, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
VERSION = 4


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from; the message says which, why and what to do."""


@dataclass(frozen=True)
class TrainProgress:
    """Progress of a run: steps done, the stream's state, what every source has served (`curate.stream.served`), and
    what tells a spike (`train.faults`).
    """

    step: int
    stream: dict[str, Any]
    served: dict[str, Any]
    spikes: dict[str, Any]


def newest_checkpoint(folder: Path) -> Path | None:
    """Find the last whole checkpoint below `folder`, if there is one."""
    found = [p for p in folder.glob("[0-9]*") if p.name.isdigit() and (p / STATE).is_file()]
    return max(found, key=lambda p: int(p.name), default=None)


def save(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: TrainProgress,
    trained: dict[str, Any],
    keep: int,
) -> Path:
    """Commit the checkpoint of `progress.step` below `folder`, keep only the last `keep`; returns the new folder.

    Raises OSError where it cannot be written; the one before is then still whole.
    """
    final, temporary = folder / f"{progress.step:08d}", folder / f".{progress.step:08d}.tmp"
    remove_leftovers(folder)
    state = {"version": VERSION, **vars(progress), "trained": trained}
    try:
        temporary.mkdir(parents=True)
        save_file(_plain(module.state_dict()), temporary / WEIGHTS)
        save_file(_moments_of(module, optimizer), temporary / MOMENTS)
        (temporary / STATE).write_text(dump_json(state), encoding="utf-8")
        for path in (*sorted(temporary.iterdir()), temporary):
            _sync(path)
        temporary.rename(final)
        _sync(folder)
    except (OSError, SafetensorError) as err:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(
            f"{final}: the checkpoint could not be written ({err}); make room and run the same command again, which"
            " goes on from the one before"
        ) from err
    for old in sorted(p for p in folder.glob("[0-9]*") if p.name.isdigit())[:-keep]:
        shutil.rmtree(old)
    return final


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written."""
    for leftover in folder.glob(".*.tmp"):
        shutil.rmtree(leftover)


def restore(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    trained: dict[str, Any],
    can_resume: Callable[[dict[str, Any]], bool],
) -> TrainProgress:
    """Load the checkpoint at `path` into `module` and `optimizer`. Raises CheckpointError if it is of another run.

    `can_resume` tells whether the stream can go on from a state of its own.
    """
    state = _read_state(path)
    if state.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: is of version {state.get('version')}, this trainer writes {VERSION}; choose another --out"
        )
    changed = differences(state["trained"], trained)
    if not can_resume(state["stream"]):
        changed.append("the mixture manifest (its content)")
    if changed:
        raise CheckpointError(
            f"{path}: is of another run; these have changed since: {'; '.join(changed)}."
            " Put them back, or choose another --out"
        )
    try:
        weights, moments = load_file(path / WEIGHTS), load_file(path / MOMENTS)
    except (OSError, SafetensorError) as err:
        raise CheckpointError(f"{path}: cannot be read ({err}); remove it to go on from the one before") from err
    module.load_state_dict(weights, strict=True)
    parameters = dict(module.named_parameters())
    for key, value in moments.items():
        name, _, kind = key.rpartition("/")
        optimizer.state[parameters[name]][kind] = _like(value, parameters[name])
    return TrainProgress(state["step"], state["stream"], state["served"], state["spikes"])


def _read_state(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / STATE).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as err:
        raise CheckpointError(
            f"{path / STATE}: cannot be read ({err}): it was cut or changed after it was written; remove the folder"
            f" {path} to go on from the one before, or choose another --out"
        ) from None
    return found


def _moments_of(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state
    named = {n: state[p] for n, p in module.named_parameters() if p in state}
    return _plain({f"{name}/{key}": value for name, entries in named.items() for key, value in entries.items()})


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """`value` where and laid out as the optimizer would have made it."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter).copy_(value)


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By name, on the CPU, contiguous: the same values, the same file."""
    return {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Differences of two plain trees, as `path: old -> new` lines."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{at}.{key}".lstrip("."))]
    return [] if old == new else [f"{at}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
