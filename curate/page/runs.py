"""Runs of words on a page: boxes around them, groups apart, and where the writer went up again.

Boxes are N x (x0, y0, x1, y1), y downwards, in any unit that is the same both ways. Runs are L x (first word, end).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_APART: Final = 1.0  # of a line's height: white from edge to edge below a running title


def join_boxes(words: Floats, runs: Ints) -> Floats:
    """The boxes around runs of words, one a run."""
    ends = runs.ravel()
    padded = np.vstack([words, words[-1:]])  # a run may end where the words end
    padded[:, 2:] *= -1
    boxes: Floats = np.minimum.reduceat(padded, ends, axis=0)[::2]
    boxes[:, 2:] *= -1
    return boxes


def run_members(lines: Ints) -> Ints:
    """The numbers of the words in runs, run by run."""
    counts = lines[:, 1] - lines[:, 0]
    return np.repeat(lines[:, 0] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def group_boxes(boxes: Floats) -> Ints:
    """For each box the number of its group from above; groups lie apart, with white from edge to edge between them."""
    down = np.argsort(boxes[:, 1], kind="stable")
    white = boxes[down[1:], 1] - np.maximum.accumulate(boxes[down, 3])[:-1]
    groups = np.empty(len(boxes), np.int64)
    groups[down] = np.append(0, np.cumsum(white > _APART * median(boxes[:, 3] - boxes[:, 1])))
    return groups


def find_upward_moves(boxes: Floats) -> Bools:
    """Find the lines after which the writer went up."""
    middle = (boxes[:, 1] + boxes[:, 3]) / 2
    up: Bools = middle[:-1] - middle[1:] > (boxes[1:, 3] - boxes[1:, 1]) / 2
    return up


def median(values: Floats) -> float:
    """The median, or the next above it: in a fraction of the time that numpy's own takes."""
    return float(np.sort(values)[len(values) // 2])
