"""Share environments of peers between benches, and measure how far a mixer strays."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

PEERS = {
    "webdataset": "webdataset",
    "streaming": "mosaicml-streaming",
    "energon": "megatron-energon",
    "litdata": "litdata",
}
"""The packages that are installed for each."""

TRAINERS = {name: name for name in ("grain", "megatron-energon", "torchtitan", "trl")}
"""Those of the trainers whose adapters docs/own-trainer.md prints."""

SHAPES = {
    "4 (MM1)": [0.4185, 0.0315, 0.45, 0.1],
    "16 geometric": [0.6**n for n in range(16)],
    "100, one of them half": [0.5] + [0.5 / 99] * 99,
    "200 Zipf": [1 / n for n in range(1, 201)],
}
"""Weights of sources."""


def environment(work: Path, name: str) -> str:
    """The Python of a peer's environment, made if it is not there; torch and the like are taken from ours."""
    package = (PEERS | TRAINERS)[name]
    folder = work / "env" / package
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True, system_site_packages=True, clear=True)
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (next((folder / "lib").glob("python*/site-packages")) / "base.pth").write_text(ours + "\n")
        subprocess.run([str(python), "-m", "pip", "install", "-q", package], check=True, stdout=sys.stderr)
        done.touch()
    return str(python)


def isolated(home: Path, packages: Sequence[str]) -> Path:
    """The Python of an environment that holds these packages alone, named by the first; made at the first run."""
    folder = home / packages[0]
    if not (folder / "done").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr)
        (folder / "done").touch()
    return folder / "bin" / "python"


def worst_error(weights: Sequence[float], source: np.ndarray[Any, Any]) -> float:
    """The largest |draws - positions * share| of any source at any prefix: extremes lie just before and at a draw."""
    import numpy as np  # not where a peer's own environment runs a bench

    worst, whole = 0.0, sum(weights)
    for index, weight in enumerate(weights):
        at = np.flatnonzero(source == index)
        drawn = np.arange(len(at) + 1)
        late = np.append(at, len(source)) * (weight / whole) - drawn
        early = drawn[1:] - (at + 1) * (weight / whole)
        worst = max(worst, float(late.max()), float(early.max(initial=0)))
    return worst
