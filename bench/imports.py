"""Measure the seconds of `import curate` and `curate --help`: `bench/imports.py [--times 5]`."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

TARGETS = {"import curate": 0.5, "curate --help": 1.0}
COMMANDS = {
    "bare python": [sys.executable, "-c", "pass"],
    "import curate": [sys.executable, "-c", "import curate"],
    "import curate.recipe.model": [sys.executable, "-c", "import curate.recipe.model"],
    "curate --help": [sys.executable, "-m", "pipelines", "--help"],
}


def seconds(command: list[str]) -> float:
    """The wall time of one process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Medians, then each target's share that is used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    for command in COMMANDS.values():
        seconds(command)  # bytecode is written once
    medians = {who: statistics.median(seconds(command) for _ in range(times)) for who, command in COMMANDS.items()}
    for who, value in medians.items():
        say(who, "wall time", value, "s", times)
    for who, target in TARGETS.items():
        say(who, "ratio to the target", medians[who] / target, "ratio", times)


def say(who: str, metric: str, value: float, unit: str, n: int) -> None:
    """One JSON line."""
    row = {"bench": "imports", "who": who, "metric": metric, "value": round(value, 4), "unit": unit, "n": n}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
