"""Checkpoints: a folder a step, written whole or not at all.

    00000500/model.safetensors      weights and buffers
             optimizer.safetensors  AdamW's two moments and step a parameter, by the parameter's name
             state.json             step, position in the stream, counts, and what is trained (for the refusal below)

Where ranks hold shards (FSDP), `shards/` stands in the place of the two files: what `torch.distributed.checkpoint`
writes, every rank its own. Either kind is gone on from with any number of ranks, whole or in shards.

The folder is written under a temporary name, flushed to disk and renamed once every rank is done: a kill at any moment
leaves the last whole checkpoint in place. One of another configuration or manifest is refused, naming what differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.checkpoint.state_dict_saver import save as save_shards
from torch.distributed.tensor import DTensor, distribute_tensor

from curate.commit import dump_json, file_sha256
from train.ranks import Ranks

WEIGHTS, MOMENTS, STATE, SHARDS = "model.safetensors", "optimizer.safetensors", "state.json", "shards"
MODEL, OPTIMIZER = "model/", "optimizer/"
"""Beginnings of the names in shards."""
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
    state: Mapping[str, Any],
    keep: int,
    ranks: Ranks,
) -> None:
    """Commit the checkpoint of `state["step"]` below `folder`, keep only the last `keep`; all ranks call it together.

    Raises OSError where it cannot be written; the one before is then still whole.
    """
    final = folder / f"{state['step']:08d}"
    temporary = folder / f".{final.name}.tmp"
    if ranks.is_first:
        remove_leftovers(folder)
        temporary.mkdir(parents=True)
    ranks.barrier()
    try:
        if is_sharded(module):
            save_shards(_named(module, optimizer), storage_writer=FileSystemWriter(temporary / SHARDS))
        elif ranks.is_first:
            save_file(_plain(module.state_dict()), temporary / WEIGHTS)
            save_file(_plain(_moments_of(module, optimizer)), temporary / MOMENTS)
        if ranks.is_first:
            (temporary / STATE).write_text(dump_json({"version": VERSION, **state}), encoding="utf-8")
            for path in (*sorted(temporary.rglob("*")), temporary):
                _sync(path)
            temporary.rename(final)
            _sync(folder)
    except (OSError, SafetensorError, CheckpointException) as err:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(
            f"{final}: the checkpoint could not be written ({err}); make room and run the same command again, which"
            " goes on from the one before"
        ) from err
    if ranks.is_first:
        for old in sorted(p for p in folder.glob("[0-9]*") if p.name.isdigit())[:-keep]:
            shutil.rmtree(old)
    ranks.barrier()


def is_sharded(module: nn.Module) -> bool:
    """Whether each rank holds but its shard of the weights."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


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
        if (path / SHARDS).is_dir():
            _load_shards(path / SHARDS, module, optimizer)
        else:
            _load_whole(path, module, optimizer)
    except (OSError, SafetensorError, CheckpointException) as err:
        raise CheckpointError(f"{path}: cannot be read ({err}); remove it to go on from the one before") from err
    return TrainProgress(state["step"], state["stream"], state["served"], state["spikes"])


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read all weights of a checkpoint's folder, or of a .safetensors, on the CPU. Raises CheckpointError."""
    try:
        if not (path / SHARDS).is_dir():
            return load_file(path / WEIGHTS if path.is_dir() else path)
        described = {name: value for name, value in _described(path / SHARDS).items() if name.startswith(MODEL)}
        found = {name: torch.empty(value.size, dtype=value.properties.dtype) for name, value in described.items()}
        _read_shards(found, path / SHARDS, alone=True)
    except (OSError, SafetensorError, CheckpointException) as err:
        raise CheckpointError(f"{path}: cannot be read ({err})") from err
    return {name.removeprefix(MODEL): value for name, value in found.items()}


def weights_digest(path: Path) -> str:
    """SHA-256 of the files that `read_weights` reads."""
    if (path / SHARDS).is_dir():
        files = sorted((path / SHARDS).iterdir())
        return hashlib.sha256("".join(f"{file.name} {file_sha256(file)}\n" for file in files).encode()).hexdigest()
    return file_sha256(path / WEIGHTS if path.is_dir() else path)


def _load_whole(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint of whole tensors; a rank that holds shards takes its own of each."""
    weights, moments = load_file(path / WEIGHTS), load_file(path / MOMENTS)
    if not is_sharded(module):
        module.load_state_dict(weights, strict=True)
    else:
        with torch.no_grad():
            for name, target in module.state_dict().items():
                target.copy_(_like(weights[name], target))
    parameters = dict(module.named_parameters())
    for key, value in moments.items():
        name, _, kind = key.rpartition("/")
        optimizer.state[parameters[name]][kind] = _like(value, parameters[name])


def _load_shards(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint that was written in shards, by as many ranks as may be, into what this one holds."""
    parameters = dict(module.named_parameters())
    for key, described in _described(path).items():
        if key.startswith(OPTIMIZER):
            name, _, kind = key.removeprefix(OPTIMIZER).rpartition("/")
            value = torch.zeros(described.size, dtype=described.properties.dtype)
            optimizer.state[parameters[name]][kind] = _like(value, parameters[name])
    _read_shards(_named(module, optimizer), path, alone=not torch.distributed.is_initialized())


def _read_shards(tensors: dict[str, Tensor], path: Path, alone: bool) -> None:
    """Read into `tensors` what they are of the shards below `path`, with the other ranks or alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # that is meant
        load_shards(tensors, storage_reader=FileSystemReader(path), no_dist=alone)


def _described(path: Path) -> dict[str, TensorStorageMetadata]:
    """The tensors in shards: names, sizes, types."""
    found = FileSystemReader(path).read_metadata().state_dict_metadata
    return {name: value for name, value in found.items() if isinstance(value, TensorStorageMetadata)}


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


def _named(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All tensors of a checkpoint by the name that they have in shards."""
    moments = {OPTIMIZER + name: value for name, value in _moments_of(module, optimizer).items()}
    return {MODEL + name: value for name, value in module.state_dict().items()} | moments


def _moments_of(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state
    named = {n: state[p] for n, p in module.named_parameters() if p in state}
    return {f"{name}/{key}": value for name, entries in named.items() for key, value in entries.items()}


def _like(value: Tensor, target: Tensor) -> Tensor:
    """`value` where, laid out and sharded as `target` is; a number (the optimizer's step) only where."""
    if value.shape != target.shape:
        return value.to(target.device)
    if isinstance(target, DTensor):
        value = value.to(target.device_mesh.device_type)
        return distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)
    return torch.empty_like(target).copy_(value)


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
