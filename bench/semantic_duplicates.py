"""Measure clusters and semantic duplicates on real embeddings: recall, inertia, time, memory with skew.

    python bench/semantic_duplicates.py --home /tmp/bench-embeddings [--faiss FOLDER]

Embeddings: bench/real_embeddings.py, 20,000 of drawings and of copies planted among them. Each line of JSON:

- recall: of all pairs of a cosine above 1 - eps (brute force), those that share a cell, so that the op compares them;
  and of the rows that the rule removes, looking at all pairs, those that it removes.
- inertia: of `clusters` over that of faiss (`--faiss`: where `pip install --target FOLDER faiss-cpu` put it), both 20
  iterations from random rows, the same number of clusters, one thread.
- time: processor seconds of both ops for 5,000, 10,000 and 20,000 rows, and for 40,000 and 80,000 whose further rows
  are the real ones with noise; a process each, one thread.
- skew: peak memory of both ops, and time, with the rows as they are, and with half of them in one cluster (k-means
  would part them, so it is set): copies of one drawing with noise, all alike or none.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from real_embeddings import real_embeddings

SHARD_ROWS = 1000
HEAP = "half-in-one-cluster"
HALVES = pa.list_(pa.float16())
Halves = npt.NDArray[np.float16]


def main() -> None:
    """Measure, and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-bench-embeddings")
    parser.add_argument("--faiss", type=Path)
    parser.add_argument("--only", nargs="*", default=["recall", "inertia", "time", "skew"])
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(run_ops(Path(given.worker[0]), float(given.worker[1]))))
        return
    table, _ = real_embeddings(given.home, 20_000)
    measures = {"recall": recall, "time": times, "skew": skew}
    for name in given.only:
        if name == "inertia":
            inertia(table, given.home, given.faiss)
        else:
            measures[name](table, given.home)


def lay_out(table: Halves, folder: Path) -> list[Path]:
    """One file of inputs a shard, as the engine hands them over."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.parquet"):
        stale.unlink()
    uids = [hashlib.blake2b(str(n).encode(), digest_size=16).hexdigest() for n in range(len(table))]
    paths = []
    for start in range(0, len(table), SHARD_ROWS):
        part = pa.array(list(table[start : start + SHARD_ROWS]), HALVES)
        paths.append(folder / f"in-{start // SHARD_ROWS:05}.parquet")
        pq.write_table(pa.table({"uid": uids[start : start + SHARD_ROWS], "column": part}), paths[-1])
    return paths


def run_ops(folder: Path, eps: float) -> dict[str, float]:
    """Both ops on the inputs in a folder; processor seconds of each, peak memory in MB."""
    from curate.ops.dedup.semantic import semantic_duplicates
    from curate.ops.select.clusters import clusters

    inputs = sorted(folder.glob("in-*.parquet"))
    found = {"before_mb": peak_mb()}
    steps = [folder / path.name.replace("in-", "clusters-") for path in inputs]
    start = time.process_time()
    clusters(inputs, steps, folder / "clusters")
    found |= {"clusters_s": time.process_time() - start}
    found |= {"clusters_mb": peak_mb()}
    both = [folder / path.name.replace("in-", "both-") for path in inputs]
    for one, two, three in zip(inputs, steps, both, strict=True):
        found_here = {**_columns(one), **_columns(two)}
        if (folder / HEAP).exists():
            near = [[0] if n % 2 == 0 else row for n, row in enumerate(found_here["near_clusters"].to_pylist())]
            found_here["near_clusters"] = pa.array(near, pa.list_(pa.int32()))
        pq.write_table(pa.table(found_here), three)
    start = time.process_time()
    answers = [folder / path.name.replace("in-", "answers-") for path in inputs]
    semantic_duplicates(both, answers, folder / "semantic", eps=eps)
    found |= {"semantic_s": time.process_time() - start}
    found |= {"peak_mb": peak_mb()}
    gone = sum(len(t) - t.null_count for t in (pq.read_table(path)["semantic_duplicate_of"] for path in answers))
    return found | {"removed": gone}


def peak_mb() -> float:
    """The most memory that this process has held; `ru_maxrss` would be the parent's, if that was larger."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024


def _columns(path: Path) -> dict[str, pa.ChunkedArray]:
    table = pq.read_table(path)
    return {name: table[name] for name in table.column_names}


def measured(table: Halves, folder: Path, eps: float) -> dict[str, float]:
    """The same in a process of its own, on one thread."""
    lay_out(table, folder)
    command = [sys.executable, __file__, "--worker", str(folder), str(eps)]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True, text=True
    )
    return {name: round(value, 2) for name, value in json.loads(done.stdout).items()}


def recall(table: Halves, home: Path) -> None:
    """Pairs and removed rows found, against brute force."""
    folder = home / "recall"
    uids = [uid for path in lay_out(table, folder) for uid in pq.read_table(path)["uid"].to_pylist()]
    order = np.argsort(np.array(uids))
    for eps in (0.01, 0.03, 0.05, 0.1):
        run_ops(folder, eps)
        found = pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("both-*.parquet"))])
        cells = np.stack(found["near_clusters"].to_numpy())
        answers = pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("answers-*.parquet"))])
        removed = ~answers["semantic_duplicate_of"].is_null().to_numpy()
        pairs, shared, greedy = brute_force(table, cells, eps, order)
        said = {"eps": eps, "pairs": pairs, "pair_recall": round(shared / pairs, 5)}
        said |= {"clusters": int(cells.max()) + 1, "removed": int(removed.sum()), "by_all_pairs": int(greedy.sum())}
        agree = round(float((removed & greedy).sum() / greedy.sum()), 5)
        print(json.dumps({"recall": said | {"of_these": agree}}), flush=True)


def brute_force(
    table: Halves, cells: npt.NDArray[np.int64], eps: float, order: npt.NDArray[np.int64]
) -> tuple[int, int, npt.NDArray[np.bool_]]:
    """All pairs above the threshold, those that share a cell, and which rows a greedy pass in `order` removes."""
    x = table[order].astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cells, gone = cells[order], np.zeros(len(x), bool)
    pairs = shared = 0
    for start in range(0, len(x), 1000):
        rows, others = np.nonzero(x[start : start + 1000] @ x.T > 1 - eps)
        rows += start
        rows, others = rows[others < rows], others[others < rows]
        pairs += len(rows)
        for some in range(0, len(rows), 100_000):
            a, b = cells[rows[some : some + 100_000]], cells[others[some : some + 100_000]]
            shared += int((a[:, :, None] == b[:, None, :]).any((1, 2)).sum())
        for row in np.unique(rows):
            gone[row] = (~gone[others[rows == row]]).any()
    back = np.empty(len(x), bool)
    back[order] = gone
    return pairs, shared, back


def inertia(table: Halves, home: Path, faiss_folder: Path | None) -> None:
    """Inertia and time of `clusters` beside faiss."""
    from curate.ops._keys import read_keys
    from curate.ops._kmeans import KMeansFit, fit_centroids
    from curate.ops._vectors import spool_vectors

    sys.path.append(str(faiss_folder))
    import faiss  # type: ignore[import-not-found, unused-ignore]

    faiss.omp_set_num_threads(1)
    inputs = lay_out(table, home / "inertia")
    x = table.astype(np.float32)
    for k in (156, 600):
        for seed in range(3):
            start = time.process_time()
            vectors = spool_vectors(inputs, "column", "column", home / "inertia" / "work")
            found = fit_centroids(vectors, read_keys(inputs, seed), KMeansFit(k, 1, 20, 1.0, False))
            ours_s = time.process_time() - start
            start = time.process_time()
            peer = faiss.Kmeans(x.shape[1], k, niter=20, seed=seed, max_points_per_centroid=10**9)
            peer.train(x)
            theirs_s = time.process_time() - start
            ours, theirs = (squared_distances(x, points) for points in (vectors.reals(found.units), peer.centroids))
            said = {"clusters": k, "seed": seed, "ours": round(ours, 1), "over_faiss": round(ours / theirs, 4)}
            times_of = {"ours_s": round(ours_s, 2), "faiss_s": round(theirs_s, 2)}
            print(json.dumps({"inertia": said | times_of}), flush=True)


def squared_distances(x: npt.NDArray[np.float32], points: npt.NDArray[np.float32]) -> float:
    """The sum of squared distances to the nearest points."""
    score = x @ points.T - np.square(points).sum(1) / 2
    return float(np.square(x.astype(np.float64)).sum() - 2 * score.max(1).astype(np.float64).sum())


def grown(table: Halves, rows: int) -> Halves:
    """So many rows: of the real ones, or these and others about them."""
    chance = np.random.default_rng(0)
    if rows <= len(table):
        return table[chance.permutation(len(table))[:rows]]
    more = table[chance.integers(0, len(table), rows - len(table))].astype(np.float32)
    more += chance.normal(scale=0.3 / np.sqrt(table.shape[1]), size=more.shape)
    more /= np.linalg.norm(more, axis=1, keepdims=True)
    return np.concatenate([table, more.astype(np.float16)])


def times(table: Halves, home: Path, sizes: Sequence[int] = (5_000, 10_000, 20_000, 40_000, 80_000)) -> None:
    """Seconds by rows."""
    for rows in sizes:
        found = measured(grown(table, rows), home / "time", 0.03)
        each = 1e6 * (found["clusters_s"] + found["semantic_s"]) / rows
        print(json.dumps({"time": {"rows": rows, "us_a_row": round(each, 1)} | found}), flush=True)


def skew(table: Halves, home: Path) -> None:
    """Memory and seconds where half of all rows are one heap."""
    chance = np.random.default_rng(1)
    ways: dict[str, float | None] = {"even": None, "heap, all alike": 0.02, "heap, none alike": 0.4}
    for rows in (20_000, 40_000):
        for name, spread in ways.items():
            rows_of = grown(table, rows).copy()
            if spread is not None:
                heap = table[0].astype(np.float32) + chance.normal(
                    scale=spread / np.sqrt(table.shape[1]), size=(rows // 2, table.shape[1])
                )
                rows_of[::2] = (heap / np.linalg.norm(heap, axis=1, keepdims=True)).astype(np.float16)
            folder = home / f"skew-{HEAP if spread is not None else 'even'}"
            folder.mkdir(parents=True, exist_ok=True)
            if spread is not None:
                (folder / HEAP).touch()
            found = measured(rows_of, folder, 0.03)
            print(json.dumps({"skew": {"rows": rows, "rows_are": name} | found}), flush=True)


if __name__ == "__main__":
    main()
