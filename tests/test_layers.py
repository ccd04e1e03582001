"""The arrows of the house, checked on the imports as they are written: each part knows only what lies below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

FLOORS = [
    set(floor.split())
    for floor in (
        "settings sample function_words words word_runs characters phone_numbers bidi",
        "text_stats page_words page_columns sentences image_structure blob document files remedies clip_tokens"
        " opt_out fonts",
        "images tables shards reading_order personal_data lines",
        "html pdf typeset ocr",
        "download texts models llm mix interchange warc",
        "text_tokens",
        "ops",
        "source",
        "recipe",
        "rules pool columns",
        "chunk sources formats",
        "steps",
        "publish explain",
        "engine",
        "tasks",
        "run",
        "report retry",
    )
]
"""From the ground up, the modules and packages of `curate`. What lies on one floor is checked by OWN."""

OWN: dict[str, set[str]] = {
    "shards": {"settings", "sample"},
    "mix": {"settings", "sample", "shards"},
    "engine": set(),
}
"""What a part may import of `curate`, where the floors alone would allow too much or too little."""

SOURCES = sorted(p for top in ("curate", "pipelines", "train") for p in (ROOT / top).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, as a dotted name; `from a import b` is `a.b`."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(p for p in (base, node.module or "") if p)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    """The part of `curate` that a file belongs to: its module or package right below `curate`."""
    relative = path.relative_to(ROOT / "curate").with_suffix("").parts
    return relative[0]


def parts_imported(path: Path) -> set[str]:
    """Parts of `curate` that a file imports (`from curate import x` included)."""
    known = {p.name.removesuffix(".py") for p in (ROOT / "curate").iterdir()}
    dotted = [name.split(".") for name in imports(path)]
    return {name[1] for name in dotted if name[0] == "curate" and len(name) > 1 and name[1] in known}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "curate")], ids=named)
def test_a_part_of_the_library_imports_only_what_lies_below_it(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        assert not parts_imported(path)
        return
    floor = next((n for n, names in enumerate(FLOORS) if part in names), None)
    assert floor is not None, f"{part} has no floor: say in FLOORS where it stands"
    below = set[str]().union(*FLOORS[:floor])
    allowed = OWN.get(part, below) | {part}
    assert parts_imported(path) <= allowed, sorted(parts_imported(path) - allowed)


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_only_the_engine_imports_ray(path: Path) -> None:
    if path != ROOT / "curate" / "engine" / "workers.py":
        assert not [name for name in imports(path) if name.split(".")[0] == "ray"]


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "train")], ids=named)
def test_the_trainer_knows_only_mixtures_shards_and_settings(path: Path) -> None:
    assert parts_imported(path) <= {"mix", "shards", "sample", "settings"}
    assert not [name for name in imports(path) if name.split(".")[0] in ("pipelines", "ray")]


@pytest.mark.parametrize("path", [p for p in SOURCES if not p.is_relative_to(ROOT / "pipelines")], ids=named)
def test_nothing_below_the_command_line_imports_it(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] == "pipelines"]


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "pipelines")], ids=named)
def test_the_pipelines_reach_the_trainer_only_through_its_command_line(path: Path) -> None:
    reached = {name for name in imports(path) if name.split(".")[0] == "train"}
    assert reached <= {"train.__main__.main"}


@pytest.mark.parametrize("path", sorted((ROOT / "curate" / "ops").glob("[!_]*.py")), ids=named)
def test_ops_never_import_each_other(path: Path) -> None:
    modules = {p.stem for p in path.parent.glob("[!_]*.py")}
    reached = {name.split(".")[2] for name in imports(path) if name.startswith("curate.ops.")}
    assert not reached & modules


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "curate")], ids=named)
def test_the_library_prints_nothing_and_has_no_command_line(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert not [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
    assert not [name for name in imports(path) if name.split(".")[0] in ("typer", "click", "rich")]


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_is_pickled_and_every_module_says_what_it_is_for(path: Path) -> None:
    assert not [n for n in imports(path) if n.split(".")[0] in ("pickle", "dill", "cloudpickle", "shelve", "marshal")]
    assert not path.read_text().strip() or ast.get_docstring(ast.parse(path.read_text()))
