"""This process among others: outputs held, signals, processes that end with it."""

from __future__ import annotations

import atexit
import fcntl
import io
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EROFS
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

PATIENCE_S = 7.0
"""What may be closed in order after a signal has this long; then the process ends all the same."""

RETRY_S = 0.05
"""A signal that waits for an import to end is sent anew this often."""

PASSING_S = 2.0
"""A process that holds an output may be about to end: one that was just killed. It is given this long."""

MARK = "CURATE_STARTED_BY"
"""A variable in the environment of processes that are to end with this one."""

OWN_MARK = secrets.token_hex(8)

STOPPED = "stopped; run the same command to go on"
"""What is said when a signal ended a command."""

DISMISSED, HUSHED = b".", b"q"
"""What the watchman is told: that all is well; that what went wrong has been said."""

ENDED = (
    "error: this command was ended from below: it was killed, or Ray, which it stood on, broke down (its raylet died);"
    " run the same command to go on"
)

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class HeldError(RuntimeError):
    """An output that another process is writing; the message says which and what to do."""


@contextmanager
def hold(out: Path, whole: bool = False) -> Iterator[None]:
    """Hold an output for this process alone, by a lock of the kernel that goes with it, however it ends.

    The lock is on `.lock` in the folder; of what appears whole (`whole`: a file, a new folder) on `.NAME.lock` beside.
    Raises HeldError while another process holds it.
    """
    path = out.with_name(f".{out.name}.lock") if whole else out / ".lock"
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = _lock(path, time.monotonic() + PASSING_S)
    except BlockingIOError:
        what = "on this output" if whole else "in this folder"
        raise HeldError(f"{out}: another run is at work {what}; wait for it, or name another `out`") from None
    except OSError as err:
        if err.errno != EROFS:
            raise
        yield  # nothing can be written here by anyone
        return
    try:
        yield
    finally:
        try:
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        if made:
            with suppress(OSError):  # something was written
                path.parent.rmdir()


def _lock(path: Path, until: float) -> int:
    """A descriptor with the lock of the file that has this name now: another may have removed what was opened."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BaseException as err:
            os.close(descriptor)
            if not isinstance(err, BlockingIOError) or time.monotonic() > until:
                raise
            time.sleep(0.02)
            continue
        os.close(descriptor)


def speak_utf8() -> None:
    """Have names of files and text in UTF-8 whatever the locale, in this process and those it starts.

    In another locale the command is begun again in Python's UTF-8 mode. What cannot be printed even so is escaped.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class StopSignal:
    """The signal that asked this process to end, if one did."""

    number: int | None = None
    told = False
    waits = False
    """Whether it came while a module was imported, and has not unwound anything yet."""
    again = False
    """Whether the signal to come is the one that waited, sent anew."""

    @property
    def status(self) -> int:
        """The exit code that shells give for it: 130 of Ctrl-C, 143 of SIGTERM."""
        return 128 + (self.number or signal.SIGINT)

    def tell(self, words: str) -> int:
        """Say on stderr, once, that a signal ended this, and how to go on; returns the exit code."""
        if not self.told:
            sys.stderr.write(f"{words}\n")
        self.told = True
        return self.status

    def handle(self, number: int, frame: Any) -> None:
        """Note the signal, and unwind; at the second one end at once.

        A module that is being imported is let finish first: what is raised in the midst of a library's start ends in
        the library's own way, an abort of the process among them.
        """
        if self.number is not None and not self.again:
            _end_now(self.status)
        self.number, self.again = number, False
        self.waits = _imports(frame)
        if not self.waits:
            raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether an import is on its way below this frame."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _end_now(status: int) -> NoReturn:
    """End this process without closing anything, and what is marked with it."""
    end_marked()
    tell_watchman(DISMISSED)
    os._exit(status)


@contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Let SIGTERM and SIGHUP unwind this process as Ctrl-C does, and end it anyhow where that takes too long.

    A signal that is ignored (under nohup, behind a shell's `&`) stays so. Within another such block, or in a thread
    that is not the main one, this does nothing but tell what came.
    """
    stop = StopSignal()
    outer = isinstance(getattr(signal.getsignal(signal.SIGTERM), "__self__", None), StopSignal)
    if outer or threading.current_thread() is not threading.main_thread():
        yield stop if not outer else signal.getsignal(signal.SIGTERM).__self__  # type: ignore[union-attr]
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in before:
        signal.signal(number, stop.handle)
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(reader, stop), name="curate-stop", daemon=True).start()
    try:
        yield stop
    finally:
        stop.waits = False
        if stop.number is None:  # else the thread waits on: whatever hangs from here on has an end
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writer)


def _end_in_time(reader: int, stop: StopSignal) -> None:
    """Wait for a signal, which the main thread may be too deep in a library to see; then end the process, in time.

    A signal that waits for an import is sent anew until it has unwound something.
    """
    while number := os.read(reader, 1):
        if number[0] in STOPS:
            until = time.monotonic() + PATIENCE_S
            while (left := until - time.monotonic()) > 0:
                time.sleep(min(left, RETRY_S))
                if stop.waits:
                    stop.waits, stop.again = False, True
                    signal.pthread_kill(threading.main_thread().ident or 0, number[0])
            with suppress(OSError):
                os.write(2, f"{STOPPED}\n".encode())
            _end_now(128 + number[0])
    os.close(reader)


@contextmanager
def starting() -> Iterator[None]:
    """Start, in this block, processes of a library: they and all that they start are to end with this one.

    They are marked for `end_marked`. Handlers of signals that the library puts in place of ours are taken back.
    """
    _post_watchman()
    before = {number: signal.getsignal(number) for number in STOPS}
    os.environ[MARK] = OWN_MARK
    try:
        yield
    except SystemExit:  # what the library's handler raised
        if callable(ours := before[signal.SIGTERM]):
            ours(signal.SIGTERM, None)
        raise KeyboardInterrupt from None
    finally:
        del os.environ[MARK]
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def end_marked(mark: str = OWN_MARK) -> None:
    """Kill what carries this process's mark, whoever its parent is by now."""
    for _ in range(100):  # some start others while they are looked for
        marked = list(_marked(f"{MARK}={mark}\0".encode()))
        for pid in marked:
            with suppress(OSError):  # it has ended
                os.kill(pid, signal.SIGKILL)
        if not marked:
            return
        time.sleep(0.02)


def _marked(said: bytes) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):  # it has ended, or is another user's
                if said in (folder / "environ").read_bytes():
                    yield int(folder.name)


@cache
def _post_watchman() -> subprocess.Popen[bytes]:
    """Start a process that is there when this one is ended from below, and can say and do nothing any more.

    It waits at the end of its stdin.
    """
    watchman = subprocess.Popen(
        [sys.executable, "-m", __name__, OWN_MARK],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    atexit.register(_dismiss, watchman)
    return watchman


def _dismiss(watchman: subprocess.Popen[bytes]) -> None:
    tell_watchman(DISMISSED)
    assert watchman.stdin is not None
    with suppress(OSError, subprocess.TimeoutExpired):
        watchman.stdin.close()
        watchman.wait(1)


def tell_watchman(words: bytes) -> None:
    """Tell the watchman, if one was posted, what it need not do."""
    if _post_watchman.cache_info().currsize:
        pipe = _post_watchman().stdin
        assert pipe is not None
        with suppress(OSError):  # it was killed
            os.write(pipe.fileno(), words)


def _watch(mark: str) -> None:
    """Wait for the end of the process whose mark this is; where it was not dismissed by then, clear up after it."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    told = sys.stdin.buffer.read()
    if DISMISSED not in told:
        end_marked(mark)
    if not told:
        with suppress(OSError):
            os.write(2, f"{ENDED}\n".encode())


if __name__ == "__main__":
    _watch(sys.argv[1])
