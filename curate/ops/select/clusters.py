"""Clusters of embeddings by k-means, and DataComp's image-based filter: clusters nearest to a target set.

Both work on any column of embeddings that an earlier step wrote. Rows whose embedding is null, not finite or all zeros
belong to no cluster.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from curate.models.files import file_digest
from curate.ops._groups import BLOCK_ROWS
from curate.ops._keys import read_keys
from curate.ops._kmeans import KMeansFit, fit_centroids, load_centroids
from curate.ops._vectors import Centroids, Floats, Vectors, cosines, dense_rows, spool_vectors
from curate.ops.spec import Count, EmbeddingColumn, Knobs, Natural, Share, group_op

CLUSTERS = {"cluster": pa.int32(), "cluster_similarity": pa.float32(), "near_clusters": pa.list_(pa.int32())}
TARGETS = {"cluster_targets": pa.int64()}


def _centroids_identity(knobs: Knobs) -> str:
    return file_digest(Path(knobs["centroids"])) if knobs["centroids"] else ""


@group_op(writes=CLUSTERS, version=1)
def clusters(  # noqa: PLR0913 - a knob a choice
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    column: EmbeddingColumn = "clip_image_embedding",
    clusters: Count = 100_000,
    rows_per_cluster: Count = 128,
    iterations: Count = 20,
    fit_share: Share = 1.0,
    spherical: bool = False,
    nearest: Annotated[int, Field(ge=1, le=8)] = 4,
    centroids: str = "",
    seed: Natural = 0,
) -> None:
    """Number of the nearest centroid by k-means, the cosine to it, and the `nearest` few; null without an embedding.

    At most `clusters`, and one for `rows_per_cluster` rows: DataComp (Gadre et al. 2023, appendix) takes 100,000 for
    12.8 million, 20 iterations, and at its larger scales fits to a `fit_share` of .3 or .03, here drawn by uid.
    `spherical`: centroids of length 1, assigned by product, as SemDeDup may (Abbas et al. 2023). `centroids`: a .npy
    file (k, width) of them, which then are not fitted. The result is the same on any machine, whatever the order of
    rows. Cost: rows x clusters x width for each iteration; memory: 40 bytes a number of the centroids, 9 a row.
    """
    given = load_centroids(centroids) if centroids else None
    vectors = spool_vectors(inputs, "column", column, scratch, [given] if given is not None else [])
    if given is not None:
        points = Centroids(vectors.units(given).astype(np.int32), spherical)
    else:
        fit = KMeansFit(clusters, rows_per_cluster, iterations, fit_share, spherical)
        points = fit_centroids(vectors, read_keys(inputs, seed), fit)
    tables = (_assigned(vectors, points, rows, min(nearest, len(points))) for rows in _row_blocks(vectors))
    _write(tables, CLUSTERS, inputs, outputs)


clusters.identity = _centroids_identity  # type: ignore[attr-defined]


def _row_blocks(vectors: Vectors) -> Iterator[range]:
    return (range(at, min(at + BLOCK_ROWS, vectors.count)) for at in range(0, vectors.count, BLOCK_ROWS))


def _assigned(vectors: Vectors, centroids: Centroids, rows: range, nearest: int) -> pa.Table:
    """The columns of some rows."""
    there = vectors.valid[rows.start : rows.stop]
    mine = np.flatnonzero(there) + rows.start
    best, cosine = np.zeros((0, nearest), np.int64), np.zeros(0)
    if len(mine):
        x = vectors.floats(mine)
        best = centroids.nearest(vectors, x, nearest)
        cosine = cosines(vectors.units(x), centroids.units[best[:, 0]].astype(np.int64))
    starts = np.concatenate([[0], np.cumsum(there)]) * nearest
    near = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), pa.array(best.reshape(-1), pa.int32()))
    label, similarity = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.float32)
    label[there], similarity[there] = best[:, :1].reshape(-1), cosine
    return pa.table(
        {
            "cluster": pa.array(label, pa.int32(), mask=~there),
            "cluster_similarity": pa.array(similarity, pa.float32(), mask=~there),
            "near_clusters": pc.if_else(pa.array(there), near, pa.scalar(None, near.type)),
        }
    )


def _write(
    tables: Iterator[pa.Table], columns: dict[str, pa.DataType], inputs: Sequence[Path], outputs: Sequence[Path]
) -> None:
    """One file a shard of columns that come in blocks of all rows."""
    pending = pa.schema(list(columns.items())).empty_table()
    for source, target in zip(inputs, outputs, strict=True):
        uids = pq.read_table(source, columns=["uid"])["uid"]
        while len(pending) < len(uids):
            pending = pa.concat_tables([pending, next(tables)])
        mine, pending = pending.slice(0, len(uids)), pending.slice(len(uids))
        pq.write_table(pa.table({"uid": uids, **{name: mine[name] for name in columns}}), target)


def _target_identity(knobs: Knobs) -> str:
    digests = [file_digest(path) for path in _target_files(knobs["target"])]
    return " ".join([hashlib.sha256(" ".join(digests).encode()).hexdigest(), _centroids_identity(knobs)])


@group_op(writes=TARGETS, version=1)
def target_clusters(  # noqa: PLR0913 - a knob a choice
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    target: str,
    column: EmbeddingColumn = "clip_image_embedding",
    clusters: Count = 100_000,
    rows_per_cluster: Count = 128,
    iterations: Count = 20,
    fit_share: Share = 1.0,
    centroids: str = "",
    seed: Natural = 0,
) -> None:
    """Count the embeddings of a target set whose centroid is the row's: DataComp's image-based filter keeps 1 or more.

    Gadre et al. 2023, section 3.3; its target set is ImageNet-1k. Centroids are fitted by k-means as in `clusters`, and
    rows and targets assigned to that of the largest product, as published. `target`: a .npy file (n, width), or Parquet
    files with a column called as this step's `column`, as a run leaves them that scored the target images with the same
    model: `work/imagenet/pool-*/columns/clip_score-*/*.parquet`. Null without an embedding.
    """
    paths = _target_files(target)
    given = [load_centroids(centroids)] if centroids else []
    bound = [_largest(path, column) for path in paths]
    vectors = spool_vectors(inputs, "column", column, scratch / "rows", [*given, *bound])
    if given:
        points = Centroids(vectors.units(given[0]).astype(np.int32), True)
    else:
        fitted = fit_centroids(
            vectors, read_keys(inputs, seed), KMeansFit(clusters, rows_per_cluster, iterations, fit_share, False)
        )
        points = Centroids(fitted.units, True)
    hits = np.zeros(len(points), np.int64)
    for block in (block for path in paths for block in _target_blocks(path, column)):
        if len(points):
            hits += np.bincount(points.nearest(vectors, block)[:, 0], minlength=len(points))
    tables = (_hit(vectors, points, hits, rows) for rows in _row_blocks(vectors))
    _write(tables, TARGETS, inputs, outputs)


target_clusters.identity = _target_identity  # type: ignore[attr-defined]


def _hit(vectors: Vectors, points: Centroids, hits: npt.NDArray[np.int64], rows: range) -> pa.Table:
    there = vectors.valid[rows.start : rows.stop]
    found = np.zeros(len(rows), np.int64)
    mine = np.flatnonzero(there) + rows.start
    if len(mine):
        found[there] = hits[points.nearest(vectors, vectors.floats(mine))[:, 0]]
    return pa.table({"cluster_targets": pa.array(found, pa.int64(), mask=~there)})


def _target_files(target: str) -> list[Path]:
    """The files that `target` names, a path or a pattern. Raises ValueError."""
    found = sorted(Path(path) for path in glob.glob(target))
    odd = [path for path in found if path.suffix not in (".npy", ".parquet")]
    if not found or odd:
        raise ValueError(
            f"`target` {target!r} must name .npy or .parquet files, found {str(odd[0]) if odd else 'none'}"
        )
    return found


def _target_blocks(path: Path, column: str) -> Iterator[Floats]:
    """The embeddings in a file, in blocks; those that are null or not finite left out. Raises ValueError."""
    if path.suffix == ".npy":
        table = load_centroids(str(path))
        yield from (table[at : at + BLOCK_ROWS] for at in range(0, len(table), BLOCK_ROWS))
        return
    with pq.ParquetFile(path) as file:
        if column not in file.schema_arrow.names:
            raise ValueError(f"{path}: no column {column!r}; it has {', '.join(file.schema_arrow.names)}")
        for batch in file.iter_batches(BLOCK_ROWS, columns=[column], use_threads=False):
            lists = batch.column(0)
            width = next((len(one) for one in lists if one.is_valid), 0)
            table, there = dense_rows(lists, width, np.float32, f"{path}: column {column!r}")
            yield table[there]


def _largest(path: Path, column: str) -> Floats:
    """(1, width) the largest size of each number in a file: what it must be possible to express."""
    found = [np.abs(block).max(axis=0) for block in _target_blocks(path, column) if len(block)]
    if not found:
        raise ValueError(f"{path}: holds no embedding")
    return np.asarray(np.max(found, axis=0)[None, :], np.float32)
