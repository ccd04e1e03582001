"""K-means whose result is the same in any order of rows, any cut into blocks and on any processor.

Lloyd 1982, from rows drawn by uid; a cluster that loses its last row takes half of the largest, as faiss does (Johnson
et al. 2017). Sums are of whole numbers (`curate.ops._vectors`), so they are exact, and parts of them may be made
anywhere. Memory: 40 bytes a number of the centroids, nine a row, and blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.ops._keys import Keys, further_keys
from curate.ops._vectors import BITS, Centroids, Ints, Units, Vectors, lengths

PERTURBED = 10
"""The halves of a cluster that is split are moved apart by 2**-PERTURBED of each number."""


@dataclass(frozen=True)
class KMeansFit:
    """Settings of a fit: at most `clusters`, one for `rows_per_cluster` rows of the sample; `share` of rows by uid."""

    clusters: int
    rows_per_cluster: int
    iterations: int
    share: float
    spherical: bool


def fit_centroids(vectors: Vectors, keys: Keys, fit: KMeansFit) -> Centroids:
    """Fit centroids to the rows drawn by their keys; none where there is no vector. `spherical`: of one length."""
    sampled = further_keys(keys, 0) < np.uint64(int(fit.share * 2**64)) if fit.share < 1 else None
    rows = vectors.valid if sampled is None else vectors.valid & sampled
    count = int(rows.sum())
    k = min(fit.clusters, max(1, count // fit.rows_per_cluster), count)
    drawn = np.flatnonzero(rows)
    first = drawn[np.argsort(further_keys(keys[drawn], 1), kind="stable")[:k]]
    points = (
        _one_length(vectors.units(vectors.floats(first))) if fit.spherical else vectors.units(vectors.floats(first))
    )
    for _ in range(fit.iterations if k else 0):
        centroids = Centroids(points.astype(np.int32), fit.spherical)
        sums, counts = sum_by_centroid(vectors, centroids, sampled)
        moved = _split_largest(_means(sums, counts), counts)
        moved = _one_length(moved) if fit.spherical else moved
        if np.array_equal(moved, points):
            break
        points = moved
    return Centroids(points.astype(np.int32), fit.spherical)


def sum_by_centroid(vectors: Vectors, centroids: Centroids, among: npt.NDArray[np.bool_] | None) -> tuple[Units, Ints]:
    """(k, width) the sum of each centroid's rows, exactly, and (k,) how many they are."""
    sums = np.zeros((len(centroids), vectors.width), np.int64)
    counts = np.zeros(len(centroids), np.int64)
    for rows in vectors.blocks(among):
        labels = centroids.nearest(vectors, vectors.floats(rows))[:, 0]
        order = np.argsort(labels, kind="stable")
        found, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
        sums[found] += np.add.reduceat(vectors.units(vectors.floats(rows[order])), starts, axis=0)
        counts[found] += sizes
    return sums, counts


def _means(sums: Units, counts: Ints) -> Units:
    """The sums by their counts, rounded to whole units."""
    divisor = np.maximum(counts, 1)[:, None]
    means: Units = (2 * sums + divisor) // (2 * divisor)
    return means


def _split_largest(points: Units, counts: Ints) -> Units:
    """Give each cluster without rows half of the one that has most, moved a little; of equals the first."""
    points, left = points.copy(), counts.copy()
    sign = np.where(np.arange(points.shape[1]) % 2, -1, 1)
    for empty in np.flatnonzero(counts == 0):
        largest = int(left.argmax())
        step = sign * (points[largest] >> PERTURBED)
        points[empty], points[largest] = points[largest] + step, points[largest] - step
        left[empty], left[largest] = left[largest] // 2, left[largest] - left[largest] // 2
    return points


def _one_length(points: Units) -> Units:
    """The points at one length, which is half of the longest that there may be."""
    size = lengths(points)
    factor = np.divide(2.0 ** (BITS - 1), size, out=np.zeros(len(points)), where=size > 0)
    return np.rint(points * factor[:, None]).astype(np.int64)


def load_centroids(path: str) -> npt.NDArray[np.float32]:
    """Read centroids (k, width) from a .npy file. Raises ValueError."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as err:
        raise ValueError(f"{path}: not a .npy file of centroids: {err}") from err
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.floating) or not np.isfinite(found).all() or not found.size:
        raise ValueError(f"{path}: centroids are a table of numbers, (k, width); this is {found.dtype} {found.shape}")
    return np.asarray(found, np.float32)
