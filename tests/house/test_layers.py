"""The arrows of the house, read from the imports as they are written: each room uses only rooms below it.

Rooms are the folders; their floors are computed, never kept by hand. Run as a script, it prints the table of
ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSES = ("curate", "train", "pipelines", "bench")
SOURCES = sorted(p for top in HOUSES for p in (ROOT / top).rglob("*.py"))
SUITE = ("extract", "quality", "alignment", "dedup", "safety", "select", "synth")
"""Folders of `curate/ops`: one room, whose folders do not know each other."""


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, wherever in it, as a dotted name; `from a import b` is `a.b`."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(found)


def modules_of(name: str) -> Iterator[Path]:
    """The file of the tree that a dotted name means: the module, or the one that holds what is named."""
    parts = name.split(".")
    for end in (len(parts), len(parts) - 1):
        at = ROOT.joinpath(*parts[:end])
        for file in (at.with_suffix(".py"), at / "__init__.py"):
            if file.is_file():
                yield file
                return


def reached(path: Path) -> set[Path]:
    """The files of the tree that a file imports."""
    return {file for name in imports(path) if name.split(".")[0] in HOUSES for file in modules_of(name)} - {path}


def room_of(path: Path) -> str:
    """The room of a file: a folder of `curate`, a module right below it, or one of the other houses."""
    inside = path.relative_to(ROOT).parts
    if inside[0] != "curate":
        return f"{inside[0]}/"
    if len(inside) > 2:
        return f"curate/{inside[1]}/"
    return f"curate/{inside[1]}"


def arrows() -> dict[str, set[str]]:
    """Which rooms each room uses."""
    found: dict[str, set[str]] = {room_of(path): set() for path in SOURCES if path != ROOT / "curate" / "__init__.py"}
    for path in SOURCES:
        if room_of(path) in found:
            found[room_of(path)] |= {room_of(to) for to in reached(path)} - {room_of(path), "curate/__init__.py"}
    return found


def floors(using: Mapping[str, set[str]]) -> dict[str, int]:
    """The floor of each room: one above the highest that it uses. Raises CycleError where two use each other."""
    found: dict[str, int] = {}
    for room in TopologicalSorter(using).static_order():
        found[room] = 1 + max((found[below] for below in using[room]), default=0)
    return found


def table() -> str:
    """The rooms, from the top floor down, with what each uses."""
    using = arrows()
    floor = floors(using)
    lines = ["| floor | room | uses |", "|---|---|---|"]
    for room in sorted(using, key=lambda r: (-floor[r], r)):
        uses = ", ".join(
            f"`{below.removeprefix('curate/')}`" for below in sorted(using[room], key=lambda r: (-floor[r], r))
        )
        lines.append(f"| {floor[room]} | `{room}` | {uses or '-'} |")
    count = sum(map(len, using.values()))
    return "\n".join([*lines, "", f"{len(using)} rooms on {max(floor.values())} floors, {count} arrows, no circle."])


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_two_rooms_use_each_other() -> None:
    try:
        floors(arrows())
    except CycleError as err:
        pytest.fail(f"a circle of rooms: {' -> '.join(err.args[1])}")


def test_no_two_files_import_each_other() -> None:
    try:
        tuple(TopologicalSorter({path: reached(path) for path in SOURCES}).static_order())
    except CycleError as err:
        pytest.fail(f"a circle of files: {' -> '.join(named(p) for p in err.args[1])}")


def test_architecture_shows_the_rooms_floors_and_arrows_as_they_are() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert table() in page, "run: python tests/house/test_layers.py, and put the table into ARCHITECTURE.md"


def test_only_the_workers_of_the_engine_import_ray() -> None:
    using = [p for p in SOURCES if any(name.split(".")[0] == "ray" for name in imports(p))]
    assert [named(p) for p in using] == ["curate/engine/workers.py"]


def test_the_stream_and_the_trainer_know_nothing_of_curation() -> None:
    rooms = {f"curate/{room}/" for room in ("shards", "tokens", "image", "mix")}
    files = {f"curate/{name}.py" for name in ("sample", "settings", "commit", "extras", "process", "strict_json")}
    using = arrows()
    assert using["curate/stream/"] <= {*rooms, *files}
    assert using["train/"] <= {*rooms, *files, "curate/stream/", "curate/models/", "curate/shipped.py"}


def test_shards_and_mixtures_stand_on_the_ground() -> None:
    ground = {f"curate/{name}.py" for name in ("sample", "settings", "commit", "extras", "lfs", "process")}
    using = arrows()
    assert using["curate/shards/"] <= ground
    assert using["curate/mix/"] <= {*ground, "curate/shards/", "curate/tokens/"}


def test_nothing_below_the_command_line_imports_it() -> None:
    assert not [named(p) for p in SOURCES if room_of(p) not in ("pipelines/", "bench/") and any(
        room_of(to) in ("pipelines/", "bench/") for to in reached(p))]  # fmt: skip


def test_the_pipelines_reach_the_trainer_only_through_its_command_line() -> None:
    names = {
        name for p in SOURCES if room_of(p) == "pipelines/" for name in imports(p) if name.split(".")[0] == "train"
    }
    assert names == {"train.__main__.main", "train.evaluation.commands"}


def test_ops_never_import_each_other() -> None:
    ops = [p for p in SOURCES if p.is_relative_to(ROOT / "curate" / "ops") and p.parent.name in SUITE]
    public = {p for p in ops if not p.name.startswith("_")}
    assert not [(named(p), named(to)) for p in ops for to in reached(p) & public if p.name != "__init__.py"]


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "curate")], ids=named)
def test_the_library_prints_nothing_and_has_no_command_line(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert not [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
    assert not [name for name in imports(path) if name.split(".")[0] in ("typer", "click", "rich")]


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_is_pickled_and_every_module_says_what_it_is_for(path: Path) -> None:
    assert not [n for n in imports(path) if n.split(".")[0] in ("pickle", "dill", "cloudpickle", "shelve", "marshal")]
    assert not path.read_text().strip() or ast.get_docstring(ast.parse(path.read_text()))


def test_class_names_stand_once() -> None:
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(named(path))
    assert not {name: places for name, places in homes.items() if len(places) > 1}


def test_packages_hold_no_substance_in_their_init() -> None:
    heavy = [named(p) for p in SOURCES if p.name == "__init__.py" and any(
        isinstance(n, ast.FunctionDef | ast.ClassDef) for n in ast.parse(p.read_text()).body)]  # fmt: skip
    assert not heavy


if __name__ == "__main__":
    print(table())
    sys.exit(0)
