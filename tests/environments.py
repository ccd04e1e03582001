"""Fresh environments that hold nothing but some of the package's requirements: links to what is installed here.

A link proves what a download would, that a part of the package works with its own requirements alone, and takes a
second.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import curate

ROOT = Path(curate.__file__).resolve().parents[1]
PARTS = ("curate", "pipelines", "train", "recipes")


@dataclass(frozen=True)
class Environment:
    """A virtual environment: its folder, and a place of its own for caches."""

    folder: Path

    def run(self, *command: str | Path, cwd: Path, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """Run a program of it, or `python`."""
        env = _plain() | {"XDG_CACHE_HOME": str(self.folder / "cache"), "NO_COLOR": "1", "COLUMNS": "200"}
        program = str(self.folder / "bin" / str(command[0]))
        words = [program, *map(str, command[1:])]
        return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)


def _plain() -> dict[str, str]:
    """What a fresh shell would have: nothing that shows a program our checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OMP_"))}


@cache
def wheel(scratch: Path) -> Path:
    """The package's wheel, built from a copy of its sources."""
    source = scratch / "source"
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(scratch), str(source)], check=True, env=_plain())
    (built,) = scratch.glob("*.whl")
    return built


def environment(folder: Path, built: Path, extras: Iterable[str] = (), without: Iterable[str] = ()) -> Environment:
    """A fresh environment with the wheel, what the core and these extras require, and pip.

    `without`: packages left out, and what only they require.
    """
    venv.create(folder, symlinks=True)
    made = Environment(folder)
    python = made.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    site = Path(python.stdout.strip())
    _link({*closure(requirements(built, extras), frozenset(map(canonicalize_name, without))), "pip"}, site)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(built)], check=True, env=_plain())
    return made


def requirements(built: Path, extras: Iterable[str]) -> list[Requirement]:
    """What a wheel requires with these extras."""
    from zipfile import ZipFile

    from packaging.metadata import Metadata

    with ZipFile(built) as opened:
        (name,) = (n for n in opened.namelist() if n.endswith(".dist-info/METADATA"))
        told = Metadata.from_email(opened.read(name), validate=False).requires_dist or []
    return [r for r in told if _holds(r, {"", *extras})]


def closure(wanted: Iterable[Requirement], without: frozenset[str] = frozenset()) -> set[str]:
    """The installed distributions that these requirements ask for, and those that these ask for, and so on."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(r.name), frozenset(r.extras)) for r in wanted]
    while waiting:
        name, extras = waiting.pop()
        if name in without or name == "curate-mm" or (name, extras) in found:
            continue
        found.add((name, extras))
        for text in _installed()[name].requires or ():
            requirement = Requirement(text)
            if _holds(requirement, {"", *extras}):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {name for name, _ in found}


def _holds(requirement: Requirement, extras: Iterable[str]) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)


@cache
def _installed() -> dict[str, Distribution]:
    return {canonicalize_name(found.metadata["Name"]): found for found in distributions(path=[str(_site())])}


def _site() -> Path:
    return Path(sysconfig.get_path("purelib"))


@cache
def _owners() -> dict[str, set[str]]:
    """Which distributions each name right below site-packages belongs to."""
    owners: dict[str, set[str]] = {}
    for name, distribution in _installed().items():
        for top in {file.parts[0] for file in _files(distribution)}:
            owners.setdefault(top, set()).add(name)
    return owners


def _files(distribution: Distribution) -> Iterator[Path]:
    """What a distribution has below site-packages."""
    for file in distribution.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            yield Path(file)


def _link(names: Iterable[str], site: Path) -> None:
    """Link the distributions: folders that are theirs whole, file by file what they share with others."""
    names = set(names)
    for name in sorted(names):
        for file in _files(_installed()[name]):
            whole = _owners()[file.parts[0]] <= names
            target = site / (file.parts[0] if whole else file)
            if not target.exists() and not target.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(_site() / (file.parts[0] if whole else file))
