"""Measure how far mixtures stray from their weights, and a seek's cost, beside other mixers.

    python bench/mixing.py --work DIR [--draws 1000000] [--runs 5] [--only webdataset,streaming,energon]

Error: the largest |draws of a source - position * its wanted share| of any source at any prefix, in samples, for four
shapes of weights. Peers, each in an environment of its own that this script makes below --work: webdataset's
`RandomMix`, mosaicml-streaming's `proportion` (one epoch of --draws samples, shuffled, as it would serve them),
megatron-energon's blend (`WorkerRng.choice_idx`, which its BlendDataset calls for every sample). Seek: position 1e9
of 100 sources in a fresh process, from the manifest read to (source, epoch, row), and again in the same process;
with it the state in bytes and the growth of the process over 1,000 seeks. Tokens: the same for shares of text tokens,
the error in lengths of the longest sample, beside the same draws in an order that ignores lengths; and a seek among 100
sources weighed in tokens. One JSON line a figure.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import SHAPES, environment, worst_error

MIXING = ("webdataset", "streaming", "energon")
ROOT = Path(__file__).resolve().parent.parent
FAR = 10**9


# Each gives the source of every draw.
def curate_mixer(weights: list[float], draws: int, work: Path) -> np.ndarray[Any, Any]:
    from curate.mix import shares
    from curate.mix.schedule import schedule

    return schedule(shares(weights), np.arange(draws))[0]


def webdataset_mixer(weights: list[float], draws: int, work: Path) -> np.ndarray[Any, Any]:
    from webdataset.mix import RandomMix

    mixed = RandomMix([itertools.repeat(index) for index in range(len(weights))], weights)
    return np.fromiter(itertools.islice(iter(mixed), draws), np.int32, draws)


def streaming_mixer(weights: list[float], draws: int, work: Path) -> np.ndarray[Any, Any]:
    from streaming import MDSWriter, Stream, StreamingDataset
    from streaming.base.batching import generate_work
    from streaming.base.util import clean_stale_shared_memory
    from streaming.base.world import World

    clean_stale_shared_memory()
    folders = [work / "mds" / str(index) for index in range(len(weights))]
    for index, folder in enumerate(folders):
        if not (folder / "index.json").exists():
            with MDSWriter(out=str(folder), columns={"source": "int"}) as out:
                for _ in range(64):
                    out.write({"source": index})
    streams = [Stream(local=str(f), proportion=w / sum(weights)) for f, w in zip(folders, weights, strict=True)]
    # The block is what its documentation gives as the default for one node.
    knobs: dict[str, Any] = {"batch_size": 64, "num_canonical_nodes": 1, "shuffle_block_size": 4_000_000}
    dataset = StreamingDataset(streams=streams, epoch_size=draws, shuffle=True, **knobs)
    ids = generate_work(dataset.batching_method, dataset, World.detect(), 0, 0).reshape(-1)[:draws]
    ends = np.cumsum([64] * len(weights))
    return np.searchsorted(ends, ids, side="right")


def energon_mixer(weights: list[float], draws: int, work: Path) -> np.ndarray[Any, Any]:
    import torch
    from megatron.energon import WorkerConfig
    from megatron.energon.rng import WorkerRng

    rng = WorkerRng(WorkerConfig(rank=0, world_size=1, num_workers=0))
    probs = torch.tensor(weights, dtype=torch.float32)
    rng.worker_config.worker_activate(0)
    return np.array([rng.choice_idx(probs=probs) for _ in range(draws)])


MIXERS: dict[str, Callable[[list[float], int, Path], Any]] = {
    "curate": curate_mixer,
    "webdataset": webdataset_mixer,
    "streaming": streaming_mixer,
    "energon": energon_mixer,
}


def error_of(name: str, shape: str, draws: int, work: Path) -> dict[str, float]:
    begun = time.perf_counter()
    source = MIXERS[name](SHAPES[shape], draws, work / hashlib.sha256(shape.encode()).hexdigest()[:8])
    seconds = time.perf_counter() - begun
    return {"worst_error_samples": round(worst_error(SHAPES[shape], source), 2), "us_a_draw": seconds / draws * 1e6}


def hundred(work: Path) -> Path:
    """A manifest of 100 sources, from 3,000 to 102,000 rows in shards of 1,000."""
    from curate import mix
    from curate.shards import DatasetInfo, ShardInfo, save_dataset

    folders = []
    for index in range(100):
        folder = work / "hundred" / f"s{index:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        shards = tuple(
            ShardInfo(f"{n}.tar", f"{n}.arrow", 1000, 1, hashlib.sha256(f"{index} {n}".encode()).hexdigest())
            for n in range(index + 3)
        )
        size = 1000 * len(shards)
        save_dataset(
            DatasetInfo(
                name=folder.name, kind="caption", samples=size, bytes=len(shards), recipe="0" * 16, shards=shards
            ),
            folder,
        )
        folders.append((folder, 1 / (index + 1)))
    mix.build(folders, 0, work / "hundred.json")
    return work / "hundred.json"


def measured(folder: Path, lengths: np.ndarray[Any, Any], per_shard: int) -> None:
    """A dataset's dataset.json and indexes with text tokens, and no tars."""
    import pyarrow as pa

    from curate.shards import DatasetInfo, Part, ShardInfo, save_dataset
    from curate.shards.index import index_metadata, write_index

    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for number, start in enumerate(range(0, len(lengths), per_shard)):
        mine = lengths[start : start + per_shard]
        sha256 = hashlib.sha256(f"{folder.name} {number}".encode()).hexdigest()
        shards.append(ShardInfo(f"{number}.tar", f"{number}.arrow", len(mine), 1, sha256))
        column = {"text_tokens": pa.array(mine, pa.int32())}
        uids, parts = [f"{start + n:x}" for n in range(len(mine))], [[Part("txt", 0, 1)]] * len(mine)
        write_index(folder / shards[-1].index, index_metadata("text", f"{number}.tar", 1, sha256), uids, parts, column)
    info = DatasetInfo(
        name=folder.name, kind="text", samples=len(lengths), bytes=len(shards), recipe="0" * 16, shards=tuple(shards)
    )
    save_dataset(info, folder)


LENGTHS: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "pages": lambda rng, rows: np.clip(rng.lognormal(5.5, 1, rows), 5, 4096),
    "captions": lambda rng, rows: np.clip(rng.normal(20, 8, rows), 3, 77),
    "code": lambda rng, rows: np.clip(rng.pareto(1.2, rows) * 200 + 20, 20, 8192),
}


def tokens(work: Path, draws: int) -> dict[str, Any]:
    """The largest error of a source's share of tokens at any prefix: by curate, and by an order that ignores them."""
    from curate import mix

    rng, held = np.random.default_rng(0), {}
    for name, make in LENGTHS.items():
        held[name] = make(rng, 150_000).astype(np.int64)
        measured(work / "tokens" / name, held[name], 2500)
    weighted = [(work / "tokens" / name, weight) for name, weight in zip(LENGTHS, (0.6, 0.1, 0.3), strict=True)]
    spec = mix.short(weighted, 0).model_copy(update={"unit": "text_tokens"})
    mixture = mix.compose(spec, Path(), work / "tokens.json").mixture
    begun = time.perf_counter()
    source, _, row = mixture.locate(np.arange(draws))
    took, out = time.perf_counter() - begun, {}
    orders = {name: rng.permutation(len(lengths)) for name, lengths in held.items()}
    for what in ("curate", "lengths ignored"):
        so_far = np.zeros((len(held), draws), np.int64)
        for number, (name, lengths) in enumerate(held.items()):
            mine = np.flatnonzero(source == number)
            rows = row[mine] if what == "curate" else orders[name][np.arange(len(mine)) % len(lengths)]
            so_far[number, mine] = lengths[rows]
        so_far = so_far.cumsum(axis=1)
        wanted = np.array([d.share for d in mixture.manifest.datasets])[:, None] * so_far.sum(axis=0)
        out[what] = round(float(np.abs(so_far - wanted).max()) / max(int(x.max()) for x in held.values()), 2)
    return {"error_in_longest_samples": out, "us_a_draw": took / draws * 1e6}


def hundred_of_tokens(work: Path) -> Path:
    """A manifest of 100 sources of 3 to 12 shards of 1,000 rows, weighed in text tokens."""
    from curate import mix

    rng, folders = np.random.default_rng(0), []
    for index in range(100):
        folder = work / "tokens" / f"s{index:02d}"
        measured(folder, LENGTHS["pages"](rng, 1000 * (index % 10 + 3)).astype(np.int64), 1000)
        folders.append((folder, 1 / (index + 1)))
    spec = mix.short(folders, 0).model_copy(update={"unit": "text_tokens"})
    mix.compose(spec, Path(), work / "hundred-tokens.json")
    return work / "hundred-tokens.json"


def seek(manifest: Path) -> dict[str, float]:
    """In a process that has imported curate.mix and read the manifest, and nothing else."""
    from curate import mix

    read = mix.read(manifest)
    far = np.array([FAR])
    begun = time.perf_counter()
    read.locate(far)
    first = time.perf_counter() - begun
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for number in range(1000):
        begun = time.perf_counter()
        read.locate(far + number)
        times.append(time.perf_counter() - begun)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    state = {"position": FAR, "manifest": hashlib.sha256(manifest.read_bytes()).hexdigest()}
    return {
        "first_ms": first * 1e3,
        "again_ms": statistics.median(times) * 1e3,
        "state_bytes": len(json.dumps(state)),
        "grown_kb": grown,
    }


def child(python: str, *arguments: str) -> dict[str, Any]:
    """A run in a process of its own; a peer that fails is reported, not hidden."""
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    done = subprocess.run(
        [python, str(Path(__file__).resolve()), "--work", arguments[-1], "--child", *arguments[:-1]],
        env=os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1][:300]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default=",".join(MIXING))
    parser.add_argument("--child", nargs="*")
    given = parser.parse_args()
    if given.child:
        what, *rest = given.child
        found = seek(Path(rest[0])) if what == "seek" else error_of(rest[0], rest[1], int(rest[2]), given.work)
        print(json.dumps(found))
        return
    given.work.mkdir(parents=True, exist_ok=True)
    for name in ["curate", *filter(None, given.only.split(","))]:
        python = sys.executable if name == "curate" else environment(given.work, name)
        for shape in SHAPES:
            found = child(python, "error", name, shape, str(given.draws), str(given.work))
            print(json.dumps({"mixer": name, "weights": shape, "draws": given.draws, **found}), flush=True)
    print(json.dumps({"tokens": given.draws, **tokens(given.work, given.draws)}), flush=True)
    for unit, manifest in (("samples", hundred(given.work)), ("text_tokens", hundred_of_tokens(given.work))):
        runs = [child(sys.executable, "seek", str(manifest), str(given.work)) for _ in range(given.runs)]
        figures = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
        print(json.dumps({"seek": FAR, "sources": 100, "unit": unit, **figures}), flush=True)


if __name__ == "__main__":
    main()
