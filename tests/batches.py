"""Batches of a stream as lists of uids, for the tests."""

from __future__ import annotations

import itertools
from pathlib import Path

from curate.shards import remote
from curate.stream.resize import Fit
from curate.stream.stream import ReadOptions, Stream

QUICK = remote.Patience(attempts=7, first_s=0.02)


def batches(manifest: Path, reading: ReadOptions | None = None, count: int = 4) -> list[tuple[str, ...]]:
    stream = Stream(manifest, 16, Fit(16), reading=reading)
    try:
        return [batch.uids for batch in itertools.islice(stream, count)]
    finally:
        stream.close()
