"""Choose a template of a task by (seed, uid, turn), and fill it in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from curate.ops._keys import generator

_FILE = Path(__file__).with_name("templates.yaml")
_PLACE = re.compile(r"\{([a-z]+)\}")


@cache
def templates() -> Mapping[str, tuple[str, ...]]:
    """The templates of each task, in the order of the file."""
    return {task: tuple(listed) for task, listed in yaml.safe_load(_FILE.read_text(encoding="utf-8")).items()}


def templated(task: str, values: Mapping[str, str], seed: int, uid: str, turn: int) -> str:
    """One of a task's templates, filled in at once: what stands in the values is never read again."""
    listed = templates()[task]
    template = listed[int(generator(seed, uid, f"{task} {turn}").integers(len(listed)))]
    return _PLACE.sub(lambda place: values[place[1]], template)


def lettered(options: list[str]) -> str:
    """Options as a question shows them: (A) left (B) right."""
    return " ".join(f"({letter(n)}) {option}" for n, option in enumerate(options))


def letter(number: int) -> str:
    """The letter of an option, from A on."""
    return chr(ord("A") + number)
