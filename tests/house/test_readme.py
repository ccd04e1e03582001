"""The README tells the truth: its rooms are the rooms, its recipe a recipe. As a script, it rewrites the rooms."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import yaml

from curate.recipe.model import Recipe
from curate.recipe.resolve import resolve

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("curate", "train", "pipelines")
WIDTH = 24


def rooms() -> str:
    """One line a room: its folder, or its module right below `curate`, and the first sentence of its docstring."""
    lines: list[str] = []
    for package in PACKAGES:
        top = ROOT / package
        lines.append(f"{package + '/':<{WIDTH}} {purpose(top / '__init__.py')}")
        found = [p.parent for p in top.glob("*/__init__.py")]
        found += [p for p in top.glob("*.py") if package == "curate" and p.name != "__init__.py"]
        for path in sorted(found):
            name = f"  {path.name}/" if path.is_dir() else f"  {path.name}"
            lines.append(f"{name:<{WIDTH}} {purpose(path / '__init__.py' if path.is_dir() else path)}")
    lines.append(f"{'recipes/':<{WIDTH}} choices only: each header tells command, cost and expected result")
    lines.append(
        f"{'bench/ tests/ docs/':<{WIDTH}} figures beside peers; promises, by room; formats, mixtures, stream, log"
    )
    return "\n".join(lines)


def purpose(path: Path) -> str:
    head = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].replace("\n", " ")
    first = re.split(r"(?<=[a-z)`])[.;](?: |$)", head, maxsplit=1)[0]
    return first if len(first) <= 96 else first[:93].rsplit(" ", 1)[0] + " ..."


def block(readme: str, after: str) -> str:
    found = re.search(re.escape(after) + r".*?```\w*\n(.*?)```", readme, re.DOTALL)
    assert found, after
    return found.group(1)


def test_readme_shows_the_rooms_as_they_are() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert block(readme, "## The rooms").strip() == rooms().strip(), "run: python tests/house/test_readme.py"


def test_readme_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_bytes()) < 12_000


def test_recipe_in_the_readme_is_a_valid_recipe() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    recipe = Recipe.model_validate(yaml.safe_load(block(readme, "## Your own data")))
    assert [step.spec.name for step in resolve(recipe).steps][-1] == "clip_score"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    fenced = f"## The rooms\n\n```\n{rooms()}\n```\n"
    new = re.sub(r"## The rooms\n.*?(?=\n## )", lambda _: fenced, text, flags=re.DOTALL)
    readme.write_text(new, encoding="utf-8")
    sys.exit(0)
