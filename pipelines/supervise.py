"""Run the command in a child process, so that a crash is met: told in a sentence, and got over.

`curate run --inline` works in one process, where a sample that crashes a library would end everything. The engine knows
by what it left behind which shard it was at, and tries that one with care.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

CRASHES = frozenset({"SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGSYS", "SIGALRM"})
"""Signals that what a process does brings upon it; SIGALRM, where an op takes longer than it may."""

MAX_CRASHES = 20

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SENT_BY_KERNEL = 0x80


def supervise(work: Callable[[], int]) -> int:
    """Do `work` in a child and end as it ends; after a crash do it again. Returns in the child alone.

    Called before anything starts a thread. Signals are passed on, but for those that a terminal sends to both.
    """
    told = {signal.SIGCHLD, *_PASSED_ON}
    signal.pthread_sigmask(signal.SIG_BLOCK, told)
    for crash in range(1, MAX_CRASHES + 1):
        at_end, orderly = os.pipe()
        child = os.fork()
        if child == 0:
            return _work(work, orderly, told)
        os.close(orderly)
        status, was_told = _wait(child, told)
        how = None if was_told else _crash(status, _said_so(at_end))
        os.close(at_end)
        if how is None:
            _end_as(status)
        again = crash < MAX_CRASHES
        next_ = "going on, with the shard it was at in a process of its own" if again else "run the same command again"
        print(f"curate: the process died ({how}); {next_}", file=sys.stderr, flush=True)
    os._exit(1)


def _work(work: Callable[[], int], orderly: int, told: set[signal.Signals]) -> int:
    from curate.engine.memory import end_with_parent

    end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, told)
    try:
        return work()
    finally:
        os.write(orderly, b".")


def _wait(child: int, told: set[signal.Signals]) -> tuple[int, bool]:
    """Pass signals on until the child ends; its status, and whether it was told to stop."""
    was_told = False
    while True:
        number, from_terminal = _next_signal(told)
        if number != signal.SIGCHLD:
            was_told = True
            if not from_terminal:
                os.kill(child, number)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status, was_told


def _said_so(at_end: int) -> bool:
    """Whether the child told that it came to its end; what it had started itself may hold the pipe still."""
    os.set_blocking(at_end, False)
    try:
        return os.read(at_end, 1) != b""
    except BlockingIOError:
        return False


def _next_signal(told: set[signal.Signals]) -> tuple[int, bool]:
    """The next signal, and whether the system sent it to this process and the child alike."""
    if sys.platform == "darwin":
        return signal.sigwait(told), False
    found = signal.sigwaitinfo(told)
    return found.si_signo, found.si_code == _SENT_BY_KERNEL


def _crash(status: int, ended_itself: bool) -> str | None:
    """By what it crashed; None where it came to its end, or was told to."""
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return name if name in CRASHES else None
    return None if ended_itself else f"exit code {os.WEXITSTATUS(status)}"


def _end_as(status: int) -> None:
    """End this process as the child ended."""
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    if number == signal.SIGKILL:
        said = "the process was killed, as the system does when memory runs out; run the same command to go on"
        print(f"curate: {said}", file=sys.stderr, flush=True)
    else:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
