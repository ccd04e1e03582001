from __future__ import annotations

import datetime
import decimal
import json
from typing import Any

import pytest

from curate import strict_json


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        ({"a": [1.5, float("inf")]}, {"a": [1.5, None]}),
        (b"a cat \xe2\x98\x83", "a cat ☃"),
        ([b"a"], ["a"]),
        (decimal.Decimal("1.50"), "1.50"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.datetime(2024, 2, 29, 12, 0, 1), "2024-02-29 12:00:01"),
        ({1: "one"}, {"1": "one"}),
        ((True, None, 3), [True, None, 3]),
    ],
)
def test_value_of_any_table_is_said_in_the_kinds_of_json(value: Any, said: Any) -> None:
    assert strict_json.plain(value) == said
    assert json.loads(strict_json.dumps(value), parse_constant=pytest.fail) == said


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("cut \ud83d", "cut \ufffd"),
        ("\udc00 first", "\ufffd first"),
        ("\ud83d\ude00", "😀"),
        ("\ud83d \ude00", "\ufffd \ufffd"),
        ("\U0001f600 stays", "😀 stays"),
    ],
)
def test_half_of_a_surrogate_pair_becomes_the_replacement_character_and_nothing_else_changes(
    text: str, mended: str
) -> None:
    assert strict_json.plain({text: [text]}) == {mended: [mended]}


def test_value_has_the_same_bound_of_levels_wherever_it_is_read() -> None:
    nested: list[Any] = []
    for _ in range(strict_json.LEVELS - 1):
        nested = [nested]
    assert strict_json.plain(nested) == nested
    with pytest.raises(RecursionError):
        strict_json.plain([nested])
    assert json.loads(strict_json.dumps({"meta": {"kept": nested}})) == {"meta": {"kept": nested}}


@pytest.mark.parametrize("value", [b"\xff\xd8\xff", object(), [b"\x80"], {"a": {1, 2}}])
def test_what_is_no_text_is_refused_and_never_written_as_pythons_own_notation(value: Any) -> None:
    with pytest.raises(strict_json.NotTextError, match=r"no UTF-8|which is no text"):
        strict_json.plain(value)
