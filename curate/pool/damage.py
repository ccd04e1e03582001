"""Damage: what lies on disk is not what was committed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

MADE_BY_RUNS = ("pool-", "decisions", "stages", "publish-")


class DamagedError(OSError):
    """A file of a run that is not what was committed; `said` is which and how, the message also how to mend it."""

    said = ""


def damaged(path: Path, how: str) -> DamagedError:
    """Make the error of a damaged file, with the command that mends the folder of its run."""
    path = Path(os.path.normpath(path))
    out = next((p.parent for p in path.parents if p.name.startswith(MADE_BY_RUNS)), None)
    mend = (
        f"`curate verify {out} --mend` takes it out, and the next run makes it anew"
        if out is not None  # else another tool's tar, which is read where it lies
        else "put the file back as it was, or `touch` it and run again, so that it is taken in anew"
    )
    error = DamagedError(f"{path}: {how}: the disk failed, or somebody changed it; {mend}")
    error.said = f"{path}: {how}"
    return error


@contextmanager
def names_damage(path: Path) -> Iterator[None]:
    """Tell what a Parquet file makes its reader say, its checksums among it, as damage of that file.

    What the system refuses (no such file, no right to it) passes as it is.
    """
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as err:
        if isinstance(err, OSError) and err.errno is not None:
            raise
        raise damaged(path, (str(err) or "cannot be read").splitlines()[0]) from None
