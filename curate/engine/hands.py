"""Hands of a run on Ray: tasks on processors, and actors with a share of a GPU. Each does a shard at a time.

`ray` is handed in: `workers` alone imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

MAX_DEATHS = 5
"""The death of how many workers a shard may be before the run ends; from the first on it is narrowed."""

STOP_SECONDS = 5.0
"""How long what is in hand may take to end when a run is given up."""


class WorkerError(RuntimeError):
    """A worker stopped with an error that is not about one sample."""


@dataclass(frozen=True)
class GpuShare:
    """Share of a machine that each worker of a stage takes: a `fraction` of one of its `gpus`, `cpus` to read ahead."""

    gpus: int
    fraction: float
    cpus: int

    @property
    def workers(self) -> int:
        """Count of those that there is room for."""
        return self.gpus * int(1 / self.fraction + 1e-6)


def death_errors(ray: Any) -> tuple[type[Exception], ...]:
    """The errors by which Ray tells that a worker died with what it had in hand."""
    found = ray.exceptions
    return (found.WorkerCrashedError, found.OutOfMemoryError, found.NodeDiedError, found.RayActorError)


class Tasks:
    """Hands on processors: Ray keeps its worker processes from stage to stage, and each keeps what it made."""

    starting: Mapping[Any, Any] = MappingProxyType({})

    def __init__(self, ray: Any, do: Callable[..., Any], pickled: Any, count: int) -> None:
        self._ray, self._pickled, self._free = ray, pickled, count
        self._do = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(do)

    @property
    def are_free(self) -> bool:
        """Whether one has nothing to do."""
        return self._free > 0

    def begin(self, shard: int, narrowed: bool) -> Any:
        """Have one do a shard; what its result is asked by."""
        self._free -= 1
        return self._do.remote(self._pickled, shard, narrowed)

    def end(self, ready: Any, died: bool) -> None:
        """Take back the one that is done, or one in place of it."""
        self._free += 1

    def take_in(self, ready: Any, name: str) -> None:
        """None of these is waited for."""

    def close(self, in_hand: Sequence[Any]) -> None:
        """End what they have in hand."""
        for task in in_hand:
            self._ray.cancel(task)
        if in_hand:
            self._ray.wait(list(in_hand), num_returns=len(in_hand), timeout=STOP_SECONDS)


class Actors:
    """Hands on GPUs, as many as there are shards or room for: one that dies is replaced by a fresh one."""

    def __init__(self, ray: Any, actor: type[Any], pickled: Any, share: GpuShare, shards: int) -> None:
        self._ray, self._pickled = ray, pickled
        _check_room(ray, share)
        sizes = {"num_cpus": share.cpus, "num_gpus": share.fraction}
        self._kind = ray.remote(**sizes, max_restarts=0, max_task_retries=0)(actor)
        self.starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, Any] = {}
        self._stillborn = 0
        for _ in range(min(shards, share.workers)):
            self._add()

    @property
    def are_free(self) -> bool:
        """Whether one has nothing to do."""
        return bool(self._idle)

    def begin(self, shard: int, narrowed: bool) -> Any:
        """Have one do a shard; what its result is asked by."""
        actor = self._idle.pop()
        task = actor.do.remote(shard, narrowed)
        self._busy[task] = actor
        return task

    def end(self, ready: Any, died: bool) -> None:
        """Take back the one that is done, or one in place of it."""
        actor = self._busy.pop(ready)
        if died:
            self._ray.kill(actor)  # of one that is only out of reach nothing is waited for any more
            self._add()
        else:
            self._idle.append(actor)

    def take_in(self, ready: Any, name: str) -> None:
        """Give one work that has just been started."""
        actor = self.starting.pop(ready)
        try:
            self._ray.get(ready)
        except death_errors(self._ray) as err:
            self._stillborn += 1
            if self._stillborn >= MAX_DEATHS:
                said = " ".join(str(err).split())[:300]
                raise WorkerError(f"{name}: {MAX_DEATHS} workers ended before they began: {said}") from None
            self._add()
        else:
            self._idle.append(actor)

    def close(self, in_hand: Sequence[Any]) -> None:
        """End them and what they have in hand; those that have nothing let go of their models in order."""
        closing = [actor.close.remote() for actor in self._idle]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=STOP_SECONDS)
        for actor in (*self._idle, *self._busy.values(), *self.starting.values()):
            self._ray.kill(actor)

    def _add(self) -> None:
        actor = self._kind.remote(self._pickled)
        self.starting[actor.stand.remote()] = actor


def _check_room(ray: Any, share: GpuShare) -> None:
    """Refuse a share that no machine of Ray's can give: Ray would wait for one for ever. Raises WorkerError."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(n.get("GPU", 0) >= share.fraction and n.get("CPU", 0) >= share.cpus for n in nodes):
        most = max(int(n.get("CPU", 0)) for n in nodes)
        raise WorkerError(
            f"a worker is to have {share.fraction:g} of a GPU and {share.cpus} CPUs, which no machine of Ray's has:"
            f" GPUs in all {sum(n.get('GPU', 0) for n in nodes):g}, CPUs of the largest {most}. Set `--gpus 0` to run"
            " the models on processors, or fewer `--cpus` a worker"
        )
