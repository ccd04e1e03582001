"""Heads on kept embeddings: rows a second of one core, the head alone and through a run. No image is decoded.

    OMP_NUM_THREADS=1 python -m bench.heads [--rows 20000] [--dims 768]

Processor time of this process, in turns with the plain product of numpy on the same vectors. A run reads the embeddings
from Parquet and commits the scores beside them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.engine import run
from curate.models.heads import EmbeddingHead, HeadCard, save_head
from curate.ops.alignment.head_score import head_score
from curate.ops.spec import Columns, Count, op
from curate.recipe.resolve import load

BATCH = 4096
TURNS = 3


@op(reads="uid", writes={"vector": pa.list_(pa.float16())}, version=1, batch_size=1024)
def drawn_vectors(uids: Sequence[str], *, dims: Count = 768) -> Columns:
    """Stand for kept embeddings: vectors drawn by uid."""
    drawn = (np.random.default_rng(int(uid[:16], 16)).normal(size=dims).astype(np.float16) for uid in uids)
    return {"vector": list(drawn)}


def seconds(work: Callable[[], Any]) -> float:
    """Processor time of a piece of work, the smallest of some turns."""
    found = []
    for _ in range(TURNS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def alone(folder: Path, rows: int, dims: int) -> dict[str, float]:
    """Rows a second of the op, for one vector and for a network of 256 hidden units, and of numpy's product."""
    chance = np.random.default_rng(0)
    vectors = list(chance.normal(size=(rows, dims)).astype(np.float16))
    found = {}
    for name, widths in (("linear", (dims, 1)), ("network", (dims, 256, 1))):
        layers = tuple((chance.normal(size=(n, m)), np.zeros(n)) for m, n in pairwise(widths))
        save_head(folder / name, EmbeddingHead(layers, HeadCard(activation="relu")))
        op_ = head_score(head=str(folder / name))
        found[name] = rows / seconds(lambda op_=op_: [op_(vectors[n : n + BATCH]) for n in range(0, rows, BATCH)])  # type: ignore[misc]
    weight = chance.normal(size=dims)
    found["numpy"] = rows / seconds(lambda: np.stack(vectors).astype(np.float64) @ weight)
    return found


def in_a_run(folder: Path, rows: int, dims: int) -> float:
    """Rows a second of `curate run --inline`, when the embeddings are there and the head's step is new."""
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(rows)))
    recipe: dict[str, Any] = {
        "name": "heads", "kind": "text", "out": str(folder / "out"), "shard_samples": 100_000,
        "source": {"type": "text", "path": str(folder / "texts.jsonl")},
        "steps": [{"op": "bench.heads:drawn_vectors", "with": {"dims": dims}, "keep": {}}],
    }  # fmt: skip
    path = folder / "recipe.yaml"

    path.write_text(json.dumps(recipe))
    run.run(load(path), workers=0)
    knobs = {"head": str(folder / "linear"), "column": "vector", "tower": "drawn"}
    # Deciding and publishing are paid by any change; the time until the step is done is the step's.
    began: dict[str, float] = {}

    def watch(progress: run.RunProgress) -> None:
        began.setdefault(progress.what, time.process_time())

    recipe["steps"].append({"op": "head_score", "with": knobs})
    path.write_text(json.dumps(recipe))
    start = time.process_time()
    run.run(load(path), 0, watch)
    return rows / (began["head_score"] - start)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dims", type=int, default=768)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        for name, speed in alone(Path(made), asked.rows, asked.dims).items():
            print(f"{name:<10} {speed:>12,.0f} rows/s of a core", flush=True)
        print(f"{'in a run':<10} {in_a_run(Path(made), asked.rows, asked.dims):>12,.0f} rows/s of a core")


if __name__ == "__main__":
    main()
