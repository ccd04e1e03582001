"""What semantic duplicates promise: each rule as it is written down, on any cut of rows, with skewed clusters too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from grouping import HALVES, cuts, embeddings, grouped, uid

from curate.ops.dedup import semantic
from curate.ops.dedup.semantic import semantic_duplicates
from curate.ops.select.clusters import clusters

Array = npt.NDArray[Any]
EPS = 0.05


def pool(rows: int = 400, width: int = 16, skewed: bool = False) -> Array:
    """Unit vectors: groups that hang together more or less, and strangers; `skewed`: half of all in one heap."""
    chance = np.random.default_rng(3)
    points = chance.normal(size=(rows // 4, width))
    of = chance.integers(0, len(points), rows)
    table = points[of] + chance.uniform(0, 0.35, (rows, 1)) * chance.normal(size=(rows, width))
    if skewed:
        table[::2] = points[0] + 0.12 * chance.normal(size=(len(table[::2]), width))
    return (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float16)


def clustered(table: Array, folder: Path, rows_per_cluster: int = 60) -> dict[str, Any]:
    """The columns that the op reads."""
    column = {"column": embeddings(table)}
    found = grouped(clusters, column, folder, rows_per_cluster=rows_per_cluster, nearest=2)
    kinds = {"near_clusters": pa.list_(pa.int32()), "cluster_similarity": pa.float32()}
    return column | {name: pa.array(found[name], kind) for name, kind in kinds.items()}


def cosines(table: Array) -> Array:
    wide = table.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide @ wide.T


def reachable(columns: dict[str, Any]) -> Array:
    """Pairs of rows that share one of their nearest clusters."""
    cells = np.array(columns["near_clusters"].to_pylist())
    return np.array((cells[:, None, :, None] == cells[None, :, None, :]).any((2, 3)))


def by_the_letter(columns: dict[str, Any], table: Array, rule: str, order: list[int]) -> list[int | None]:
    """Each rule in a few plain lines; the row that each repeats, or None."""
    alike = cosines(table) > 1 - EPS
    np.fill_diagonal(alike, False)
    repeats: list[int | None] = [None] * len(table)
    if rule == "semdedup":
        cluster = [row[0] for row in columns["near_clusters"].to_pylist()]
        near = columns["cluster_similarity"].to_pylist()
        order = sorted(range(len(table)), key=lambda n: (near[n], uid(n)))
        for place, row in enumerate(order):
            before = [o for o in order[:place] if cluster[o] == cluster[row] and alike[row, o]]
            repeats[row] = before[0] if before else None
        return repeats
    alike &= reachable(columns)
    if rule == "greedy":
        for place, row in enumerate(order):
            before = [o for o in order[:place] if repeats[o] is None and alike[row, o]]
            repeats[row] = before[0] if before else None
        return repeats
    seen: set[int] = set()
    for first in order:
        heap = [first] if first not in seen else []
        while heap:
            row = heap.pop()
            if row not in seen:
                seen.add(row)
                repeats[row] = first if row != first else None
                heap += np.flatnonzero(alike[row]).tolist()
    return repeats


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("rule", ["greedy", "components", "semdedup"])
def test_each_rule_does_what_it_says_on_any_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, skewed: bool
) -> None:
    monkeypatch.setattr(semantic, "BLOCK", 50)  # so that cells have several blocks
    table = pool(skewed=skewed)
    columns = clustered(table, tmp_path / "clusters")
    order = sorted(range(len(table)), key=uid)
    wanted = by_the_letter(columns, table, rule, order)
    assert 60 < sum(one is not None for one in wanted) < 350
    for number, cut in enumerate(cuts(len(table))):
        found = grouped(semantic_duplicates, columns, tmp_path / str(number), cut, eps=EPS, rule=rule)
        assert found["semantic_duplicate_of"] == [None if one is None else uid(one) for one in wanted]
        cosine = cosines(table)
        similarity = [None if one is None else cosine[row, one] for row, one in enumerate(wanted)]
        given = [s for s in similarity if s is not None]
        assert [s for s in found["semantic_similarity"] if s is not None] == pytest.approx(given, abs=1e-6)


def test_rules_differ_on_a_chain_of_likenesses(tmp_path: Path) -> None:
    """Five vectors, each like the next and no other: one is left of the set, every other one, or the first."""
    angles = np.arange(5) * np.arccos(1 - EPS) * 0.8
    names = sorted(map(uid, range(5)))
    columns = {
        "uid": names,
        "column": embeddings(np.stack([np.cos(angles), np.sin(angles)], 1)),
        "near_clusters": pa.array([[0]] * 5, pa.list_(pa.int32())),
        "cluster_similarity": pa.array([0.1, 0.2, 0.3, 0.4, 0.5], pa.float32()),
    }
    found = {
        rule: grouped(semantic_duplicates, columns, tmp_path / rule, eps=EPS, rule=rule)["semantic_duplicate_of"]
        for rule in ("components", "greedy", "semdedup")
    }
    first, second, third, fourth, _ = names
    assert found["components"] == [None, first, first, first, first]
    assert found["greedy"] == [None, first, None, third, None]
    assert found["semdedup"] == [None, first, second, third, fourth]


def test_preferred_row_of_a_pair_is_kept_and_nan_is_preferred_to_nothing(tmp_path: Path) -> None:
    table = np.repeat(np.eye(4)[:3], 2, axis=0)
    columns = clustered(table, tmp_path / "c", 3)
    columns["prefer"] = pa.array([0.1, 0.9, 0.9, 0.1, float("nan"), -5.0], pa.float32())
    found = grouped(semantic_duplicates, columns, tmp_path / "s", prefer="clip_score")["semantic_duplicate_of"]
    assert found == [uid(1), None, None, uid(2), uid(5), None]


def test_rows_without_an_embedding_are_kept(tmp_path: Path) -> None:
    columns = {
        "column": pa.array([None, None, [1.0, 0.0], [1.0, 0.0]], HALVES),
        "near_clusters": pa.array([None, None, [0], [0]], pa.list_(pa.int32())),
        "cluster_similarity": pa.array([None, None, 1.0, 1.0], pa.float32()),
    }
    found = grouped(semantic_duplicates, columns, tmp_path)["semantic_duplicate_of"]
    assert found[:2] == [None, None] and found[2:].count(None) == 1
    empty = {name: values[:0] if isinstance(values, list) else values.slice(0, 0) for name, values in columns.items()}
    assert grouped(semantic_duplicates, empty, tmp_path / "empty")["semantic_duplicate_of"] == []


def test_published_order_takes_no_preference(tmp_path: Path) -> None:
    columns = clustered(pool(40), tmp_path / "c")
    columns["prefer"] = pa.array([1] * 40)
    with pytest.raises(ValueError, match="leave `prefer` out"):
        grouped(semantic_duplicates, columns, tmp_path / "s", rule="semdedup", prefer="width")
