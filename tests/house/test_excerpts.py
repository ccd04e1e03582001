"""An excerpt is cut for people's eyes: it is made where an error or a decision is written, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.readers.tables import excerpt

ROOT = Path(__file__).parents[2]
ERRORS = ("BadRow", "Failed", "fail_row", "SourceError", "TableError", "WarcFault", "PageError")
TOLD = ("shown", "details", "what")


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def excerpts(tree: ast.AST, inside: tuple[ast.AST, ...] = ()) -> Iterator[tuple[ast.Call, tuple[ast.AST, ...]]]:
    """Every call that makes an excerpt, and what it stands in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and name_of(node.func) == "excerpt":
            yield node, inside
        yield from excerpts(node, (*inside, node))


def is_told(around: ast.AST) -> bool:
    if isinstance(around, ast.Call):
        return name_of(around.func) in ERRORS
    return isinstance(around, ast.Assign) and all(name_of(target) in TOLD for target in around.targets)


def test_excerpts_are_made_for_errors_and_decisions_alone() -> None:
    found = []
    for room in ("curate", "pipelines", "train"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for call, inside in excerpts(ast.parse(path.read_text())):
                found.append((f"{path.relative_to(ROOT)}:{call.lineno}", any(map(is_told, inside))))
    assert len(found) >= 10
    assert [place for place, told in found if not told] == []


@pytest.mark.parametrize(("length", "end"), [(2000, "xxx"), (2001, "... (2,001 characters)")])
def test_excerpt_says_where_it_is_cut(length: int, end: str) -> None:
    assert excerpt("x" * length).endswith(end)
    assert excerpt("\ud800") == "?"
