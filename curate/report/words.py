"""Rules in words: as the report, the data card and a dry run say them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from curate.engine.run import ShownCut
from curate.recipe.model import ELSE
from curate.recipe.steps import Condition, Decision
from curate.report.examples import plain, shown

MOST_GROUPS = 8
"""Groups whose numbers are told; of more, how many there are."""


def decision_words(decision: Decision, cuts: Mapping[str, ShownCut]) -> str:
    """A rule with its columns: `clip_score at least 0.28, or language en and letter_share at least 0.5`."""
    if isinstance(decision, Condition):
        return f"{decision.column} {rule_words(decision, cuts)}"
    return ", or ".join(" and ".join(decision_words(c, cuts) for c in one) for one in decision.alternatives)


def rule_words(condition: Condition, cuts: Mapping[str, ShownCut]) -> str:
    """A condition as a reader says it; a share comes with the value of its cut."""
    value = condition.value
    if condition.kind in ("in", "not_in"):
        listed = ", ".join(shown(plain(v), 40) for v in value)
        return f"one of {listed}" if condition.kind == "in" else f"none of {listed}"
    if condition.is_global:
        said = _share_words(condition, cuts.get(condition.name))
    elif condition.by is not None:
        side = "at least" if condition.kind == "min" else "at most"
        said = f"{side} {_groups({str(group): plain(number) for group, number in value}, condition.by)}"
    else:
        sides = {"min": "at least ", "max": "at most ", "is": ""}
        said = sides[condition.kind] + ("absent" if value is None else shown(plain(value), 60))
    return f"{said}, or none" if condition.or_null else said


def _share_words(share: Condition, cut: ShownCut) -> str:
    which, side = ("largest", "from") if share.kind == "top" else ("smallest", "to")
    if isinstance(share.value, tuple):
        size = _groups({str(group): f"{100 * number:g} %" for group, number in share.value}, str(share.by))
    else:
        size = f"{100 * share.value:g} %"
    of = " of the whole pool" if share.of_pool else ""
    within = f" within each {share.by}" if share.by else ""
    code = " (cut as DataComp's code does)" if share.strict else ""
    where = ""
    if isinstance(cut, Mapping):
        ends = {str(json.loads(g)) if g != "null" else "none": plain(float(v)) for g, v in cut.items() if v is not None}
        where = f" ({side} {_groups(ends, '')})" if ends else ""
    elif cut is not None:
        where = f" ({side} {plain(float(cut))})"
    return f"among the {which} {size}{of}{within}{code}{where}"


def _groups(numbers: Mapping[str, str], by: str) -> str:
    """`0.28 for en, 0.26 for any other language`."""
    some = list(numbers.items())[:MOST_GROUPS]
    said = [f"{number} for {f'any other {by}' if group == ELSE and by else shown(group, 40)}" for group, number in some]
    more = len(numbers) - len(some)
    return ", ".join([*said, *([f"and of {more:,} more groups"] if more else [])])
