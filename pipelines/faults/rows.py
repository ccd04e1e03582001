"""The rows of the table of quality: an op for a fault, its rule, and how good it must at least be.

A row of an op that the table of ops does not hold is passed over and named: it comes alive with the op.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curate.ops.table import OPS
from pipelines.faults.table import Keep


@dataclass(frozen=True)
class FilterRow:
    """A line of the table: on a pool, an op and its rule for a fault; `floor`: the least recall, precision and AUC."""

    pool: str
    fault: str
    op: str
    keep: Keep
    knobs: Mapping[str, Any] = field(default_factory=dict)
    floor: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def is_here(self) -> bool:
        """Whether there is such an op."""
        return self.op in OPS

    @property
    def rule(self) -> str:
        """The rule as a recipe says it."""
        ((column, condition),) = self.keep.items()
        ((kind, value),) = condition.items()
        return f"{column} {kind} {value}"


ROWS: tuple[FilterRow, ...] = (
    FilterRow("pictures", "truncated", "image_ok", {"image_ok": {"is": True}}, floor=(1.0, 1.0, 1.0)),
    FilterRow("pictures", "blank", "colour_levels", {"colour_levels": {"min": 16}}, floor=(1.0, 1.0, 1.0)),
    FilterRow("pictures", "blurred", "sharpness", {"edge_acuity": {"top": 0.5}}),
    FilterRow("pictures", "grey", "colours", {"chroma_levels": {"top": 0.5}}),
    FilterRow("pairs", "caption printed on it", "text_masked_clip_score", {"masked_clip_score": {"top": 0.5}}),
    FilterRow("pairs", "swapped caption", "clip_score", {"clip_score": {"top": 0.5}}, floor=(0.85, 0.85, 0.95)),
    FilterRow("pairs, unknown things", "swapped caption", "clip_score", {"clip_score": {"top": 0.5}}),
    FilterRow("pairs", "caption printed on it", "clip_score", {"clip_score": {"top": 0.5}}),
    FilterRow("pairs", "file name as caption", "text_basic", {"boilerplate": {"is": False}}, floor=(0.95, 0.99, 0.95)),
    FilterRow("languages, long", "other language", "language", {"language": {"in": ["en"]}}, floor=(0.9, 0.98, 0.0)),
    FilterRow("languages, short", "other language", "language", {"language": {"in": ["en"]}}, floor=(0.9, 0.9, 0.0)),
    FilterRow("languages, names", "other language", "language", {"language": {"in": ["en"]}}, floor=(0.7, 0.8, 0.0)),
    FilterRow("languages, mixed", "mixed languages", "language", {"language_probability": {"min": 0.8}}),
    FilterRow("leaks", "leaked word for word", "contamination", {"contaminated_runs": {"max": 0}},
              floor=(0.98, 0.98, 0.98)),
    FilterRow("leaks", "leaked in capitals", "contamination", {"contaminated_runs": {"max": 0}},
              floor=(0.98, 0.98, 0.98)),
    FilterRow("leaks", "leaked, 5 % of words edited", "contamination", {"contaminated_runs": {"max": 0}},
        floor=(0.7, 0.9, 0.8)),
    FilterRow("repetition", "a sentence repeated", "gopher_repetition", {"gopher_repeated_10_grams": {"max": 0.1}},
        floor=(0.85, 0.9, 0.95)),
    *(FilterRow(f"personal data: {kind}", f"has {kind}", "pii", {f"pii_{kind}": {"max": 0}}, floor=(0.95, 0.95, 0.95))
      for kind in ("email", "ip", "phone", "card", "iban", "ssn", "key")),
)  # fmt: skip


@dataclass(frozen=True)
class CopiesRow:
    """A line of the table for a group op that removes copies; `floor`: the least recall and precision over all kinds,
    `least`: the least recall of any kind."""

    pool: str
    op: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    floor: tuple[float, float] = (0.0, 0.0)
    least: float = 0.0


COPIES_ROWS: tuple[CopiesRow, ...] = (
    CopiesRow("copies of photographs", "duplicate_images", floor=(0.35, 0.95)),
    CopiesRow("copies of cut-outs", "duplicate_images", floor=(0.35, 0.95)),
    CopiesRow("copies of drawings", "duplicate_images", floor=(0.35, 0.95)),
    CopiesRow("copies of screenshots", "duplicate_images", floor=(0.25, 0.95)),
    CopiesRow("copies of texts", "near_duplicate_texts", floor=(0.4, 0.9)),
)
