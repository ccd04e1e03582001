"""Call ops and decode images: in this process, or, where that killed a worker, in a child that may die of it.

In a child every death and every overrun is met by the caller, which narrows the batch until one item is left. So a
sample on which an op crashes, hangs or takes all the memory costs itself alone, and its end is told by name.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Lock
from traceback import clear_frames
from typing import Any, Protocol

from curate.engine.answers import Answer, StepError, check_answers, snake_case
from curate.engine.memory import MemoryWatch, end_with_parent
from curate.extras import MissingExtraError
from curate.image.files import Decoded, decode
from curate.lacks import MachineError, is_lack
from curate.models.devices import is_out_of_device_memory, release_memory
from curate.ops.spec import Columns, Failed
from curate.pool.damage import DamagedError
from curate.recipe.steps import Resolved

DEATHS = 2
"""Of how many processes, each a fresh one that was given it alone, an item must be the death to be failed for it."""

_NO_FAULT = "This machine lacks something: no sample was failed for it. Mend that, then run the same command to go on"

POLL_SECONDS = 0.02
"""How often the memory is looked at that a child takes."""

DECODE_SECONDS = 600.0
"""The time that decoding an image may take."""


@dataclass
class CallFailedError(Exception):
    """An op's call that failed for something in its batch. `answer`: what it means for an item that was alone in it.

    `slow`: another try of any size may take as long, so the items are better tried one by one than by halves.
    """

    answer: Failed
    slow: bool = False


class Calls(Protocol):
    """The work that an annotator has done for it: the calls of ops, and the decoding of images."""

    def call(self, step: Resolved, arguments: Sequence[Sequence[Any]], size: int) -> list[Answer]:
        """The op's answers for a batch of `size` items. Raises CallFailedError; MachineError, which is no item's."""

    def decode(self, data: bytes) -> Decoded:
        """The image in these bytes, or its error."""

    def close(self) -> None:
        """Let go of what is held."""


class DirectCalls:
    """Calls in this process; a call that takes longer than its limit ends the process, by SIGALRM."""

    def __init__(self, timeout_s: float | None = None) -> None:
        self.timeout_s = timeout_s
        self._ready: dict[str, Any] = {}
        self._rows: dict[str, int] = {}
        self._at_device = Lock()

    def call(self, step: Resolved, arguments: Sequence[Sequence[Any]], size: int) -> list[Answer]:
        """See `Calls`."""
        function = self.op(step)
        with alarm(self.limit(step)), _named_errors(step):
            return self._in_pieces(step, function, arguments, size)

    def compute(self, step: Resolved, prepared: Sequence[Any]) -> list[Answer]:
        """The op's answers to what its `prepare` made. No alarm is set: whoever waits for them sets one."""
        function = self.op(step).compute
        with _named_errors(step):
            return self._in_pieces(step, function, [prepared], len(prepared))

    def decode(self, data: bytes) -> Decoded:
        """See `Calls`."""
        with alarm(DECODE_SECONDS):
            return decode(data)

    def set_up(self, step: Resolved) -> None:
        """Load what the step's op holds. Raises MachineError where it cannot be loaded, whatever the error."""
        self.op(step)

    def limit(self, step: Resolved) -> float:
        """The seconds that a call of the step's op may take; 0 for no limit."""
        return step.spec.timeout_s if self.timeout_s is None else self.timeout_s

    def close(self) -> None:
        """Close the ops that hold something open, and let go of all."""
        while self._ready:
            _, function = self._ready.popitem()
            if close := getattr(function, "close", None):
                close()

    def op(self, step: Resolved) -> Any:
        """The step's op, loaded at the first call, as a function of its arguments. Raises MachineError as `set_up`."""
        key = step.key
        if key not in self._ready:
            if isinstance(step.function, type):
                self._ready[key] = _set_up(step)
            else:
                self._ready[key] = lambda *batch: step.function(*batch, **step.knobs)
        return self._ready[key]

    def _in_pieces(
        self, step: Resolved, function: Callable[..., Columns], arguments: Sequence[Sequence[Any]], size: int
    ) -> list[Answer]:
        """The answers, checked. On an accelerator the rows of a call are halved when its memory runs out, from then on.

        Of an op with a `batch` every call is of that many rows, the last one's copies filling up a short one: a row's
        values then do not hang on how many share its call.
        """
        if step.placement.on_cpu:
            return check_answers(step.spec, size, function(*arguments))
        answers: list[Answer] = []
        with self._at_device:
            while len(answers) < size:
                rows = self._rows.get(step.key, step.placement.batch or size)
                pieces = [list(values[len(answers) : len(answers) + rows]) for values in arguments]
                count = min(rows, size - len(answers))
                filled = rows if step.placement.batch else count
                given = [piece + piece[-1:] * (filled - count) for piece in pieces]
                try:
                    answers += check_answers(step.spec, filled, function(*given))[:count]
                    continue
                except Exception as err:
                    if filled == 1 or not is_out_of_device_memory(err):
                        raise
                    clear_frames(err.__traceback__)  # they hold what the device is to be rid of
                self._rows[step.key] = filled // 2
                release_memory()
        return answers


@contextmanager
def _named_errors(step: Resolved) -> Iterator[None]:
    """Tell what an op raises: CallFailedError for what its batch may be to blame for, else what stops the run."""
    try:
        yield
    except (StepError, MissingExtraError, MachineError, DamagedError):
        raise
    except SystemExit as err:
        raise CallFailedError(_died(step.label, f"it called for an exit: {err!r}")) from None
    except Exception as err:
        if is_lack(err):
            raise MachineError(f"step {step.label!r}: {type(err).__name__}: {err}. {_NO_FAULT}") from err
        error = snake_case(type(err).__name__)
        raise CallFailedError(Failed(error, f"{step.spec.name}: {err}")) from None


def _set_up(step: Resolved) -> Any:
    """The op with what it holds. What it cannot load is the machine's lack, whatever the error."""
    try:
        return step.function(**step.knobs)
    except (ValueError, StepError, MissingExtraError, MachineError):
        raise  # its own sentence: what is wrong with a knob or a file, and what to do
    except Exception as err:
        raise _not_loaded(step, f"{type(err).__name__}: {err}") from err


def _not_loaded(step: Resolved, why: str) -> MachineError:
    return MachineError(f"step {step.label!r}: what it needs cannot be loaded: {why}. {_NO_FAULT}")


class SandboxedCalls:
    """Calls in a child process, a fresh one after each death. Ops that ask servers are called here, as ever."""

    def __init__(self, direct: DirectCalls) -> None:
        self._direct = direct
        self._child: _Child | None = None

    def call(self, step: Resolved, arguments: Sequence[Sequence[Any]], size: int) -> list[Answer]:
        """See `Calls`."""
        if step.asks:
            return self._direct.call(step, arguments, size)
        found = self._ask(lambda c: c.call(step, arguments, size), step.label, self._direct.limit(step), size == 1)
        return list(found)

    def decode(self, data: bytes) -> Decoded:
        """See `Calls`."""
        try:
            found = self._ask(lambda child: child.ask("decode", data), "decoding", DECODE_SECONDS, True)
        except CallFailedError as failure:
            return Decoded(error=failure.answer.error, detail=failure.answer.detail)
        assert isinstance(found, Decoded)
        return found

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _ask(self, do: Callable[[_Child], Any], what: str, limit: float, alone: bool) -> Any:
        """What the child answers. Raises CallFailedError where it died, or, of one item, where `DEATHS` fresh ones did.

        What came before an item has no part in the death of a fresh child.
        """
        deaths = 0
        while True:
            fresh = self._child is None
            child = self._child = self._child or _Child(self._direct.timeout_s)
            try:
                return do(child)
            except EOFError:
                ended = child.why_it_died()
                self._child = None
            if ended == signal.SIGALRM.name:
                raise CallFailedError(Failed("op_timeout", f"{what}: more than {limit:g} s for one call"), True)
            deaths += fresh
            if not alone or deaths == DEATHS:
                raise CallFailedError(_died(what, f"{ended}, in {DEATHS} processes of {DEATHS}"))


class _Child:
    """The other side of `_serve`."""

    def __init__(self, timeout_s: float | None) -> None:
        # Forked from a small server that has imported this module and started no thread: each is fresh, and soon there.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, timeout_s))
        self._process.start()
        theirs.close()
        self._watch = MemoryWatch(self._process.pid or 0)
        self._took_memory = False
        self._set_up: set[str] = set()

    def call(self, step: Resolved, arguments: Sequence[Sequence[Any]], size: int) -> Any:
        """The op's answers. Raises EOFError where it died of them; MachineError where it died before it had loaded."""
        if step.key not in self._set_up:
            try:
                self.ask("set_up", step)
            except EOFError:
                raise _not_loaded(step, f"the process died: {self.why_it_died()}") from None
            self._set_up.add(step.key)
        return self.ask("call", step, arguments, size)

    def ask(self, *wanted: Any) -> Any:
        """Its answer. Raises EOFError where it died, else what was raised there."""
        try:
            self._line.send(wanted)
            while not self._took_memory and not self._line.poll(POLL_SECONDS):
                self._took_memory = self._watch.is_taken()
            if self._took_memory:  # and looked at no more: what it held is free only by and by
                self._process.kill()
            answer = self._line.recv()
        except (BrokenPipeError, ConnectionResetError):
            raise EOFError from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def why_it_died(self) -> str:
        """The signal by name, or the exit code; with a word where it took the memory."""
        self._process.join()
        code = self._process.exitcode or 0
        self._line.close()
        said = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"{said}, having taken nearly all memory" if self._took_memory else said

    def end(self) -> None:
        """End it."""
        self._line.close()
        self._process.kill()
        self._process.join()


def _serve(line: Connection, timeout_s: float | None) -> None:
    """In the child: answer until nobody asks any more."""
    end_with_parent()
    direct = DirectCalls(timeout_s)
    answers: dict[str, Callable[..., Any]] = {"set_up": direct.set_up, "call": direct.call, "decode": direct.decode}
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            wanted, *said = line.recv()
            try:
                found = answers[wanted](*said)
            except Exception as err:  # noqa: BLE001 - raised again by the one that asked
                found = _portable(err)
            line.send(found)


def _portable(err: Exception) -> Exception:
    """An error that says the same and is sure to reach another process: one of our own, of its words alone."""
    if isinstance(err, CallFailedError):
        return err
    kinds = (StepError, MissingExtraError, MachineError, DamagedError, ValueError)
    kind = next((kind for kind in kinds if isinstance(err, kind)), None)
    return kind(str(err)) if kind else StepError(f"{type(err).__name__}: {err}")


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """End this process by SIGALRM unless the block ends in time; 0 for no limit.

    The operating system's own timer: it needs no thread, and ends what holds the interpreter's lock, too.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _died(what: str, how: str) -> Failed:
    return Failed("worker_died", f"{what}: the process died: {how}")
