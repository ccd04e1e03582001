"""Find the JSON in a model's answer, whatever stands around it; what is hostile or ambiguous is refused by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from curate.strict_json import LEVELS, plain

MOST_CHARACTERS = 1 << 20
STARTS = 20
"""Opening brackets in an answer at which JSON is looked for: of so many, one is no answer in prose any more."""

_START = re.compile(r'\{\s*["}]|\[\s*[\[{"\]\dtfn-]')
"""Where JSON may begin; a bracket in prose is mostly followed by something else."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|[{}\[\]]', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\Z))|,(?=\s*[}\]])', re.DOTALL)
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


class MalformedError(ValueError):
    """An answer without JSON that can be used; the message says where it breaks."""


def find_json(text: str) -> Iterator[Any]:
    """Yield the objects and lists in an answer, one after the other: bare, in a code fence or amid prose.

    A comma after a last entry is overlooked. Raises MalformedError at the end where one was broken and none whole, and
    at one that never closes: what is cut, a key twice in an object, NaN or an infinity, nested too deeply, too long.
    """
    if len(text) > MOST_CHARACTERS:
        raise MalformedError(f"longer than {MOST_CHARACTERS} characters")
    text = _THOUGHT.sub("", text)
    fault, found, at = MalformedError("no JSON object in it"), 0, 0
    for _ in range(STARTS):
        if (start := _START.search(text, at)) is None:
            break
        at = _end(text, start.start())  # what lies within a broken one is not looked at: it is not what was asked for
        try:
            value = _loads(text[start.start() : at])
        except MalformedError as err:
            fault = err if not found else fault
            continue
        found += 1
        yield value
    if not found:
        raise fault


def _end(text: str, start: int) -> int:
    """The place after the bracket that closes the one at `start`. Raises MalformedError."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        mark = token[0]
        if mark in "{[":
            depth += 1
            if depth > LEVELS:
                raise MalformedError(f"nested more than {LEVELS} deep")
        elif mark in "}]":
            depth -= 1
            if not depth:
                return token.end()
    raise MalformedError(f"the JSON that begins at character {start + 1} has no end")


def _loads(text: str) -> Any:
    """The value of a text from its first bracket to its last. Raises MalformedError."""
    whole = _LAST_COMMA.sub(lambda found: found[1] or "", text)
    try:
        return plain(json.loads(whole, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_number))
    except MalformedError:
        raise
    except json.JSONDecodeError as err:
        raise MalformedError(f"line {err.lineno}, column {err.colno} of its JSON: {err.msg}") from None
    except (ValueError, RecursionError) as err:
        raise MalformedError(f"its JSON cannot be read: {err}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedError(f"the key {json.dumps(twice[:50])} stands twice in an object")
    return made


def _no_number(word: str) -> Any:
    raise MalformedError(f"{word} is no JSON number")


def _number(word: str) -> float:
    if not math.isfinite(number := float(word)):
        raise MalformedError(f"{word[:30]} is beyond every number")
    return number
