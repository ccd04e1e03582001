"""Leaks by embedding: how near a row's kept vector is to those of an evaluation set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.lacks import MachineError
from curate.models.files import ModelError, file_digest
from curate.ops.spec import Columns, EmbeddingColumn, Knobs, op


@op(
    reads=(),
    writes={"evaluation_cosine": pa.float32(), "evaluation_item": pa.int64()},
    version=1,
    batch_size=1024,
)
class near_evaluation:  # noqa: N801 - ops are named as recipes name them
    """Cosine of a kept vector and the nearest of an evaluation set, and which that is (from 0; the first of equals).

    `vectors`: a NumPy file (.npy) of (items, dims) numbers, made by the same tower as `column`. For copies: SSCD's
    vectors (`copy_descriptor`) above .75 (Pizzi et al. 2022). Null without an embedding, and for one of zeros or NaN.
    Cost: items x dims a row. Raises ModelError for a file that is not such an array.
    """

    def __init__(self, *, vectors: str, column: EmbeddingColumn = "copy_embedding") -> None:
        self._vectors = _load(Path(vectors))

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the file of vectors."""
        return file_digest(Path(knobs["vectors"]))

    def __call__(self, embeddings: Sequence[npt.NDArray[Any] | None]) -> Columns:
        """One answer a vector."""
        found = [None if vector is None else self._nearest(vector) for vector in embeddings]
        return {
            "evaluation_cosine": [near and near[0] for near in found],
            "evaluation_item": [near and near[1] for near in found],
        }

    def _nearest(self, vector: npt.NDArray[Any]) -> tuple[float, int] | None:
        dims = self._vectors.shape[1]
        if len(vector) != dims:
            raise MachineError(f"op near_evaluation: its file holds {dims} numbers an item, the vectors {len(vector)}")
        own = np.asarray(vector, np.float32)
        length = float(np.linalg.norm(own))
        if not 0 < length < np.inf:
            return None
        # A row at a time: in one product of all rows the last bits would depend on how many there are.
        cosines = self._vectors @ (own / np.float32(length))
        item = int(cosines.argmax())
        return float(cosines[item]), item


def _load(path: Path) -> npt.NDArray[np.float32]:
    """(items, dims) vectors of length 1."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise ModelError(f"near_evaluation: {path} is not a NumPy file (.npy) of vectors: {err}") from err
    if not isinstance(found, np.ndarray) or found.ndim != 2 or not found.size or found.dtype.kind != "f":
        raise ModelError(f"near_evaluation: {path} must hold floats of shape (items, dims), one item or more")
    vectors = found.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        odd = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
        raise ModelError(f"near_evaluation: item {odd} of {path} is no vector: zeros, NaN or infinite")
    return np.asarray(vectors / lengths)
