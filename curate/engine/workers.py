"""Run a task a shard, in this process or on Ray; the only file that imports ray.

Ray moves shard numbers and small counts, never samples: payloads go through storage. What runs on the processor alone
runs in Ray's tasks; what holds a model on an accelerator in actors, each with its share of one GPU, for a stage long.
A shard whose worker died is done again, which is safe since output is committed whole or not at all; with care for
what it was that the worker died of (`Task.narrow`). A shard that met what this machine lacks is tried again, too, and
then ends the run: no sample is failed for it.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import socket
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from curate.commit import held_folders, join
from curate.download import DownloadSettings, HostServer, share_hosts
from curate.engine.hands import MAX_DEATHS, Actors, GpuShare, Tasks, WorkerError, death_errors
from curate.extras import require
from curate.lacks import is_lack, is_missing_module
from curate.llm.model import ChatModel, Gateways, share_chats
from curate.models.devices import Machine, release_memory, this_machine
from curate.process import HUSHED, end_marked, starting, tell_watchman

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

PAUSES_S = (1.0, 3.0)
"""Pauses before a shard that met a lack of the machine is tried again."""


class Task(Protocol):
    """The work of a worker on a shard, by its number; returns plain data.

    It may have a `narrow`, which is called in its place for a shard of which a worker died, and a `close`.
    """

    def __call__(self, shard: int, /) -> Any:
        """Do a shard."""


@dataclass(frozen=True)
class Servers:
    """The servers that tasks ask: hosts, by the recipe's `downloads`, and chat models; all workers take turns there."""

    downloads: DownloadSettings | None = None
    chats: tuple[ChatModel, ...] = ()


NO_SERVERS = Servers()


@dataclass
class Workers:
    """Workers of a run: `count` on Ray, or with 0 this process, for a debugger. Leaving it ends what they have in hand.

    `at_work`: a file that says which shard this process is at, so that one that ended it is known when the command is
    given again. `gateways`: to the run's chat models. `gpus`: how many a Ray started here may use; None for all.
    """

    count: int
    at_work: Path
    gateways: Gateways
    gpus: int | None = None
    _in_hand: dict[Any, int] = field(default_factory=dict)
    _hands: Tasks | Actors | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: Any) -> None:
        self._let_go()

    def _let_go(self) -> None:
        if self._hands is not None:
            self._hands.close(list(self._in_hand))
            self._hands = None
            self._in_hand.clear()

    def run(
        self,
        name: str,
        make_task: Callable[[], Task],
        shards: Sequence[int],
        servers: Servers = NO_SERVERS,
        share: GpuShare | None = None,
    ) -> Iterator[Any]:
        """Do every shard and yield each result as it comes, in no particular order.

        `name` is that of this part of the run. `make_task` is called once a worker, where it may load models or open
        connections; it must pickle. A task that has a `close` is closed when nothing is left for it here; a Ray worker
        ends with its process. Every worker has one thread, so that floats do not depend on how many workers there are.
        Tasks that ask servers name these: then all workers together treat each as one would. Those that hold models on
        GPUs name each worker's `share`.
        """
        if not shards:
            return
        if self.count:
            ray = _start(self.count, self.gpus)
            with _shared_hosts(servers.downloads, ray) as address:
                shared = address, self.gateways.addresses(servers.chats, _ip_of_this(ray), ray)
                make = functools.partial(_join_and_make, shared, held_folders(), make_task)
                pickled = ray.put(ray.cloudpickle.dumps(make))
                if share is None:
                    self._hands = Tasks(ray, _do, pickled, self.count)
                else:
                    self._hands = Actors(ray, _Actor, pickled, share, len(shards))
                yield from self._on_ray(ray, self._hands, name, shards)
                self._let_go()
            return
        pin_threads()
        share_chats(self.gateways.addresses(servers.chats))
        task = make_task()
        deaths = _read_deaths(self.at_work, name)
        try:
            for shard in shards:
                _check_deaths(name, shard, deaths[shard])
                left = {"name": name, "shard": shard, "deaths": deaths[shard] + 1}
                self.at_work.write_text(json.dumps(left), encoding="utf-8")
                yield _do_patiently(task, shard, deaths[shard] > 0)
        finally:
            _close(task)
            share_chats({})
            self.at_work.unlink(missing_ok=True)

    def _on_ray(self, ray: Any, hands: Tasks | Actors, name: str, shards: Sequence[int]) -> Iterator[Any]:
        """Each worker does a shard at a time: what is in hand when it dies is known."""
        left, deaths = deque(shards), Counter[int]()
        try:
            while left or self._in_hand:
                while left and hands.are_free:
                    shard = left.popleft()
                    self._in_hand[hands.begin(shard, deaths[shard] > 0)] = shard
                (ready,), _ = ray.wait([*self._in_hand, *hands.starting], num_returns=1)
                if ready in hands.starting:
                    hands.take_in(ready, name)
                    continue
                shard = self._in_hand.pop(ready)
                try:
                    result, error = ray.get(ready)
                except death_errors(ray):
                    hands.end(ready, died=True)
                    deaths[shard] += 1
                    _check_deaths(name, shard, deaths[shard])
                    left.append(shard)  # last, so that what is well is done first
                    continue
                hands.end(ready, died=False)
                if error is not None:
                    err, trace = ray.cloudpickle.loads(error)
                    raise err from WorkerError(trace)
                yield json.loads(result)
        except ray.exceptions.RayError as err:
            reason = " ".join(str(err).split())[:500].rstrip(".")
            raise WorkerError(f"Ray could not go on: {reason}. Run the same command to go on") from err


def find_machine(workers: int, gpus: int | None) -> Machine:
    """The machine that a run's models will see: this one, or one with GPUs of the Ray that is joined.

    Raises WorkerError. Of a Ray that is joined, `gpus` and `cpus` are those of all its machines.
    """
    here = this_machine()
    if not workers or not os.environ.get("RAY_ADDRESS"):
        return replace(here, cpus=workers or here.cpus)
    ray = _start(workers, gpus)
    there = ray.cluster_resources()
    count, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 1))
    if not count:
        return Machine(cpus=cpus)
    look = ray.remote(num_cpus=0, num_gpus=0.01, max_retries=0)(this_machine)
    found: Machine = ray.get(look.remote(), timeout=120)
    return replace(found, gpus=count, cpus=cpus, unseen=0)


class _Actor:
    """A worker with a share of a GPU: Ray lets it see that one alone (CUDA_VISIBLE_DEVICES)."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled  # nothing is loaded yet: what goes wrong then is told as a shard's result is

    def stand(self) -> None:
        """Answer once there is room for it."""

    def do(self, shard: int, narrowed: bool) -> tuple[str, bytes | None]:
        """Do a shard."""
        return _do(self._pickled, shard, narrowed)

    def close(self) -> None:
        """Let go of the model, so that the next stage finds the memory."""
        _forget_made()
        release_memory()


def _read_deaths(at_work: Path, name: str) -> Counter[int]:
    """How many processes that were at work here each shard was the end of."""
    try:
        left = json.loads(at_work.read_text(encoding="utf-8"))
        return Counter({int(left["shard"]): int(left["deaths"])} if left["name"] == name else {})
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that a death cut short
        return Counter()


def _check_deaths(name: str, shard: int, deaths: int) -> None:
    if deaths >= MAX_DEATHS:
        raise WorkerError(
            f"{name}: {deaths} processes died of shard {shard}, and not of one of its samples. If the system's log "
            "tells of memory, give the run fewer workers or smaller shards (`shard_samples`); then run again"
        )


def _do_patiently(task: Task, shard: int, narrowed: bool) -> Any:
    """Do a shard; where the machine lacks something, again after a pause, since disks are cleared and devices freed."""
    do: Callable[[int], Any] = getattr(task, "narrow", task) if narrowed else task
    for pause in (*PAUSES_S, None):
        try:
            return do(shard)
        except Exception as err:
            if pause is None or not is_lack(err) or is_missing_module(err):
                raise
            time.sleep(pause)
    raise AssertionError("unreachable")


@contextmanager
def _shared_hosts(downloads: DownloadSettings | None, ray: Any) -> Iterator[str | None]:
    """The address at which workers take turns at hosts, if they are to fetch; on other machines they reach this one."""
    if downloads is None:
        yield None
        return
    with HostServer(downloads.per_host, downloads.host_failures, _ip_of_this(ray)) as address:
        yield address


def _ip_of_this(ray: Any) -> str:
    """The address of this machine as workers see it."""
    return str(ray.util.get_node_ip_address()) if os.environ.get("RAY_ADDRESS") else "127.0.0.1"


def _join_and_make(
    shared: tuple[str | None, Mapping[str, str]], held: Mapping[Path, Path], make_task: Callable[[], Task]
) -> Task:
    """Make a worker's task there: it takes turns at hosts and chat models with the others, and commits for this run
    alone."""
    hosts, chats = shared
    share_hosts(hosts)
    share_chats(chats)
    join(held)
    return make_task()


def pin_threads() -> None:
    """One thread for numeric libraries in this process."""
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


_made: dict[bytes, Task] = {}


def _do(pickled: bytes, shard: int, narrowed: bool) -> tuple[str, bytes | None]:
    """In a worker process: do a shard, with the task of this stage made at the first. An error is told as data."""
    try:
        return json.dumps(_do_patiently(_task_of(pickled), shard, narrowed)), None
    except Exception as err:  # noqa: BLE001 - raised again by the driver
        return "", _pack_error(err)


def _task_of(pickled: bytes) -> Task:
    if pickled not in _made:
        import ray.cloudpickle

        pin_threads()
        _forget_made()
        # Our own driver pickled this a moment ago: nothing from outside is ever unpickled.
        _made[pickled] = ray.cloudpickle.loads(pickled)()
    return _made[pickled]


def _forget_made() -> None:
    while _made:
        _close(_made.popitem()[1])


def _pack_error(err: Exception) -> bytes:
    """The error and where it was raised, for our own driver."""
    import ray.cloudpickle

    trace = "in a worker:\n" + "".join(traceback.format_exception(err))
    try:
        packed = bytes(ray.cloudpickle.dumps((err, trace)))
        ray.cloudpickle.loads(packed)
    except Exception:  # noqa: BLE001 - an exception whose parts cannot travel
        packed = bytes(ray.cloudpickle.dumps((WorkerError(f"{type(err).__name__}: {err}"), trace)))
    return packed


def _close(task: Task) -> None:
    """Let go of what a task holds, if it holds something (connections, say)."""
    close = getattr(task, "close", None)
    if close is not None:
        close()


def _start(workers: int, gpus: int | None) -> Any:
    """Ray, started here with so many processors and GPUs, or joined where RAY_ADDRESS says."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    require("a run on several workers (without --inline)", "ray")
    import ray

    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS")
    own = {"num_cpus": workers, "num_gpus": gpus, "include_dashboard": False}
    here: dict[str, Any] = {"address": address} if address else own
    threads = {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
    if address:
        _check_reachable(address)
    try:
        with starting():
            ray.init(**here, log_to_driver=False, logging_level=logging.CRITICAL, runtime_env=threads)
    except Exception as err:  # noqa: BLE001 - Ray says it in errors of many kinds, plain ones too
        stop()
        raise WorkerError(_why_not_started(err, address)) from None
    # Ray's news of dead workers would stand on stdout among our results, and no option turns them off.
    ray._private.worker.print_to_stdstream = lambda *news, **how: None
    return ray


def _check_reachable(address: str) -> None:
    """Refuse an address at which nothing listens: Ray itself would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "://" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as err:
        raise WorkerError(
            f"RAY_ADDRESS={address}: no Ray can be reached there ({err}); start one (ray start --head), or unset"
            " RAY_ADDRESS to have one started here"
        ) from None


def _why_not_started(err: Exception, address: str | None) -> str:
    reason = " ".join(str(err).split())[:500].rstrip(".")
    of_token = isinstance(err, OSError) and ".ray" in str(err.filename or "")
    if of_token or re.search("[Tt]oken|uthenticat", reason):
        return (
            f"Ray could not authenticate: {reason}. Ray turns this on by itself, with a token in ~/.ray/auth_token:"
            " make HOME a folder that can be written; set RAY_AUTH_MODE=token for a Ray at RAY_ADDRESS that asks for"
            " one; or set RAY_AUTH_MODE=disabled"
        )
    what = f"Ray at RAY_ADDRESS={address} could not be joined" if address else "Ray could not be started"
    return f"{what}: {reason}. Run again, with fewer --workers if the machine is short of memory, or with --inline"


def stop() -> None:
    """Stop the Ray that this process started, if it did, and whatever of it is left."""
    if "ray" in sys.modules:
        import ray

        tell_watchman(HUSHED)  # a Ray that broke down may take this process along
        ray.shutdown()
        end_marked()
