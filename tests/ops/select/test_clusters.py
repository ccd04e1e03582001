"""What clusters promise: the same on any cut and order of rows, as good as Lloyd's; DataComp's filter to the letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grouping import HALVES, cuts, embeddings, grouped

from curate.ops._vectors import Centroids, spool_vectors
from curate.ops.select.clusters import clusters, target_clusters

Array = npt.NDArray[Any]
SMALL: dict[str, Any] = {"rows_per_cluster": 25, "iterations": 8}


def scattered(rows: int = 1500, width: int = 24, seed: int = 0) -> Array:
    """Unit vectors about forty points, in half precision."""
    chance = np.random.default_rng(seed)
    points = chance.normal(size=(40, width))
    table = points[chance.integers(0, 40, rows)] + 0.5 * chance.normal(size=(rows, width))
    return (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float16)


def inertia(table: Array, labels: Array) -> float:
    """The sum of squared distances to the means of clusters."""
    wide = table.astype(np.float64)
    return float(sum(((wide[labels == n] - wide[labels == n].mean(0)) ** 2).sum() for n in np.unique(labels)))


def lloyd(table: Array, k: int, iterations: int, seed: int) -> Array:
    """Plain k-means from random rows."""
    wide = table.astype(np.float64)
    points = wide[np.random.default_rng(seed).choice(len(wide), k, replace=False)]
    for _ in range(iterations + 1):
        labels = ((wide[:, None] - points[None]) ** 2).sum(2).argmin(1)
        points = np.stack([wide[labels == n].mean(0) if (labels == n).any() else points[n] for n in range(k)])
    return labels


def test_clusters_are_the_same_however_rows_are_cut_and_ordered(tmp_path: Path) -> None:
    column = {"column": embeddings(scattered(1000))}
    for knobs, least, most in (({}, 40, 40), ({"spherical": True, "fit_share": 0.5}, 18, 22)):
        ways = [
            grouped(clusters, column, tmp_path / f"{most}-{n}", cut, **SMALL, **knobs)
            for n, cut in enumerate(cuts(1000))
        ]
        assert ways[0] == ways[1] == ways[2]
        assert least <= len(set(ways[0]["cluster"])) <= most


def test_clusters_fit_as_well_as_plain_k_means(tmp_path: Path) -> None:
    table = scattered()
    ours = np.array(grouped(clusters, {"column": embeddings(table)}, tmp_path, **SMALL)["cluster"])
    theirs = [inertia(table, lloyd(table, 60, 8, seed)) for seed in range(3)]
    assert inertia(table, ours) < 1.02 * float(np.mean(theirs))


def test_another_seed_gives_other_clusters(tmp_path: Path) -> None:
    column = {"column": embeddings(scattered())}
    one, two = (grouped(clusters, column, tmp_path / str(seed), **SMALL, seed=seed)["cluster"] for seed in (0, 1))
    assert one != two


def test_near_clusters_are_the_nearest_in_their_order_and_similarity_a_cosine(tmp_path: Path) -> None:
    table, points = scattered(200), scattered(9, seed=5).astype(np.float32)
    np.save(tmp_path / "points.npy", points)
    found = grouped(clusters, {"column": embeddings(table)}, tmp_path, centroids=str(tmp_path / "points.npy"))
    wide = table.astype(np.float64)
    order = ((wide[:, None] - points[None].astype(np.float64)) ** 2).sum(2).argsort(1)
    assert found["cluster"] == order[:, 0].tolist() and found["near_clusters"] == order[:, :4].tolist()
    own = points[order[:, 0]].astype(np.float64)
    cosine = (wide * own).sum(1) / np.linalg.norm(wide, axis=1) / np.linalg.norm(own, axis=1)
    assert found["cluster_similarity"] == pytest.approx(cosine.tolist(), abs=1e-6)


def test_rows_without_an_embedding_belong_to_no_cluster(tmp_path: Path) -> None:
    rows = [None, [0.0, 0.0], [np.nan, 1.0], [1.0, None], [np.inf, 0.0], [1.0, 0.5], [0.0, 1.0]]
    column = {"column": pa.array(rows, pa.list_(pa.float32()))}
    found = grouped(clusters, column, tmp_path, rows_per_cluster=1)
    assert found["cluster"][:5] == found["near_clusters"][:5] == [None] * 5
    assert sorted(found["cluster"][5:]) == [0, 1] and sorted(found["near_clusters"][5:]) == [[0, 1], [1, 0]]
    assert set(grouped(clusters, {"column": pa.nulls(3, HALVES)}, tmp_path / "none")["cluster"]) == {None}
    assert grouped(clusters, {"column": pa.nulls(0, HALVES)}, tmp_path / "empty")["cluster"] == []


def test_one_picture_a_thousand_times_is_no_obstacle(tmp_path: Path) -> None:
    """Centroids that fall together part again, and a row that is as near to two goes to the first."""
    table = np.concatenate([np.tile([[0.6, 0.8]], (1000, 1)), [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    found = grouped(clusters, {"column": embeddings(table)}, tmp_path, rows_per_cluster=100)
    assert len(set(found["cluster"][:1000])) == 1 and len(set(found["cluster"])) >= 3


def test_embeddings_of_two_lengths_are_refused_by_name(tmp_path: Path) -> None:
    column = {"column": pa.array([[1.0, 0.0], [1.0]], HALVES)}
    with pytest.raises(ValueError, match=r"column 'mine' holds embeddings of 2 and of 1 numbers"):
        grouped(clusters, column, tmp_path, column="mine")


def test_ties_within_single_precision_are_decided_exactly(tmp_path: Path) -> None:
    """Two centroids that differ by less than floats can tell: the nearer is found, whatever else is in the block."""
    chance = np.random.default_rng(1)
    x = chance.normal(size=(300, 512)).astype(np.float32)
    points = chance.normal(size=(6, 512)).astype(np.float32)
    points[3] = points[2]
    points[3, 7] += 1e-6
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": pa.array(list(x), pa.list_(pa.float32()))}), path)
    vectors = spool_vectors([path], "x", "x", tmp_path / "scratch", [points])
    units = vectors.units(points)
    exact = np.array([[int(2 * (a * b).sum() - (b * b).sum()) for b in units] for a in vectors.units(x)])
    assert len({*exact.argmax(1)[np.isin(exact.argmax(1), (2, 3))]}) == 2, "both are the nearest of some"
    found = Centroids(units.astype(np.int32), False)
    assert (found.nearest(vectors, x)[:, 0] == exact.argmax(1)).all()
    alone = np.concatenate([found.nearest(vectors, x[n : n + 1], 2) for n in range(300)])
    assert (alone == found.nearest(vectors, x, 2)).all()


def published(candidates: Array, targets: Array, centroids: Array) -> set[int]:
    """The rule as published (mlfoundations/datacomp, baselines/apply_filter.py), in a few lines of our own."""
    hit = set((targets @ centroids.T).argmax(1).tolist())
    return {row for row, label in enumerate((candidates @ centroids.T).argmax(1).tolist()) if label in hit}


def test_target_clusters_keep_what_the_published_rule_keeps(tmp_path: Path) -> None:
    table, targets, centroids = scattered(2000), scattered(30, seed=1), scattered(150, seed=2)
    np.save(tmp_path / "targets.npy", targets)
    np.save(tmp_path / "centroids.npy", centroids)
    knobs = {"target": str(tmp_path / "targets.npy"), "centroids": str(tmp_path / "centroids.npy")}
    wanted = published(*(t.astype(np.float32) for t in (table, targets, centroids)))
    assert 50 < len(wanted) < 1950
    for number, cut in enumerate(cuts(2000)):
        found = grouped(target_clusters, {"column": embeddings(table)}, tmp_path / str(number), cut, **knobs)
        assert {row for row, n in enumerate(found["cluster_targets"]) if n >= 1} == wanted


def test_targets_may_be_the_columns_that_a_run_left(tmp_path: Path) -> None:
    table, targets = scattered(500), scattered(20, seed=1)
    np.save(tmp_path / "targets.npy", targets)
    for number, part in enumerate((targets[:5], targets[5:])):
        pq.write_table(pa.table({"mine": embeddings(part)}), tmp_path / f"t{number}.parquet")
    ways = [
        grouped(
            target_clusters,
            {"column": embeddings(table)},
            tmp_path / f"way-{end}",
            column="mine",
            target=str(tmp_path / f"t*.{end}"),
            rows_per_cluster=20,
        )
        for end in ("npy", "parquet")
    ]
    assert ways[0] == ways[1] and {0} < set(ways[0]["cluster_targets"])


@pytest.mark.parametrize(
    ("target", "words"),
    [("none/*.npy", "found none"), ("{}/x.txt", "must name .npy or .parquet"), ("{}/odd.npy", "numbers, the file's")],
)
def test_target_that_does_not_fit_is_refused(tmp_path: Path, target: str, words: str) -> None:
    (tmp_path / "x.txt").write_text("x")
    np.save(tmp_path / "odd.npy", np.ones((3, 7), np.float32))
    with pytest.raises(ValueError, match=words):
        grouped(target_clusters, {"column": embeddings(scattered(50))}, tmp_path / "w", target=target.format(tmp_path))
