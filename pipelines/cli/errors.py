"""Turn errors that a user can mend into a sentence and an exit code; bugs keep their traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from errno import EDQUOT, EEXIST, ENOSPC, ENOTDIR
from typing import Any

import typer

from curate.process import STOPPED, stop_on_signals

INTERRUPTED = 130
"""What typer makes of Ctrl-C."""
# Typer carries its own click, so the class is taken from where typer shows it.
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def run_guarded(call: Callable[[], Any]) -> int:
    """Run a call, and turn errors that a user can mend into a sentence and an exit code. Bugs keep their traceback."""
    with stop_on_signals() as stop:
        try:
            code = _run(call)
        except Exception:
            if stop.number is None:
                raise
            code = INTERRUPTED  # whatever a library made of the unwinding
        if stop.number is not None or code == INTERRUPTED:
            code = stop.tell(STOPPED)
        if code and "curate.engine.workers" in sys.modules:  # what Ray left half done ends here, not in its own time
            sys.modules["curate.engine.workers"].stop()
        return code


def _run(call: Callable[[], Any]) -> int:
    from curate.settings import SettingsError

    try:
        found = call()
        return found if isinstance(found, int) else 0
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except USAGE_ERROR as err:
        err.show()
        return 2
    except typer.Exit as done:
        return int(done.exit_code)
    except SettingsError as err:
        return _say(err, 2)
    except BrokenPipeError:
        # The reader has gone; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as err:
        if isinstance(err, _mendable()):
            return _say(err, 1)
        raise


def _say(err: Exception, code: int) -> int:
    typer.echo(f"error: {_plainly(err) if isinstance(err, OSError) else err}", err=True)
    return code


def _plainly(err: OSError) -> str:
    """What the system said, without its number, and where."""
    if err.errno is None:
        return str(err)
    where = "" if err.filename is None else f"{err.filename}: "
    if err.errno in (EEXIST, ENOTDIR):
        return f"{where}a file lies where a folder should be; name another, or move the file"
    full = "; make room and run again: what was committed is kept" if err.errno in (ENOSPC, EDQUOT) else ""
    return f"{where}{err.strerror or err}{full}"


def _mendable() -> tuple[type[Exception], ...]:
    from curate.engine.answers import StepError
    from curate.engine.hands import WorkerError
    from curate.engine.runner import RunError
    from curate.extras import MissingExtraError
    from curate.lacks import MachineError
    from curate.process import HeldError

    return (ValueError, OSError, MissingExtraError, MachineError, HeldError, RunError, WorkerError, StepError)
