"""The HTML page of a run: the funnel, what each rule saw and dropped, what failed, what was kept.

One file without scripts: pictures are data URIs, the style is inline and allowed by its hash alone, and everything
that strangers wrote goes through the template's escaping. All drawing is SVG with plain numbers.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.engine.remedies import remedy
from curate.engine.run import ShownCut, Summary
from curate.llm.model import ChatCost
from curate.pool.funnel import PartCount, StepCount
from curate.recipe.steps import Condition, Decision, Resolved
from curate.report.examples import KEPT, Group, RowSurvey, is_uid, plain, shown
from curate.report.parts import PartEnd
from curate.report.values import ShownValues
from curate.report.words import decision_words, rule_words

WIDTH, HEIGHT = 360, 120
"""A histogram's drawing area, in its own units."""

BINS = 36
CATEGORIES = 10
_FAR = 1e300
_TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class BarSegment:
    """A piece of a funnel bar, in thousandths of the rows that the run took in."""

    kind: str
    x: float
    width: float
    title: str


@dataclass(frozen=True)
class ShownEnd:
    """One rule or error of a step: its words, count, and where its examples stand."""

    anchor: str
    kind: str
    name: str
    words: str
    rows: int
    share: str
    remedy: str
    examples: Sequence[Any]


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram: rows within the rules, and above them rows that break one."""

    x: float
    width: float
    kept: float
    broken: float
    title: str


@dataclass(frozen=True)
class Chart:
    """A histogram (or, with `rows`, a list of categories) of what a rule looked at."""

    column: str
    words: str
    label: str
    bars: Sequence[Bar]
    lines: Sequence[tuple[float, str]]
    ends: tuple[str, str]
    more: str
    rows: Sequence[tuple[str, str, float, bool]]
    nulls: str


def render(summary: Summary, seen: RowSurvey) -> str:
    """The whole page."""
    import jinja2

    env = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    text = _TEMPLATE.read_text(encoding="utf-8")
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = env.from_string(text)
    return (
        template.render(
            style_hash=f"sha256-{digest}",
            name=shown(summary.recipe.name),
            info=summary.dataset,
            size=human_bytes(summary.dataset.bytes),
            rows_in=summary.funnel[0].rows_in,
            kept=summary.funnel[-1].kept,
            dropped=sum(c.dropped.total() for c in summary.funnel),
            failed=sum(c.failed.total() for c in summary.funnel),
            share=percent(summary.funnel[-1].kept, summary.funnel[0].rows_in),
            steps=[_step(n, count, summary, seen) for n, count in enumerate(summary.funnel)],
            kept_examples=seen.examples.get(KEPT, []),
            sampled=f"{seen.rows:,} of {seen.total:,} rows" if seen.rows < seen.total else "",
            plot=(WIDTH, HEIGHT),
            costs=[cost_row(cost, summary.funnel[-1].kept) for cost in summary.costs],
        )
        + "\n"
    )


def cost_row(cost: ChatCost, kept: int) -> dict[str, str]:
    """The costs of a chat model, as texts: model, requests, tokens, dollars, and these a 1,000 samples kept."""
    spent, each = cost.account.spent, cost.usd_per_1000(kept)
    return {
        "model": shown(cost.chat.endpoint.name),
        "requests": f"{spent.requests:,}",
        "tokens": f"{spent.tokens:,}",
        "usd": f"{cost.usd:.4f}",
        "each": "-" if each is None else f"{each:.4f}",
    }


def percent(part: int, whole: int) -> str:
    """`41.3 %`; a part that is not zero never reads as zero, nor one that is not all as all."""
    if not whole or not part or part == whole:
        return "100 %" if part and part == whole else "0 %"
    share = 100 * part / whole
    return "< 0.1 %" if share < 0.05 else "> 99.9 %" if share >= 99.95 else f"{share:.1f} %"


def human_bytes(size: int) -> str:
    """Bytes in decimal units, three figures."""
    value, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{size:,} bytes" if unit == "bytes" else f"{value:.3g} {unit}"


def _step(number: int, count: StepCount, summary: Summary, seen: RowSurvey) -> dict[str, Any]:
    step = next((s for s in summary.steps if s.label == count.step), None)
    conditions = step.conditions if step else ()
    words = {c.name: decision_words(c, summary.cuts) for c in conditions}
    words["unique_uid"] = "a uid that no earlier row of the source has"
    gone = [(Group("dropped", count.step, rule), n) for rule, n in _sorted(count.dropped)]
    gone += [(Group("failed", count.step, error), n) for error, n in _sorted(count.failed)]
    ends = [_end(f"step-{number}-{k}", group, n, count, seen, words) for k, (group, n) in enumerate(gone)]
    return {
        "anchor": f"step-{number}",
        "label": shown(count.step),
        "op": step.spec.name if step and step.spec.name != count.step else "",
        "summary": step.spec.summary if step else "The source's rows enter the pool: fetched or read, and named.",
        "in": count.rows_in,
        "kept": count.kept,
        "dropped": count.dropped.total(),
        "failed": count.failed.total(),
        "share": percent(count.kept, count.rows_in),
        "tallies": [
            (shown(column), [(shown(value, 60), n, percent(n, tally.total())) for value, n in _sorted(tally)])
            for column, tally in count.tallies.items()
        ],
        "segments": _segments(count, summary.funnel[0].rows_in),
        "ends": ends,
        "parts": [_parts(step, kind, parts, seen) for kind, parts in count.parts.items() if step],
        "idle": [w for c in conditions if not count.dropped.get(c.name) for w in [words[c.name]]],
        "charts": [chart for c in dict.fromkeys(name for c in conditions for name in c.columns)
                   if (chart := _chart(seen.values.get((count.step, c)), conditions, summary.cuts))],
    }  # fmt: skip


def _parts(step: Resolved, kind: str, count: PartCount, seen: RowSurvey) -> dict[str, Any]:
    """What became of the images, or the paragraphs, of the documents that came to a step."""
    conditions = next((c for of, c in step.part_conditions.items() if of == kind), ())
    words = {c.name: decision_words(c, {}) for c in conditions}
    ends = []
    for outcome, counter in (("dropped", count.dropped), ("failed", count.failed)):
        for rule, n in _sorted(counter):
            examples = seen.parts.examples.get(PartEnd(step.label, kind, outcome, rule), [])  # type: ignore[arg-type]
            ends.append(
                {
                    "kind": outcome,
                    "name": shown(rule, 60),
                    "words": words.get(rule, ""),
                    "remedy": remedy(rule) if outcome == "failed" else "",
                    "count": n,
                    "share": percent(n, count.parts_in),
                    "examples": [
                        {"what": shown(e.what), "value": shown(plain(json.loads(e.value)), 60), "uid": e.uid}
                        for e in examples
                    ],
                }
            )
    return {
        "kind": kind,
        "in": count.parts_in,
        "kept": count.kept,
        "dropped": count.dropped.total(),
        "failed": count.failed.total(),
        "ends": ends,
        "idle": [words[c.name] for c in conditions if not count.dropped.get(c.name)],
        "charts": [chart for c in dict.fromkeys(name for c in conditions for name in c.columns)
                   if (chart := _chart(seen.parts.values.get((step.label, kind, c)), conditions, {}))],  # type: ignore[arg-type]
    }  # fmt: skip


def _sorted(counter: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _end(anchor: str, group: Group, rows: int, count: StepCount, seen: RowSurvey, words: Mapping[str, str]) -> ShownEnd:
    failed = group.outcome == "failed"
    return ShownEnd(
        anchor=anchor,
        kind=group.outcome,
        name=shown(group.rule, 60),
        words="" if failed else words.get(group.rule, group.rule),
        rows=rows,
        share=percent(rows, count.rows_in),
        remedy=remedy(group.rule) if failed else "",
        examples=seen.examples.get(group, []),
    )


def _segments(count: StepCount, whole: int) -> list[BarSegment]:
    """The bar of a step: kept, then what was dropped, then what failed; nothing that exists is too thin to see."""
    parts = [("kept", "kept", count.kept)]
    parts += [("dropped", f"dropped by {rule}", n) for rule, n in _sorted(count.dropped)]
    parts += [("failed", f"failed: {error}", n) for error, n in _sorted(count.failed)]
    found, x = [], 0.0
    for kind, what, n in parts:
        width = 1000 * n / whole if whole else 0.0
        if n:
            title = f"{shown(what, 80)}: {n:,} ({percent(n, count.rows_in)})"
            found.append(BarSegment(kind, round(x, 2), round(max(width - 1.2, 1.5), 2), title))
        x += width
    return found


def _chart(values: ShownValues | None, conditions: Sequence[Decision], cuts: Mapping[str, ShownCut]) -> Chart | None:
    if values is None:
        return None
    mine = [c for c in conditions if values.column in c.columns]
    return _categories(values, mine, cuts) if values.numbers is None else histogram(values, mine, cuts)


def histogram(values: ShownValues, conditions: Sequence[Decision], cuts: Mapping[str, ShownCut]) -> Chart | None:
    """The bars of a numeric column and the lines of its `conditions`; None where no row has a finite value.

    A rule by groups, or on several columns, has no line of its own: which rows broke it is told by their ends.
    """
    assert values.numbers is not None
    finite = np.isfinite(values.numbers)
    numbers = values.numbers[finite]
    if not len(numbers):
        return None
    whole = bool((numbers == np.round(numbers)).all())
    lined = [c for c in conditions if isinstance(c, Condition) and c.by is None]
    limits = _limits(lined, cuts, whole)
    edges = _edges(numbers, [at for at, _ in limits], whole)
    broken = values.ended[finite] | _breaks(numbers, lined, cuts)
    inside = np.clip(numbers, edges[0], edges[-1])
    fine, bad = (np.histogram(inside[pick], edges)[0].tolist() for pick in (~broken, broken))
    counts = list(zip(fine, bad, strict=True))
    tallest = max(map(sum, counts))
    column, low, high = shown(values.column, 60), float(numbers.min()), float(numbers.max())
    words = _and(values.column, conditions, cuts)
    label = f"Histogram of {column}: {len(numbers):,} {values.of} from {plain(low)} to {plain(high)}"
    return Chart(
        column=column,
        words=words,
        label=f"{label}; {int(broken.sum()):,} are outside: {words}.",
        bars=[
            _bar(n, edges, (f, b), tallest, values.of) for n, (f, b) in enumerate(zip(fine, bad, strict=True)) if f + b
        ],
        lines=[(_x(at, edges), text) for at, text in limits],
        ends=(_tick(low, edges[0], whole, "≤ "), _tick(high, edges[-1], whole, "≥ ")),
        more=f"{tallest:,} {values.of}",
        rows=[],
        nulls=_count(len(values.numbers) - len(numbers)),
    )


def _limits(conditions: Sequence[Condition], cuts: Mapping[str, ShownCut], whole: bool) -> list[tuple[float, str]]:
    """Where lines stand, and what they say; of whole numbers a line stands between the two that it parts."""
    found = []
    for condition in conditions:
        value: Any = cuts.get(condition.name) if condition.is_global else condition.value
        if condition.kind in ("min", "max", "top", "bottom") and value is not None:
            between = 0.5 if whole else 0.0
            at = float(value) - between if condition.kind in ("min", "top") else float(value) + between
            found.append((at, plain(value)))
    return found


def _breaks(
    numbers: npt.NDArray[np.float64], conditions: Sequence[Condition], cuts: Mapping[str, ShownCut]
) -> npt.NDArray[np.bool_]:
    """Rows outside the rules by their value, whichever rule ended them; ties at a cut are told by their ends."""
    found = np.zeros(len(numbers), dtype=bool)
    for condition in conditions:
        value: Any = cuts.get(condition.name) if condition.is_global else condition.value
        if condition.kind in ("in", "not_in"):
            found |= np.isin(numbers, [v for v in value if v is not None], invert=condition.kind == "in")
        elif value is not None and condition.kind == "is":
            found |= numbers != value
        elif value is not None:
            found |= numbers < value if condition.kind in ("min", "top") else numbers > value
    return found


def _edges(numbers: npt.NDArray[np.float64], limits: Sequence[float], whole: bool) -> npt.NDArray[np.float64]:
    """Edges of the bins, one of them at the first limit: the bulk of the values and the limits near it.

    What lies farther out is gathered in the first and last bin.
    """
    numbers = np.clip(numbers, -_FAR, _FAR)
    low, high = float(numbers.min()), float(numbers.max())
    inner, outer = (float(q) for q in np.quantile(numbers, (0.005, 0.985)))
    if high - low > 2 * (outer - inner) > 0:
        low, high = max(low, inner - (outer - inner) / 2), min(high, outer + (outer - inner) / 4)
    span = (high - low) or 1.0
    near = [at for at in limits if low - span <= at <= high + span]
    low, high = min([low, *near]), max([high, *near])
    if whole:
        low, high = float(np.floor(low)) - 0.5, float(np.ceil(high)) + 0.5
    least = 1e-12 * max(abs(low), abs(high), 1e-280)  # edges nearer than that would fall together
    if high - low < least:
        low, high = low - least, high + least
    step = float(np.ceil((high - low) / BINS)) if whole else (high - low) / BINS
    first = near[0] if near else low
    start = first - step * float(np.ceil((first - low) / step - 1e-9))
    bins = max(1, int(np.ceil((high - start) / step - 1e-9)))
    return start + step * np.arange(bins + 1, dtype=np.float64)


def _x(value: float, edges: npt.NDArray[np.float64]) -> float:
    place = (value - float(edges[0])) / float(edges[-1] - edges[0])
    return round(WIDTH * min(max(place, 0.0), 1.0), 2)


def _tick(extreme: float, edge: float, whole: bool, sign: str) -> str:
    """What stands at an end of the axis: the extreme value, or where the values beyond were gathered."""
    beyond = extreme < edge if sign == "≤ " else extreme > edge
    if not beyond:
        return plain(extreme)
    return sign + plain(float(np.round(edge)) if whole else float(edge))


def _and(column: str, conditions: Sequence[Decision], cuts: Mapping[str, ShownCut]) -> str:
    """The rules that look at a column, its name left out where nothing else is spoken of."""

    def said(rule: Decision) -> str:
        own = isinstance(rule, Condition) and rule.column == column
        return rule_words(rule, cuts) if own else decision_words(rule, cuts)  # type: ignore[arg-type]

    return " and ".join(map(said, conditions))


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _bar(number: int, edges: npt.NDArray[np.float64], counts: tuple[int, int], tallest: int, of: str) -> Bar:
    fine, bad = counts
    left, right = (_x(float(edges[n]), edges) for n in (number, number + 1))
    kept, broken = (round(max(HEIGHT * n / tallest, 1.0), 2) if n else 0.0 for n in (fine, bad))
    low, high = float(edges[number]), float(edges[number + 1])
    where = plain(int(low + 0.5)) if high - low == 1 and low % 1 == 0.5 else f"{plain(low)} to {plain(high)}"
    title = f"{where}: {fine + bad:,} {of}" + (f", {bad:,} outside the rule" if bad else "")
    return Bar(left, round(max(right - left - 0.8, 0.6), 2), kept, broken, title)


def _categories(values: ShownValues, conditions: Sequence[Decision], cuts: Mapping[str, ShownCut]) -> Chart | None:
    """The commonest texts; no chart of uids, or where nearly every row has a text of its own."""
    counts: Counter[str] = Counter(t for t in values.texts if t is not None)
    if not counts or is_uid(min(counts)) or len(counts) > max(CATEGORIES, len(values.texts) // 20):
        return None
    ended = Counter(t for t, e in zip(values.texts, values.ended.tolist(), strict=True) if e and t is not None)
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:CATEGORIES]
    most = common[0][1]
    rows = [(shown(t, 30), f"{n:,}", round(1000 * n / most, 1), 2 * ended[t] > n) for t, n in common]
    more = len(counts) - len(common)
    said = f"and {more:,} more values" if more else ""
    nulls = _count(values.texts.count(None))
    return Chart(
        shown(values.column, 60), _and(values.column, conditions, cuts), "", [], [], ("", ""), said, rows, nulls
    )
