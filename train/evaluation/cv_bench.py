"""CV-Bench's figures: accuracies of its four kinds, in the plane and in space (Cambrian-1, 2406.16860, 3.2).

Published is (( ADE20K + COCO ) / 2 + Omni3D ) / 2, by the source of the picture. Questions that we make of annotations
have other sources: there relation and count stand for the plane, depth and distance for space, each weighing the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from train.evaluation.intervals import Draws, Resampled

PLANE_KINDS, SPACE_KINDS = ("relation", "count"), ("depth", "distance")
KINDS = (*PLANE_KINDS, *SPACE_KINDS)
PLANE_SOURCES, SPACE_SOURCES = ("ade20k", "coco"), ("omni3d",)
MEMBERS = {"2D": (*PLANE_KINDS, *PLANE_SOURCES), "3D": (*SPACE_KINDS, *SPACE_SOURCES)}
"""Groups whose questions a combined accuracy is of."""


def cv_bench(
    resampled: Resampled, right: Sequence[float], kinds: Sequence[str], sources: Sequence[str]
) -> Mapping[str, Draws]:
    """Accuracies by name: each kind there is, `2D`, `3D` and both together where all that they weigh is there.

    `right`, `kinds`, `sources`: of each question, 1 or 0, and names in lower case ("" where there is none).
    """
    of = {name: np.array([kind == name for kind in kinds]) for name in KINDS}
    of |= {name: np.array([source == name for source in sources]) for name in (*PLANE_SOURCES, *SPACE_SOURCES)}
    found = {name: resampled.mean(right, mask) for name, mask in of.items() if mask.any()}
    published = all(name in found for name in (*PLANE_SOURCES, *SPACE_SOURCES))
    plane, space = (PLANE_SOURCES, SPACE_SOURCES) if published else (PLANE_KINDS, SPACE_KINDS)
    for name, parts in (("2D", plane), ("3D", space)):
        if all(part in found for part in parts):
            found[name] = np.mean([found[part] for part in parts], axis=0)
    if "2D" in found and "3D" in found:
        found["CV-Bench"] = (found["2D"] + found["3D"]) / 2
    return found
