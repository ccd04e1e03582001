"""Public docstrings say what a thing does or is: a verb or the thing itself, never a question about it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("curate", "train", "pipelines", "bench")
QUESTION = re.compile(r"(What|How|Which|Where|When|Why|Who|In which|By which|From which|At which|After which)\b")
"""Openings that ask about a thing: `How long samples are` is `Lengths of samples`."""
FIRST_SENTENCE_CHARACTERS = 110
"""Room for a module's first sentence: tables of the rooms print it."""
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def documented(path: Path) -> Iterator[tuple[str, ast.AST, str]]:
    """Name, node and docstring of the module and of all that is public in it."""
    module = ast.parse(path.read_text())
    place = str(path.relative_to(ROOT))
    yield place, module, ast.get_docstring(module) or ""
    for outer in module.body:
        for node in (outer, *(outer.body if isinstance(outer, ast.ClassDef) else ())):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith(
                "_"
            ):
                yield f"{place}: {node.name}", node, ast.get_docstring(node) or ""


def answers_yes_or_no(node: ast.AST) -> bool:
    """Whether a function gives a truth value, or an array of them."""
    returns = getattr(node, "returns", None)
    return returns is not None and bool(re.search(r"\b(bool|Bools|bool_)\b", ast.unparse(returns)))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_docstring_begins_with_a_verb_or_the_thing_itself(path: Path) -> None:
    asked = [name for name, _, text in documented(path) if QUESTION.match(text)]
    assert not asked, f"{asked} open with a question; say what it does, or name the thing"
    wondered = [
        name for name, node, text in documented(path) if text.startswith("Whether") and not answers_yes_or_no(node)
    ]
    assert not wondered, f"{wondered} open with `Whether` and give no truth value"


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_module_docstring_opens_with_a_short_sentence(path: Path) -> None:
    text = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
    first = re.split(r"(?<=[.:])\s+(?=[A-Z])", text)[0]
    assert text and len(first) <= FIRST_SENTENCE_CHARACTERS, f"{len(first)} characters: {first}"
