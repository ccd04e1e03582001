"""Call ops on labelled pools and score what their rules drop: recall, precision, ROC AUC.

A pool holds clean items and faulty ones, told by `fault`. An op is called as the engine calls it, and its rule is
written as a recipe writes it.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curate.image.files import decode
from curate.ops.spec import Failed, spec_of
from curate.ops.table import OPS, find_op
from curate.sample import uid_of
from pipelines.materials.drawings import roc_auc

CLEAN = ""
Keep = Mapping[str, Mapping[str, Any]]
SHARD_ROWS = 1000


@dataclass(frozen=True)
class Item:
    """One row of a labelled pool. `fault` is CLEAN or the fault's name; `of` names what the item shows or says, and
    copies share it."""

    name: str
    fault: str = CLEAN
    image_bytes: bytes = b""
    text: str = ""
    of: str = ""

    @property
    def uid(self) -> str:
        """32 hex digits, by name and fault."""
        return uid_of("caption", self.name, self.fault)


@dataclass(frozen=True)
class Scored:
    """The score of a row, or of a peer on the same pool: shares in [0, 1]; None where the figure says nothing."""

    who: str
    faulty: int
    clean: int
    recall: float
    precision: float | None
    auc: float | None = None

    def cells(self) -> str:
        """Faulty and clean items, recall, precision and AUC as cells of a Markdown table."""
        shown = ["-" if v is None else f"{v:.3f}" for v in (self.recall, self.precision, self.auc)]
        return f"{self.faulty:,} / {self.clean:,} | " + " | ".join(shown)


def score(op: str, keep: Keep, fault: str, items: Sequence[Item], knobs: Mapping[str, Any]) -> Scored:
    """Score a row op, by one rule on one column, on the items that are clean or have the fault."""
    asked = [item for item in items if item.fault in (CLEAN, fault)]
    ((column, condition),) = keep.items()
    ((kind, value),) = condition.items()
    values = computed(op, asked, knobs)[column]
    faulty = np.array([item.fault != CLEAN for item in asked], bool)
    worth = np.array([worth_of(v, kind, value) for v in values])
    auc = None if kind in ("in", "not_in") else roc_auc(worth[~faulty], worth[faulty])
    shares = ratios(faulty, ~kept(values, kind, value))
    return Scored(op, int(faulty.sum()), int((~faulty).sum()), *shares, auc)


def ratios(faulty: np.ndarray[Any, Any], dropped: np.ndarray[Any, Any]) -> tuple[float, float | None]:
    """Recall: of the faulty, those dropped. Precision: of the dropped, those faulty."""
    right = float((faulty & dropped).sum())
    return right / max(1, faulty.sum()), right / dropped.sum() if dropped.any() else None


def kept(values: Sequence[Any], kind: str, value: Any) -> np.ndarray[Any, Any]:
    """Rows that a rule of one condition keeps; what has no value, or failed, breaks it."""
    tests: Mapping[str, Callable[[Any], bool]] = {
        "min": lambda v: v >= value, "max": lambda v: v <= value, "is": lambda v: v == value,
        "in": lambda v: v in value, "not_in": lambda v: v not in value,
    }  # fmt: skip
    if kind == "top":
        numbers = np.array([worth_of(v, kind, value) for v in values])
        found = np.zeros(len(values), bool)
        found[np.argsort(-numbers, kind="stable")[: int(np.ceil(value * len(values)))]] = True
        return found
    return np.array([not (v is None or isinstance(v, Failed)) and tests[kind](v) for v in values], bool)


def worth_of(value: Any, kind: str, wanted: Any) -> float:
    """The value as a number of which more is better in the rule's eyes."""
    if value is None or isinstance(value, Failed):
        return -np.inf
    return (
        float(value == wanted) if kind in ("is", "in", "not_in") else -float(value) if kind == "max" else float(value)
    )


def computed(op: str, items: Sequence[Item], knobs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """A row op's columns of the items, in batches of its own size."""
    function = find_op(op)
    spec = spec_of(function)
    call = function(**knobs) if isinstance(function, type) else lambda *args: function(*args, **knobs)
    found: dict[str, list[Any]] = {name: [] for name in spec.writes}
    for start in range(0, len(items), spec.batch_size):
        batch = items[start : start + spec.batch_size]
        columns = call(*([read(item, name) for item in batch] for name in spec.reads))
        for name, values in columns.items():
            found[name] += values
    return found


def read(item: Item, name: str) -> Any:
    """The part of an item that an op reads: text, image_bytes, decoded, image or uid."""
    if name == "image":
        return picture(item)
    if name == "decoded":
        return decode(item.image_bytes)
    return getattr(item, name)


def picture(item: Item) -> Image.Image:
    """The item's picture, which decodes."""
    image = decode(item.image_bytes).image
    assert image is not None, item
    return image


def png(image: Image.Image) -> bytes:
    """The picture's PNG."""
    image.save(out := io.BytesIO(), "PNG")
    return out.getvalue()


Removed = Mapping[str, str]
"""uid of a removed item -> uid of the kept one that it repeats."""


def removed_by(op: str, items: Sequence[Item], knobs: Mapping[str, Any]) -> dict[str, str]:
    """Remove copies by a group op, with the row op before it, over shards of SHARD_ROWS."""
    function = find_op(op)
    after = spec_of(function).after
    assert after is not None, op
    before = spec_of(after)
    columns = computed(next(n for n in OPS if find_op(n) is after), items, _known(before.knobs, knobs))
    with tempfile.TemporaryDirectory() as home:
        inputs, outputs = [], []
        for start in range(0, len(items), SHARD_ROWS):
            part = slice(start, start + SHARD_ROWS)
            table = {name: pa.array(columns[name][part], kind) for name, kind in before.writes.items()}
            table["uid"] = pa.array([item.uid for item in items[part]])
            table["nbytes"] = pa.array([len(item.image_bytes or item.text.encode()) for item in items[part]])
            inputs.append(Path(home) / f"{start}.in.parquet")
            outputs.append(Path(home) / f"{start}.out.parquet")
            pq.write_table(pa.table(table), inputs[-1])
        function(inputs, outputs, Path(home) / "scratch", **_known(spec_of(function).knobs, knobs))
        rows = [row for path in outputs for row in pq.read_table(path).to_pylist()]
    return {row["uid"]: row["duplicate_of"] for row in rows if row["duplicate_of"]}


def _known(names: Mapping[str, Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in knobs.items() if name in names}


def score_copies(who: str, items: Sequence[Item], removed: Removed) -> dict[str, Scored]:
    """By kind of copy, and of `all`: recall (the copy, or what it copies, was removed as the same thing) and precision
    (of all that was removed, what is the same thing as what it was removed for)."""
    by_uid = {item.uid: item for item in items}
    assert len(by_uid) == len(items), "two items have one name and fault"
    right = [uid for uid, of in removed.items() if by_uid[uid].of == by_uid[of].of]
    reached = {by_uid[uid].of for uid in right}
    copies = [item for item in items if item.fault != CLEAN]
    precision = len(right) / len(removed) if removed else None
    found = {}
    for kind in [*dict.fromkeys(item.fault for item in copies), "all"]:
        of_kind = [item for item in copies if kind in (item.fault, "all")]
        share = sum(item.of in reached for item in of_kind) / max(1, len(of_kind))
        found[kind] = Scored(who, len(of_kind), len(items) - len(copies), share, precision if kind == "all" else None)
    return found


def removed_at(items: Sequence[Item], likeness: np.ndarray[Any, Any], least: float, order: Sequence[int]) -> Removed:
    """Greedy removal by a matrix of likenesses: in `order`, what is like a kept item goes, as the likest one's copy."""
    keeps: list[int] = []
    removed = {}
    for number in order:
        near = likeness[number, keeps]
        if len(keeps) and near.max() >= least:
            removed[items[number].uid] = items[keeps[int(near.argmax())]].uid
        else:
            keeps.append(number)
    return removed


def best_removal(
    items: Sequence[Item], likeness: np.ndarray[Any, Any], thresholds: Sequence[float], precision: float = 0.98
) -> tuple[float, Removed]:
    """A peer's best case: the lowest threshold at which its precision on this very pool is enough, else the best."""
    order = np.argsort([-len(item.image_bytes or item.text) for item in items], kind="stable").tolist()
    tried = {t: removed_at(items, likeness, t, order) for t in thresholds}
    told = {t: score_copies("", items, removed)["all"] for t, removed in tried.items()}
    good = [t for t in thresholds if (told[t].precision or 0) >= precision]
    best = max(good, key=lambda t: told[t].recall) if good else max(thresholds, key=lambda t: told[t].precision or 0)
    return best, tried[best]
