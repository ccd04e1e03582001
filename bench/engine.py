"""Measure rows a second of cheap ops, and the driver's memory: `bench/engine.py [ROWS...]`.

Each size is a recipe of its own, run by the real command line in a process of its own: a table of captions over a
few small PNGs, `text_basic` and `image_size` with a rule each, a `top`, and the publishing of what is kept. The
ratios at the end say how the cost of a row and the driver's memory at the largest size compare with the smallest:
1 is linear cost and flat memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

SIZES = (10_000, 100_000, 1_000_000)
PICTURES = 64
WORDS = ("red", "house", "a", "of", "light", "in", "the", "evening", "cat", "1987", "blue", "two")
STEPS = [
    {"op": "text_basic", "keep": {"word_count": {"min": 3}}},
    {"op": "image_size", "keep": {"min_side": {"min": 12}, "pixels": {"top": 0.5}}},
]


def make_source(folder: Path, rows: int) -> Path:
    """Small PNGs and a table of `rows` captions over them."""
    from PIL import Image

    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(PICTURES):
        chance = Random(number)
        size = chance.randrange(8, 32), chance.randrange(8, 32)
        Image.frombytes("RGB", size, chance.randbytes(3 * size[0] * size[1])).save(pictures / f"{number}.png")
    chance = Random(rows)
    with open(folder / "captions.csv", "w") as file:
        file.write("image,text\n")
        for number in range(rows):
            caption = " ".join(chance.choices(WORDS, k=chance.randrange(1, 12)))
            file.write(f"{number % PICTURES}.png,{caption} {number}\n")
    return pictures


def write_recipe(folder: Path, pictures: Path) -> Path:
    """The recipe of cheap ops."""
    path = folder / "recipe.yaml"
    source = {"type": "folder", "path": str(pictures), "captions": str(folder / "captions.csv")}
    row: dict[str, Any] = {"name": "bench", "out": str(folder / "out"), "source": source, "steps": STEPS}
    path.write_text(json.dumps(row))
    return path


DRIVER = """
import json, resource, sys
from pipelines.cli.main import main
code = main(["run", sys.argv[1], "--json", *sys.argv[2:]])
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"code": code, "rss": used.ru_maxrss * 1024}), file=sys.stderr)
"""


def measure(recipe: Path, how: list[str]) -> dict[str, float]:
    """Run the recipe in a process of its own: seconds, and the driver's peak bytes."""
    started = time.perf_counter()
    command = [sys.executable, "-c", DRIVER, str(recipe), *how]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - started
    row = json.loads(done.stderr.strip().splitlines()[-1])
    if row["code"] != 0:
        raise SystemExit(done.stderr)
    return {"seconds": seconds, "rss": row["rss"]}


def say(who: str, metric: str, value: float, unit: str, n: int) -> None:
    """One JSON line."""
    row = {"bench": "engine", "who": who, "metric": metric, "value": round(value, 4), "unit": unit, "n": n}
    print(json.dumps(row), flush=True)


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=SIZES)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="0 runs in the driver")
    sizes = sorted(parser.parse_args().rows)
    workers = parser.parse_args().workers
    how = ["--workers", str(workers)] if workers else ["--inline"]
    who = f"{workers} workers" if workers else "inline"
    found: dict[int, dict[str, float]] = {}
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="curate-bench-") as folder:
            recipe = write_recipe(Path(folder), make_source(Path(folder), rows))
            found[rows] = measure(recipe, how)
            again = measure(recipe, how)
        say(who, "rows a second", rows / found[rows]["seconds"], "1/s", rows)
        say(who, "driver memory", found[rows]["rss"] / 2**20, "MiB", rows)
        say(who, "second run", again["seconds"], "s", rows)
    small, large = found[sizes[0]], found[sizes[-1]]
    per_row = (large["seconds"] / sizes[-1]) / (small["seconds"] / sizes[0])
    say(who, "ratio of driver memory, largest to smallest", large["rss"] / small["rss"], "ratio", sizes[-1])
    say(who, "ratio of seconds a row, largest to smallest", per_row, "ratio", sizes[-1])


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
