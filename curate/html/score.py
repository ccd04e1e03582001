"""Score texts of a page as main text: sums of small decision trees over features, in whole numbers.

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

_DEPTH = 3
_ROWS = 256
"""So many at once: memory stays flat however long the page."""


def score_texts(evidence: np.ndarray[Any, np.dtype[np.int32]]) -> Ints:
    """Score each row: above zero where it is rather of the main part than not."""
    columns, limits, values, first, least = _trees()
    found = []
    for at in range(0, len(evidence), _ROWS):
        asked = evidence[at : at + _ROWS].T.take(columns, axis=0) > limits
        above = asked.view(np.int8).reshape(_DEPTH, len(first), -1)
        found.append(values.take(4 * above[0] + 2 * above[1] + above[2] + first).sum(axis=0))
    return np.concatenate(found) - least


@cache
def _trees() -> tuple[Ints, Ints, Ints, Ints, int]:
    """The columns that the trees ask for and the limits they compare them with, by level; all leaves, and where each
    tree's begin."""
    found = json.loads((files("curate") / "weights" / "html-trees.json").read_text("utf-8"))
    columns, limits, values = (np.array(found[name], np.int64) for name in ("columns", "limits", "values"))
    assert columns.shape[1] == _DEPTH
    first = np.arange(0, values.size, 1 << _DEPTH).reshape(-1, 1)
    return columns.T.ravel(), limits.T.reshape(-1, 1).astype(np.int32), values.ravel(), first, int(found["least"])
