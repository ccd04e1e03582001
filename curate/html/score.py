"""Whether a text is of its page's main part: sums of small decision trees over its evidence, in whole numbers.

All trees have one depth and ask the same questions of every row (oblivious trees, as in Prokhorenkova et al. 2018,
CatBoost), so a page is a handful of array operations, and equal on every processor. `bench/html_weights.py` made them.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]

_ROWS = 256
"""So many at once: memory stays flat however long the page."""


def scores(evidence: np.ndarray[Any, np.dtype[np.int32]]) -> Ints:
    """One number a row: above zero where it is rather of the main part than not."""
    columns, limits, values, bits, least = _trees()
    trees = np.arange(len(values))
    parts = (evidence[at : at + _ROWS] for at in range(0, len(evidence), _ROWS))
    return np.concatenate([values[trees, (part[:, columns] > limits) @ bits].sum(axis=1) for part in parts]) - least


@cache
def _trees() -> tuple[Ints, Ints, Ints, Ints, int]:
    """Of each tree the columns it asks for, the limits it compares them with, and the value of each of its leaves."""
    found = json.loads((files("curate") / "weights" / "html-trees.json").read_text("utf-8"))
    columns, limits, values = (np.array(found[name], np.int64) for name in ("columns", "limits", "values"))
    return columns, limits, values, 1 << np.arange(columns.shape[1])[::-1], int(found["least"])
