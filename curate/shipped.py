"""Recipes that come with the package, by name wherever it is installed: `demo`, `pages`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from curate.settings import SettingsError, read_yaml, unknown_message

Command = Literal["run", "mix", "train"]
"""The command that takes a recipe: to curate, to mix, or to train."""


@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe that comes with the package: its name, its file, the command that takes it, and what it is for."""

    name: str
    path: Path
    command: Command
    purpose: str


def shipped_recipes() -> list[ShippedRecipe]:
    """All recipes that come with the package, by name."""
    root = Path(str(files("recipes")))
    found = [(path.relative_to(root).with_suffix("").as_posix(), path) for path in root.rglob("*.yaml")]
    return [ShippedRecipe(name, path, _command(path), _purpose(path)) for name, path in sorted(found)]


def recipe_path(given: Path | str, command: Command) -> Path:
    """The file that `given` means to a command: a path, or a name of ours. Raises SettingsError for no known name."""
    path = Path(given).expanduser()
    if path.suffix or path.exists():
        return path
    ours = {recipe.name: recipe for recipe in shipped_recipes()}
    found = ours.get(path.as_posix())
    if found is None:
        names = [name for name, recipe in ours.items() if recipe.command == command]
        raise SettingsError(f"{unknown_message('recipe', path.as_posix(), names)}; or give a path, a .yaml file")
    if found.command != command:
        raise SettingsError(f"recipe {found.name!r} is none for `curate {command}`: it is for `curate {found.command}`")
    return found.path


def _command(path: Path) -> Command:
    keys = read_yaml(path)[0]
    return "run" if "source" in keys else "train" if "optim" in keys else "mix"


def _purpose(path: Path) -> str:
    """The first sentence of the comment at the top."""
    head = path.read_text(encoding="utf-8").split("\n#\n", 1)[0]
    text = head.replace("\n#", "").removeprefix("#").strip().rstrip(".")
    return re.split(r"(?<=[\w)])(?<!et al)\. ", text, maxsplit=1)[0]
