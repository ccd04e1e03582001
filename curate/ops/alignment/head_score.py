"""The op head_score: a score by a small head on embeddings that an earlier step has kept. No image is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.lacks import MachineError
from curate.models.files import ModelError, file_digest
from curate.models.heads import Activation, load_head
from curate.ops.spec import Columns, EmbeddingColumn, Knobs, Maker, op


@op(reads=(), writes={"head_score": pa.float32()}, version=1, batch_size=4096)
class head_score:  # noqa: N801 - ops are named as recipes name them
    """Score of a linear head, or a small network, on a kept embedding made of length 1; null without an embedding.

    LAION's aesthetic predictor v2 is one vector, w.x + 5.2366, on OpenAI's ViT-L/14 (Schuhmann 2022); their detector of
    indecent pictures, one's own (`curate head train`) and others are alike. `head`: a safetensors file (see
    curate.models.heads). A head says which tower it was made on, and is refused where another made the vectors;
    `tower` says it of a file that does not, or where one tower has two names. `activation`: of a file of several layers
    that does not say it. The score is computed in double precision.
    """

    def __init__(
        self,
        *,
        head: str,
        column: EmbeddingColumn = "clip_image_embedding",
        tower: str = "",
        activation: Activation | None = None,
    ) -> None:
        self._head = load_head(Path(head), activation)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the head's file."""
        load_head(Path(knobs["head"]), knobs["activation"])
        return file_digest(Path(knobs["head"]))

    @staticmethod
    def fits(knobs: Knobs, makers: Mapping[str, Maker]) -> None:
        """Refuse vectors of another tower than the head's. Raises ModelError."""
        head, maker = load_head(Path(knobs["head"]), knobs["activation"]), makers["column"]
        wanted = knobs["tower"] or head.card.tower
        towers = getattr(maker.function, "towers", None)
        found = towers(maker.knobs)[maker.column] if towers else None
        name = f"column {knobs['column']!r}"
        if not wanted:
            made = f"; the vectors of {name} are of {found.name!r}" if found else ""
            raise ModelError(f"head {knobs['head']} does not say which tower it is for: write `tower:`{made}")
        if found is None:
            return  # an op of one's own that does not name its tower: the width is compared when rows come
        if wanted != found.name:
            raise ModelError(
                f"head {knobs['head']} is for {wanted!r}, the vectors of {name} are of {found.name!r}; where both are"
                f" one tower, write `tower: {found.name}`"
            )
        if found.dims not in (None, head.dims):
            raise ModelError(f"head {knobs['head']} reads {head.dims} numbers, {name} holds {found.dims}")

    def __call__(self, embeddings: Sequence[np.ndarray[Any, Any] | None]) -> Columns:
        """One score a vector."""
        there = [vector for vector in embeddings if vector is not None]
        if odd := next((len(vector) for vector in there if len(vector) != self._head.dims), None):
            raise MachineError(f"op head_score: its head reads {self._head.dims} numbers, the vectors have {odd}")
        scores = iter(self._head(np.stack(there).astype(np.float64)).tolist() if there else ())
        return {"head_score": [None if vector is None else next(scores) for vector in embeddings]}
