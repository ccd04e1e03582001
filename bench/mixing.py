"""How far mixtures stray from their weights, and what a seek costs, beside the mixers that others use.

    python bench/mixing.py --work DIR [--draws 1000000] [--runs 5] [--only webdataset,streaming,energon]

Error: the largest |draws of a source - position * its wanted share| of any source at any prefix, in samples, for four
shapes of weights. Peers, each in an environment of its own that this script makes below --work: webdataset's
`RandomMix`, mosaicml-streaming's `proportion` (one epoch of --draws samples, shuffled, as it would serve them),
megatron-energon's blend (`WorkerRng.choice_idx`, which its BlendDataset calls for every sample). Seek: position 1e9
of 100 sources in a fresh process, from the manifest read to (source, epoch, row), and again in the same process;
with it the state in bytes and the growth of the process over 1,000 seeks. One JSON line a figure.
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
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PEERS = {"webdataset": "webdataset", "streaming": "mosaicml-streaming", "energon": "megatron-energon"}
ROOT = Path(__file__).resolve().parent.parent
SHAPES = {
    "4 (MM1)": [0.4185, 0.0315, 0.45, 0.1],
    "16 geometric": [0.6**n for n in range(16)],
    "100, one of them half": [0.5] + [0.5 / 99] * 99,
    "200 Zipf": [1 / n for n in range(1, 201)],
}
FAR = 10**9


def worst_error(weights: list[float], source: np.ndarray[Any, Any]) -> float:
    """Extremes lie just before a draw and at it, so only these are looked at."""
    worst, whole = 0.0, sum(weights)
    for index, weight in enumerate(weights):
        at = np.flatnonzero(source == index)
        drawn = np.arange(len(at) + 1)
        late = np.append(at, len(source)) * (weight / whole) - drawn
        early = drawn[1:] - (at + 1) * (weight / whole)
        worst = max(worst, float(late.max()), float(early.max(initial=0)))
    return worst


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


def seek(manifest: Path) -> dict[str, float]:
    """In a process that has imported curate.mix and read the manifest, and nothing else."""
    from curate import mix

    read = mix.read(manifest)
    far = np.array([FAR])
    begun = time.perf_counter()
    mix.locate(read, far)
    first = time.perf_counter() - begun
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for number in range(1000):
        begun = time.perf_counter()
        mix.locate(read, far + number)
        times.append(time.perf_counter() - begun)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    state = {"position": FAR, "manifest": hashlib.sha256(manifest.read_bytes()).hexdigest()}
    return {
        "first_ms": first * 1e3,
        "again_ms": statistics.median(times) * 1e3,
        "state_bytes": len(json.dumps(state)),
        "grown_kb": grown,
    }


def environment(work: Path, name: str) -> str:
    """The Python of a peer's environment, made if it is not there; torch and the like are taken from ours."""
    folder = work / "env" / PEERS[name]
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True, system_site_packages=True)
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (next((folder / "lib").glob("python*/site-packages")) / "base.pth").write_text(ours + "\n")
        subprocess.run([str(python), "-m", "pip", "install", "-q", PEERS[name]], check=True, stdout=sys.stderr)
    return str(python)


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
    parser.add_argument("--only", default=",".join(PEERS))
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
    manifest = hundred(given.work)
    runs = [child(sys.executable, "seek", str(manifest), str(given.work)) for _ in range(given.runs)]
    print(json.dumps({"seek": FAR, "sources": 100, **{k: statistics.median(r[k] for r in runs) for k in runs[0]}}))


if __name__ == "__main__":
    main()
