"""Score the demo's rules by the labels of its raw web: precision and recall a plant, AUC of scores."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.materials.drawings import roc_auc

ENDED_BY: Mapping[str, tuple[str, ...]] = {
    "swapped": ("clip_score",),
    "copy": ("duplicate_of",),
    "other_language": ("language", "language_probability"),
    "boilerplate": ("boilerplate", "boilerplate_phrase", "word_count", "characters", "letter_share"),
    "tiny": ("min_side", "max_side", "width", "height", "aspect"),
    "truncated": ("truncated_image", "image_ok"),
    "empty": ("empty_body", "empty_file"),
    "html": ("html_instead_of_image",),
    "not_an_image": ("not_an_image",),
    "bomb": ("image_too_large",),
    "dead": ("http_404", "http_410", "http_500", "connection_refused"),
    "slow": ("timeout",),
    "opt_out": ("opt_out",),
}
"""For each plant, the columns whose rules, or the names of the errors, that should end its rows."""

FAULTS = frozenset(ENDED_BY) - {"swapped", "copy", "other_language", "boilerplate"}
"""Plants whose rows have no picture to compare, or a tiny one."""


@dataclass(frozen=True)
class RuleScore:
    """The score of a plant's rules. `reached`: of the `planted` rows those that no earlier step ended. `ended`: rows
    that the plant's rules or errors ended, `right` of them planted.

    For copies, planted counts all rows but one of each group that shows the same picture, FAULTS left aside: what
    a perfect rule drops, wherever the pair comes from (several names have one drawing).
    """

    plant: str
    ended_by: tuple[str, ...]
    planted: int
    reached: int
    ended: int
    right: int

    @property
    def precision(self) -> float | None:
        """Share of the ended rows that were planted."""
        return self.right / self.ended if self.ended else None

    @property
    def recall(self) -> float | None:
        """Share of the planted rows that got there which were ended."""
        return self.right / self.reached if self.reached else None


@dataclass(frozen=True)
class _TruthRow:
    label: Mapping[str, Any]
    reason: str | None
    end: float


def score_rules(decisions: pa.Table, steps: Sequence[str]) -> list[RuleScore]:
    """Score each plant, in ENDED_BY's order.

    `decisions`: a row a sample with `step` and `rule` (null where kept; a rule is `column.condition`, or an error's
    name) and `meta`, whose JSON holds the demo's label. `steps`: the labels of the steps in the recipe's order, from
    `ingest` on. A row that an earlier step ended could not be found by a later one and counts as not reached.
    """
    order = {step: number for number, step in enumerate(steps)}
    columns = (decisions[name].to_pylist() for name in ("step", "rule", "meta"))
    rows = [_row(step, rule, meta, order) for step, rule, meta in zip(*columns, strict=True)]
    return [_copies(rows) if plant == "copy" else _planted(plant, rows) for plant in ENDED_BY]


def _row(step: str | None, rule: str | None, meta: str, order: Mapping[str, int]) -> _TruthRow:
    reason = None if rule is None else rule.partition(".")[0]
    return _TruthRow(label_of(meta), reason, float("inf") if step is None else order[step])


def label_of(meta: str) -> Mapping[str, Any]:
    """The demo's label in a row's meta; it is JSON inside JSON, since it came as a table's column."""
    label = json.loads(meta)["label"]
    found: Mapping[str, Any] = json.loads(label) if isinstance(label, str) else label
    return found


def _planted(plant: str, rows: Sequence[_TruthRow]) -> RuleScore:
    names = ENDED_BY[plant]
    ended = [row for row in rows if row.reason in names]
    step = min((row.end for row in ended), default=0.0)
    planted = [row for row in rows if row.label["plant"] == plant]
    right = sum(row.label["plant"] == plant for row in ended)
    return RuleScore(plant, names, len(planted), sum(row.end >= step for row in planted), len(ended), right)


def _copies(rows: Sequence[_TruthRow]) -> RuleScore:
    names = ENDED_BY["copy"]
    ended = [row for row in rows if row.reason in names]
    step = min((row.end for row in ended), default=0.0)
    reached = [row for row in rows if row.end >= step]
    ended_of = Counter(row.label["picture"] for row in ended)
    groups = Counter(row.label["picture"] for row in reached)
    right = sum(min(count, groups[picture] - 1) for picture, count in ended_of.items())
    shown = [row for row in rows if row.label["plant"] not in FAULTS]
    return RuleScore("copy", names, _surplus(shown), _surplus(reached), len(ended), right)


def _surplus(rows: Iterable[_TruthRow]) -> int:
    return sum(count - 1 for count in Counter(row.label["picture"] for row in rows).values())


def caption_auc(scores: pa.Table, column: str = "clip_score") -> dict[str, float | None]:
    """ROC AUC of `column` telling true English captions from swapped ones, in [0, 1]; None without both.

    `scores` holds `column` and `meta` of the rows that were scored. `known`: the tiny model's training knew the things
    drawn and named, in other hands' drawings; `unknown`: it never saw the thing drawn, in any hand.
    """
    values: dict[tuple[bool, bool], list[float]] = defaultdict(list)
    for score, meta in zip(scores[column].to_pylist(), scores["meta"].to_pylist(), strict=True):
        label = label_of(meta)
        swapped = label["plant"] == "swapped"
        if score is None or label["plant"] in ("other_language", "boilerplate"):
            continue
        if swapped and label["known"] and not label["caption_known"]:
            continue
        values[label["known"], swapped].append(score)
    found = {}
    for name, is_known in (("known", True), ("unknown", False)):
        matched, swapped_scores = values[is_known, False], values[is_known, True]
        both = bool(matched and swapped_scores)
        found[name] = roc_auc(np.array(matched), np.array(swapped_scores)) if both else None
    return found
