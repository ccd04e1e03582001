"""Damage: what lies on disk is not what was committed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

MADE_BY_RUNS = ("pool-", "decisions", "stages", "publish-")


class DamagedError(OSError):
    """A file of a run that is not what was committed: the disk failed, or somebody changed it. Says how to mend it."""


def damaged(path: Path, said: str) -> DamagedError:
    """The error of a file that is damaged, with the command that mends the run's folder."""
    out = next((p.parent for p in path.parents if p.name.startswith(MADE_BY_RUNS)), None)
    if out is None:  # another tool's tar, which is read where it lies
        return DamagedError(
            f"{path}: {said}: it was changed after it was taken in, or the disk failed; put it back as it was, or"
            " `touch` it and run again, so that it is taken in anew"
        )
    mend = f"`curate verify {out} --mend` takes it out, and the next run makes it anew"
    return DamagedError(f"{path}: {said}: the disk failed, or it was changed; {mend}")


@contextmanager
def names_damage(path: Path) -> Iterator[None]:
    """Tell what a damaged Parquet file makes its reader say as damage of that file; Parquet's checksums find the rest.

    What the system refuses (no such file, no right to it) passes as it is.
    """
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as err:
        if isinstance(err, OSError) and err.errno is not None:
            raise
        raise damaged(path, str(err).splitlines()[0] if str(err) else "cannot be read") from None
