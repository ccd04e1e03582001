"""Measure what prefetching shards is worth, on a web server of this machine with slow answers.

    python bench/prefetch.py --work DIR [--seconds 0.3] [--pace 0] [--runs 5]

9,600 samples of 10 kB in 24 tars, four of them read at a time, through a proxy that holds each answer back. Three ways:
in ranges; through the host's cache, each tar fetched when it is needed; and the same with those that come next fetched
before. `--pace`: samples a second that a trainer would take, 0 for as many as come. One JSON line a way: medians of
samples a second, seconds to the first batch, and seconds that the reader waited in all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
WAYS = ("ranges", "when needed", "ahead")
BATCH, SAMPLES, TARS = 64, 9600, 24


def published(folder: Path) -> None:
    from curate.sample import uid_of
    from curate.shards import DatasetInfo, ShardWriter, save_dataset

    rng, infos = np.random.default_rng(0), []
    for tar in range(TARS):
        with ShardWriter(folder / f"{tar:05d}.tar") as writer:
            for row in range(SAMPLES // TARS):
                writer.add(uid_of("caption", str(tar), str(row)), {"jpg": rng.bytes(10_000), "txt": b"x"})
        infos.append(writer.info)
    size = sum(info.bytes for info in infos)
    save_dataset(
        DatasetInfo(name="far", kind="caption", samples=SAMPLES, bytes=size, recipe="0" * 16, shards=tuple(infos)),
        folder,
    )


def read(manifest: Path, way: str, cache: Path, pace: float) -> dict[str, float]:
    from curate.stream import stream as data
    from curate.stream.prefetch import Prefetcher

    class Never(Prefetcher):
        """Looks ahead nowhere."""

        def stands(self, position: int) -> None: ...

    data.Prefetcher = Prefetcher if way == "ahead" else Never  # type: ignore[attr-defined, misc]
    stream = data.Stream(manifest, BATCH, reading=data.ReadOptions(threads=4, cache=None if way == "ranges" else cache))
    waited: list[float] = []
    begun = time.perf_counter()
    for _ in range(SAMPLES // BATCH):
        since = time.perf_counter()
        next(stream)
        waited.append(time.perf_counter() - since)
        time.sleep(BATCH / pace if pace else 0)
    seconds = time.perf_counter() - begun
    stream.close()
    return {"samples_per_s": SAMPLES / seconds, "first_batch_s": waited[0], "waited_s": sum(waited)}


def measured(work: Path, seconds: float, pace: float, runs: int) -> None:
    import storage

    from curate import mix

    os.environ["XDG_CACHE_HOME"] = str(work / "home")
    if not (work / "web" / "far" / "dataset.json").exists():
        (work / "web" / "far").mkdir(parents=True)
        published(work / "web" / "far")
    with storage.http_server(work / "web") as port, storage.proxy(port) as before:
        before.slow_s = seconds
        spec = mix.MixtureSpec.model_validate({"open_shards": 4, "sources": [{"path": f"{before.url}/far"}]})
        mix.compose(spec, work, work / "mixture.json")
        before.fault = lambda number, path: "slow"
        for way in WAYS:
            found: list[dict[str, Any]] = []
            for run in range(runs):
                found.append(read(work / "mixture.json", way, work / f"cache-{way}-{run}-{time.time_ns()}", pace))
            medians = {name: round(statistics.median(one[name] for one in found), 2) for name in found[0]}
            print(json.dumps({"way": way, "answer_s": seconds, "pace": pace, **medians}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    measured(given.work, given.seconds, given.pace, given.runs)
