"""Measure a page's layout: how much of it pictures and tables cover."""

from __future__ import annotations

from typing import Final

import numpy as np

from curate.pdf.found import Floats

_CELLS: Final = 200  # a side, of the grid on which areas that overlap are counted once
_SHORTEST: Final = 0.04  # of the page's side: a ruled line is longer than this
_THICKEST_PT: Final = 3.0
_FEWEST_RULES: Final = 3  # of a table: above its head, below it, and at its end
_SAME_PLACE: Final = 0.005  # of the page's width: rules that begin and end this near to each other belong together


def covered_share(boxes: Floats) -> float:
    """The share of the page that lies under at least one box, 0 to 1, to about a hundredth of a box's width."""
    if not len(boxes):
        return 0.0
    cells = np.rint(np.clip(boxes, 0, 1) * _CELLS).astype(np.int64)
    grid = np.zeros((_CELLS + 1, _CELLS + 1), np.int32)
    left, top, right, bottom = cells.T
    for sign, x, y in ((1, left, top), (-1, right, top), (-1, left, bottom), (1, right, bottom)):
        np.add.at(grid, (y, x), sign)
    return float(np.count_nonzero(grid.cumsum(axis=0).cumsum(axis=1)) / _CELLS**2)


def find_ruled_lines(paths: Floats, width_pt: float, height_pt: float) -> tuple[Floats, Floats]:
    """Find paths that are straight lines across or down the page (or thin filled boxes): those across, and down."""
    across, down = paths[:, 2] - paths[:, 0], paths[:, 3] - paths[:, 1]
    lying = (across > _SHORTEST) & (down * height_pt < _THICKEST_PT)
    standing = (down > _SHORTEST) & (across * width_pt < _THICKEST_PT)
    return paths[lying], paths[standing]


def find_tables(rules: Floats) -> Floats:
    """Find boxes of what may be tables: between the first and last of three or more lines of one place and length."""
    places = np.rint(rules[:, [0, 2]] / _SAME_PLACE).astype(np.int64)
    _, group = np.unique(places, axis=0, return_inverse=True)
    found = [rules[group == number] for number in range(int(group.max(initial=-1)) + 1)]
    boxes = [np.concatenate([g[:, :2].min(axis=0), g[:, 2:].max(axis=0)]) for g in found if len(g) >= _FEWEST_RULES]
    return np.array(boxes, np.float32).reshape(-1, 4)
