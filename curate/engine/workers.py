"""Run a task a shard, in this process or on Ray Data; the only file that imports ray.

Ray moves shard numbers and small counts, never samples: payloads go through storage. A worker that dies is
started again by Ray and its shard done again, which is safe since output is committed whole or not at all.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from curate.extras import require
from curate.process import HUSHED, end_marked, starting, tell_watchman

Task = Callable[[int], Any]
"""What a worker does with a shard's number; returns plain data."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerError(RuntimeError):
    """A worker stopped with an error that is not about one sample."""


def run_tasks(make_task: Callable[[], Task], shards: Sequence[int], workers: int) -> Iterator[Any]:
    """Do every shard and yield each result as it comes, in no particular order.

    `make_task` is called once a worker, where it may load models or open connections; it must pickle. A task
    that has a `close` is closed when nothing is left for it here; a Ray worker ends with its process.
    `workers` = 0 runs everything here, for a debugger. Every worker has one thread, so that floats do not depend
    on how many workers there are.
    """
    if not shards:
        return
    if workers == 0:
        pin_threads()
        task = make_task()
        try:
            yield from (task(shard) for shard in shards)
        finally:
            if close := getattr(task, "close", None):
                close()
        return
    yield from _on_ray(make_task, shards, workers)


def pin_threads() -> None:
    """One thread for numeric libraries in this process."""
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def _on_ray(make_task: Callable[[], Task], shards: Sequence[int], workers: int) -> Iterator[Any]:
    ray = _start(workers)
    cloudpickle = ray.cloudpickle
    # Tasks, not actors: Ray keeps its worker processes from stage to stage, and each keeps what it made.
    tasks = ray.data.TaskPoolStrategy(size=min(workers, len(shards)))
    items = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
    how = {"compute": tasks, "fn_kwargs": {"pickled": cloudpickle.dumps(make_task)}}
    results = items.map_batches(_do, batch_size=1, num_cpus=1, **how)
    try:
        for row in results.iter_rows():
            if row["error"]:
                err, trace = cloudpickle.loads(row["error"])
                raise err from WorkerError(trace)
            yield json.loads(row["result"])
    except ray.exceptions.RayError as err:
        reason = " ".join(str(err).split())[:500].rstrip(".")
        raise WorkerError(f"Ray could not go on: {reason}. Run the same command to go on") from err


_made: dict[bytes, Task] = {}


def _do(batch: dict[str, Any], pickled: bytes) -> dict[str, Any]:
    """In a worker process: do a shard, with the task of this stage made at the first. An error is told as data."""
    (shard,) = batch["shard"]
    try:
        return {"result": [json.dumps(_task_of(pickled)(int(shard)))], "error": [b""]}
    except Exception as err:  # noqa: BLE001 - raised again by the driver
        return {"result": [""], "error": [_pack_error(err)]}


def _task_of(pickled: bytes) -> Task:
    if pickled not in _made:
        import ray.cloudpickle

        pin_threads()
        while _made:
            _close(_made.popitem()[1])
        # Our own driver pickled this a moment ago: nothing from outside is ever unpickled.
        _made[pickled] = ray.cloudpickle.loads(pickled)()
    return _made[pickled]


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


def _start(workers: int) -> Any:
    """Ray, started here with so many processors, or joined where RAY_ADDRESS says."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    require("a run on several workers (without --inline)", "ray")
    import ray
    import ray.data

    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS")
    here: dict[str, Any] = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
    threads = {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
    if address:
        _check_reachable(address)
    try:
        with starting():
            ray.init(**here, log_to_driver=False, logging_level=logging.CRITICAL, runtime_env=threads)
    except Exception as err:  # noqa: BLE001 - Ray says it in errors of many kinds, plain ones too
        stop()
        raise WorkerError(_why_not_started(err, address)) from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # an error is raised; there its trace would stand twice
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
