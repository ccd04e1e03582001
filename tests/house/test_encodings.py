"""What is read and written as text is UTF-8, whatever the locale: every call that opens text says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(p for top in ("curate", "pipelines", "train") for p in (ROOT / top).rglob("*.py"))
READERS = {"read_text": 0, "write_text": 1}
"""Methods of text files, and how many arguments stand before the encoding."""


def without_encoding(tree: ast.AST) -> Iterator[int]:
    """The lines on which text is opened in the locale's encoding."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        said = {word.arg: word.value for word in node.keywords}
        if name in READERS and isinstance(node.func, ast.Attribute):
            if "encoding" not in said and len(node.args) <= READERS[name]:
                yield node.lineno
        elif name in ("open", "fdopen") and "encoding" not in said:
            mode = said.get("mode") or next((a for a in node.args if isinstance(a, ast.Constant) and a.value), None)
            binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
            of_ours = isinstance(node.func, ast.Name) or (isinstance(mode, ast.Constant) and str(mode.value) in "rwax")
            if of_ours and not binary:
                yield node.lineno
        elif name in ("run", "Popen", "check_output") and "text" in said and "encoding" not in said:
            yield node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_is_opened_as_utf8_whatever_the_locale(path: Path) -> None:
    lines = list(without_encoding(ast.parse(path.read_text(encoding="utf-8"))))
    assert not lines, f"{path.relative_to(ROOT)}: lines {lines}: say encoding='utf-8'"
