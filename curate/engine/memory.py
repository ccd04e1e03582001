"""Watch the memory that is left, and end a child with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from curate.lacks import MachineError

RAY_THRESHOLD = "RAY_memory_usage_threshold"
"""The variable by which Ray is told from which share of memory in use on it ends workers."""

SPARE = 0.03
"""How much earlier than Ray's own watch, as a share of all memory, a child is ended that takes it all: Ray would end
its parent."""

_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)
"""Where a container's limit and use are told: version 2 of control groups, and 1."""


class MemoryWatch:
    """Watch what a child takes of the memory of this machine, or container. Linux; elsewhere nothing is watched."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._threshold = float(os.environ.get(RAY_THRESHOLD, "0.95")) - SPARE

    def is_taken(self) -> bool:
        """Whether nearly all memory is taken, and by the child. Raises MachineError where it would be without it."""
        try:
            told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
            pages = int(Path(f"/proc/{self._pid}/statm").read_text(encoding="utf-8").split()[1])
        except (OSError, IndexError):  # another system, or a child that has just ended
            return False
        total, left = (int(told[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
        used = max((total - left, total), _used_of_group(total), key=lambda part: part[0] / part[1])
        if used[0] <= self._threshold * used[1]:
            return False
        if used[0] - pages * os.sysconf("SC_PAGE_SIZE") > self._threshold * used[1]:
            raise MachineError(
                "nearly all memory is taken, by other processes: free some, or give fewer --workers; then run again"
            )
        return True


def _used_of_group(machine: int) -> tuple[int, int]:
    """The bytes that this container uses, and its limit; nothing of the machine's where it has none."""
    for limit, used, stat, reclaimable in _GROUPS:
        try:
            most = int(Path(limit).read_text(encoding="utf-8"))
            cache = dict(line.split() for line in Path(stat).read_text(encoding="utf-8").splitlines())[reclaimable]
            if most < machine:
                return int(Path(used).read_text(encoding="utf-8")) - int(cache), most
        except (OSError, ValueError, KeyError):  # no such group, or one without a limit ("max")
            continue
    return 0, machine


def end_with_parent() -> None:
    """Have the system end this process when its parent does, whatever ends that. Linux; elsewhere pipes must do."""
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGKILL)
