"""The README tells the truth: its tree is the tree, its recipe is a recipe. Run as a script, it rewrites the tree."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import yaml

from curate.recipe.model import Recipe

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("curate", "pipelines", "recipes", "train", "bench")
WIDTH = 27


def tree() -> str:
    """One line a file: its place, and the first sentence of its docstring or header."""
    lines: list[str] = []
    for package in PACKAGES:
        lines.append(f"{package}/")
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in (".py", ".yaml") and "__pycache__" not in path.parts and purpose(path):
                inside = path.relative_to(ROOT / package)
                name = f"  {inside}"
                lines.append(f"{name:<{WIDTH}} {purpose(path)}")
    lines += [
        "tests/                     sentences, each a promise",
        "data_cards/                what the shipped weights were made of",
    ]
    lines += ["docs/lab-log.md            experiments, figures, failures, decisions"]
    return "\n".join(lines)


def purpose(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        head = text.split("\n", 1)[0].removeprefix("#").strip()
    else:
        head = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0].replace("\n", " ")
    first = re.split(r"(?<=[a-z)`])[.;](?: |$)", head, maxsplit=1)[0]
    return first if len(first) <= 96 else first[:93].rsplit(" ", 1)[0] + " ..."


def block(readme: str, after: str) -> str:
    found = re.search(re.escape(after) + r".*?```\w*\n(.*?)```", readme, re.DOTALL)
    assert found, after
    return found.group(1)


def test_the_tree_in_the_readme_is_the_tree() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert block(readme, "## The tree").strip() == tree().strip(), "run: python tests/house/test_readme.py"


def test_the_recipe_in_the_readme_is_a_valid_recipe() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    recipe = Recipe.model_validate(yaml.safe_load(block(readme, "## Your own data")))
    assert [step.op for step in recipe.steps][-1] == "clip_score"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    fenced = f"## The tree\n\n```\n{tree()}\n```\n"
    new = re.sub(r"## The tree\n.*?(?=\n## )", lambda _: fenced, text, flags=re.DOTALL)
    readme.write_text(new, encoding="utf-8")
    sys.exit(0)
