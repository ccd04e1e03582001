"""Paths and patterns to the files that they name: globs, webdataset's braces, and several parted by `::`."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from curate.readers.rows import TableError
from curate.settings import nearest_hint, seen_from_here

MAX_NAMES = 1_000_000
USUAL = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".gz", ".zst", ".bz2", ".tar", ".txt", ".md",
         ".warc", ".wat")  # fmt: skip
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})(?:\.\.(\d{1,6}))?")


def expand(pattern: str) -> list[Path]:
    """Expand a pattern to the files that it names, sorted, each once.

    A pattern is a path, a glob, either with `{000..010}` or `{a,b}` in it, or several of these parted by `::`.
    Raises TableError for a path that names no file, and for globs of which none does.
    """
    if os.path.isfile(pattern):
        return [Path(pattern)]
    found: set[Path] = set()
    globs = []
    for part in split_patterns(pattern):
        matches = _matches(part)
        if not matches and not glob.has_magic(part):
            raise _nothing(part)
        globs += [part] if not matches else []
        found |= set(matches)
    if not found:
        raise _nothing(globs[0])
    return sorted(found)


def split_patterns(pattern: str) -> list[str]:
    """The globs that a pattern stands for. Raises TableError for more than a million, or braces that say nothing."""
    found: list[str] = []
    for part in pattern.split("::"):
        for name in _without_braces(part):
            found.append(name)
            if len(found) > MAX_NAMES:
                raise TableError(f"{pattern}: its braces stand for more than {MAX_NAMES} files")
    return found


def _without_braces(pattern: str) -> Iterator[str]:
    """Every choice of every pair of braces, as a shell has it: of `a{0,1}{x,y}` four; what names a file, as it is."""
    match = _BRACES.search(pattern)
    choices = _choices(match[1]) if match else None
    if match is None or choices is None or os.path.exists(pattern):
        yield pattern
        return
    for choice in choices:
        yield from _without_braces(pattern[: match.start()] + choice + pattern[match.end() :])


def _choices(inside: str) -> Iterator[str] | list[str] | None:
    """What a pair of braces stands for; None where it stands for itself."""
    match = _RANGE.fullmatch(inside)
    if match is None:
        return inside.split(",") if "," in inside else None
    first, last, step = int(match[1]), int(match[2]), max(1, int(match[3] or 1))
    padded = any(len(end) > 1 and end.startswith("0") for end in (match[1], match[2]))
    width = max(len(match[1]), len(match[2])) if padded else 0
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    return (f"{number:0{width}d}" for number in numbers)


def _matches(pattern: str) -> list[Path]:
    found = [pattern] if os.path.isfile(pattern) else glob.glob(pattern, recursive=True)
    return [Path(name) for name in found if os.path.isfile(name)]


def _nothing(pattern: str) -> TableError:
    """What is wrong with a pattern that names no file."""
    path = Path(pattern)
    if os.path.isdir(path):
        suffixes = Counter(sorted(p.suffix for p in path.iterdir() if p.suffix in USUAL))
        usual = next((suffix for suffix, _ in suffixes.most_common(1)), ".jsonl")
        return TableError(f"{pattern}: a folder; name its files by a glob, {path / f'*{usual}'} for example")
    folder = path.parent
    near = nearest_hint(path.name, [p.name for p in folder.iterdir()]) if os.path.isdir(folder) else ""
    return TableError(f"{pattern}: no such file{near}{seen_from_here(pattern)}")
