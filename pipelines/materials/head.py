"""Train a head on the embeddings that a run has kept: logistic or ridge regression on labelled rows.

Both are fitted in double precision by L-BFGS (Liu and Nocedal 1989), with sums over the rows in one order, so that the
same labels give the same file; a fifth of the rows is held out by a digest of the uid, so that it is known what the
scores are worth.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curate.commit import commit_file
from curate.engine.stages import start_of
from curate.models.heads import EmbeddingHead, HeadCard, save_head
from curate.ops.spec import all_knobs
from curate.pool.columns import ColumnsFile
from curate.pool.layout import Pool
from curate.pool.tables import read_table
from curate.readers import tables
from curate.recipe.steps import Resolved, ResolvedRecipe, assign_fingerprints, column_maker
from curate.settings import unknown_message
from curate.sources.ingest import pool_of
from pipelines.materials.drawings import roc_auc

HELD_OUT_ONE_IN = 5
LEAST_LABELS = 20
_BLOCK = 1024
"""Rows of every partial sum."""

Floats = npt.NDArray[np.float64]
Kind = Literal["logistic", "ridge"]


class HeadTrainingError(ValueError):
    """A head that cannot be trained on what was given."""


@dataclass(frozen=True)
class LabelledRows:
    """Rows with an embedding and a label: uids, unit vectors N x D, labels N."""

    uids: list[str]
    vectors: Floats
    labels: Floats

    def only(self, rows: npt.NDArray[np.bool_]) -> LabelledRows:
        """Some of them."""
        uids = [uid for uid, here in zip(self.uids, rows.tolist(), strict=True) if here]
        return LabelledRows(uids, self.vectors[rows], self.labels[rows])


@dataclass(frozen=True)
class HeadTraining:
    """Options of training. `l2`: the weight of half the squared length of w, against the sum of the rows' losses."""

    kind: Kind = "logistic"
    column: str = "clip_image_embedding"
    l2: float = 1.0
    licence: str = "unknown"


def train(resolved: ResolvedRecipe, labels: Path, out: Path, training: HeadTraining) -> dict[str, Any]:
    """Train a head on the rows of a recipe's finished run that `labels` (columns uid and label) names; writes `out`.

    Returns what is known of it, from rows that it never saw. Raises HeadTrainingError.
    """
    pool = pool_of(resolved.recipe)
    steps = assign_fingerprints(resolved.steps, *start_of(resolved.recipe, pool))
    step, own = _maker(steps, training.column)
    towers = getattr(step.function, "towers", None)
    if towers is None:
        raise HeadTrainingError(f"column {training.column!r}: op {step.spec.name!r} does not say which tower it runs")
    tower = towers(all_knobs(step.function, step.knobs))[own]
    rows = _gather(pool, step, own, _read_labels(labels, training.kind))
    held_out = np.array([_is_held_out(uid) for uid in rows.uids], dtype=bool)
    if min(len(rows.uids) - held_out.sum(), held_out.sum()) < LEAST_LABELS / HELD_OUT_ONE_IN:
        few = f"{len(rows.uids)} of its rows have an embedding"
        raise HeadTrainingError(f"{labels}: {few}; {LEAST_LABELS} are the least")
    seen = rows.only(~held_out)
    weight, bias = fit(seen.vectors, seen.labels, training)
    trained_on = f"{resolved.recipe.name}: {len(seen.uids)} labelled rows"
    output: Literal["sigmoid", "identity"] = "sigmoid" if training.kind == "logistic" else "identity"
    head = EmbeddingHead(
        ((weight[None], np.array([bias])),), HeadCard(tower.name, "none", output, training.licence, trained_on)
    )
    with commit_file(out) as temporary:
        save_head(temporary, head)
    unseen = rows.only(held_out)
    judged = judge(head(unseen.vectors), unseen.labels, training.kind)
    return {"head": str(out), "kind": training.kind, "tower": tower.name, "dims": head.dims,
            "trained_on": len(seen.uids), "held_out": judged}  # fmt: skip


def _maker(steps: list[Resolved], column: str) -> tuple[Resolved, str]:
    made = column_maker(steps, column)
    if made is None:
        known = [name for step in steps for name in step.columns.values()]
        raise HeadTrainingError(f"the recipe has no {unknown_message('column', column, known)}")
    return steps[made], next(own for own, shown in steps[made].columns.items() if shown == column)


def _read_labels(path: Path, kind: Kind) -> dict[str, float]:
    found: dict[str, float] = {}
    for number, row in enumerate(tables.read(path, ("uid", "label")), 1):
        if isinstance(row, tables.BadRow):
            raise HeadTrainingError(f"{path}: row {number}: {row.detail}")
        try:
            label = float(row["label"])
        except (TypeError, ValueError):
            label = math.nan
        if not math.isfinite(label) or (kind == "logistic" and label not in (0, 1)):
            wanted = "0 or 1" if kind == "logistic" else "a number"
            raise HeadTrainingError(f"{path}: row {number}: the label is {row['label']!r}, {kind} wants {wanted}")
        if found.setdefault(str(row["uid"]), label) != label:
            raise HeadTrainingError(f"{path}: row {number}: uid {row['uid']} has another label above; keep one")
    if kind == "logistic" and len(set(found.values())) < 2:
        raise HeadTrainingError(f"{path}: all labels are the same; rows of 0 and rows of 1 are wanted")
    return found


def _gather(pool: Pool, step: Resolved, own: str, labels: Mapping[str, float]) -> LabelledRows:
    """The labelled rows that have an embedding, in the order of their uids; a shard at a time."""
    found: dict[str, Floats] = {}
    for shard in range(len(pool.shards)):
        path = pool.columns(step.key, shard)
        if not path.exists():
            raise HeadTrainingError(f"{path}: not there; run the recipe first")
        uids = read_table(pool.rows(shard), ["uid"])["uid"].to_pylist()
        wanted = np.array([row for row, uid in enumerate(uids) if uid in labels], np.int64)
        values = ColumnsFile(path).column(own).take(wanted)
        for row, vector in zip(wanted.tolist(), values, strict=True):
            if vector.is_valid:
                found[uids[row]] = np.asarray(vector.values.to_numpy(zero_copy_only=False), np.float64)
    order = sorted(found)
    vectors = np.array([found[uid] / max(math.sqrt(float(np.square(found[uid]).sum())), 1e-12) for uid in order])
    return LabelledRows(order, vectors, np.array([labels[uid] for uid in order]))


def _is_held_out(uid: str) -> bool:
    return hashlib.blake2b(uid.encode(), digest_size=8).digest()[0] % HELD_OUT_ONE_IN == 0


def fit(vectors: Floats, labels: Floats, training: HeadTraining) -> tuple[Floats, float]:
    """The weight, D, and bias of a regression on unit vectors, N x D; the bias is not held small."""
    from scipy.optimize import minimize

    middle = float(labels.mean()) if training.kind == "ridge" else 0.0

    def loss(point: Floats) -> tuple[float, Floats]:
        weight, total, slope = point[:-1], 0.0, np.zeros_like(point)
        for start in range(0, len(vectors), _BLOCK):
            some, wanted = vectors[start : start + _BLOCK], labels[start : start + _BLOCK] - middle
            scores = (some * weight).sum(axis=1) + point[-1]  # no BLAS: its sums hang on the number of threads
            if training.kind == "logistic":
                total += float((np.logaddexp(0, scores) - wanted * scores).sum())
                residual = 1 / (1 + np.exp(-scores)) - wanted
            else:
                residual = scores - wanted
                total += float(np.square(residual).sum()) / 2
            slope[:-1] += (some * residual[:, None]).sum(axis=0)
            slope[-1] += residual.sum()
        slope[:-1] += training.l2 * weight
        return total + training.l2 * float(np.square(weight).sum()) / 2, slope

    start = np.zeros(vectors.shape[1] + 1)
    done = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-7})
    return done.x[:-1], float(done.x[-1]) + middle


def judge(scores: Floats, labels: Floats, kind: Kind) -> dict[str, Any]:
    """Judge scores by labels of rows that were held out: of 0 and 1 by ROC AUC, and the precision of the best tenth."""
    if kind == "ridge":
        spread = float(np.square(labels - labels.mean()).sum())
        return {"rows": len(labels), "r2": 1 - float(np.square(labels - scores).sum()) / spread if spread else None}
    positive = labels == 1
    both = bool(positive.any() and (~positive).any())
    return {
        "rows": len(labels),
        "positives": int(positive.sum()),
        "roc_auc": round(roc_auc(scores[positive], scores[~positive]), 4) if both else None,
        "best": dict(_best(scores, positive)),
    }


def _best(scores: Floats, positive: npt.NDArray[np.bool_]) -> Iterator[tuple[str, dict[str, float]]]:
    """Of the rows with the largest scores, by share: the least score among them, their precision, and the recall."""
    order = np.argsort(-scores, kind="stable")
    for share in (0.1, 0.2, 0.5):
        some = order[: math.ceil(share * len(order))]
        right = int(positive[some].sum())
        yield (
            f"{share:g}",
            {
                "from": float(scores[some[-1]]),
                "precision": round(right / len(some), 4),
                "recall": round(right / max(1, int(positive.sum())), 4),
            },
        )
