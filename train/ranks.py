"""Ranks of a run: one process alone, or those that torchrun started (gloo on the CPU, nccl on a GPU)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process's place: `rank` of `world`, computing on `device`."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and speaks."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Sum values over all ranks, in double precision where the back end is the CPU's."""
        if self.world == 1:
            return values
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return [float(v) for v in summed.tolist()]

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def join_ranks(device: Literal["auto", "cpu", "cuda"]) -> Iterator[Ranks]:
    """Join the process group that torchrun's environment describes, and leave it at the end. Raises ValueError."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("run.device: no CUDA device is available here; set run.device=cpu or auto")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    place = torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(place)
    if world > 1:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", device_id=place if kind == "cuda" else None)
    try:
        yield Ranks(rank, world, place)
    finally:
        if world > 1:
            dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = x.shape[0]
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        dist.all_reduce(grad)
        start = dist.get_rank() * ctx.rows
        return grad[start : start + ctx.rows]


def gather(x: Tensor) -> Tensor:
    """Gather rows of all ranks in rank order. Backwards, a row's gradient is the sum over the ranks that used it."""
    if not dist.is_available() or not dist.is_initialized():
        return x
    joined_rows: Tensor = _Gather.apply(x)
    return joined_rows


def first_row(rows: int) -> int:
    """The number, among the rows that `gather` gives, of this rank's first; every rank has `rows` of them."""
    return dist.get_rank() * rows if dist.is_available() and dist.is_initialized() else 0
