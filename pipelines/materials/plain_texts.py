"""Prepare texts in fourteen languages: a manual section by section, and sayings (Debian).

`prepare` lays down a table a package, which `recipes/plain-texts.yaml` curates: `text`, `language` (the package's: what
the language rule should find, but for sections that nobody translated) and `collection`. Nothing of them is part of
this project: they are fetched by version and hash.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from curate.commit import commit_text
from curate.readers import tables, texts
from pipelines.materials.packages import MATERIALS, prepare_source

MANUALS = tuple(sorted(name for name in MATERIALS if name.startswith("debian-reference-")))
SAYINGS = tuple(sorted(name for name in MATERIALS if name.split("-")[0] == "fortunes"))
MAX_MANUAL_BYTES = 16 << 20

_VERSION = 1
_SECTION = re.compile(r"\n(?=\d+\.\d+\. )")
_NO_TEXT = (".dat", ".pdat")
Row = dict[str, str]


@dataclass(frozen=True)
class PreparedTexts:
    """Counts of prepared texts: sections of the manual, sayings, and how many of either were not UTF-8 and left out."""

    sections: int
    sayings: int
    unreadable: int


def prepare(folder: Path, cache: Path | None = None) -> PreparedTexts:
    """Fetch Debian's packages and lay down a table each in `folder`/source. Done once, then found.

    Raises PackageUnavailableError where the packages cannot be had, and RunError while
    another command is at work in the folder.
    """
    return PreparedTexts(**prepare_source(folder, (*MANUALS, *SAYINGS), _VERSION, _lay_down, cache))


def _lay_down(places: Mapping[str, Path], target: Path) -> dict[str, int]:
    counts = {"sections": 0, "sayings": 0, "unreadable": 0}
    for name, place in places.items():
        kind = "sections" if name in MANUALS else "sayings"
        lines = []
        for row in sections(name, place) if kind == "sections" else sayings(name, place):
            if row is None:
                counts["unreadable"] += 1
            else:
                lines.append(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")
        counts[kind] += len(lines)
        commit_text(target / f"{name}.jsonl", "".join(lines))
    return counts


def sections(name: str, place: Path) -> Iterator[Row]:
    """The sections of one manual, headings and tables as they are drawn in the text."""
    (path,) = place.rglob("debian-reference.*.txt.gz")
    with gzip.open(path) as file:
        data = file.read(MAX_MANUAL_BYTES + 1)
    assert len(data) <= MAX_MANUAL_BYTES, name
    for section in _SECTION.split(data.decode("utf-8")):
        if text := section.strip():
            yield {"text": text, "language": name.removeprefix("debian-reference-"), "collection": "debian-reference"}


def sayings(name: str, place: Path) -> Iterator[Row | None]:
    """The sayings of one package; None for one that is not UTF-8."""
    language = name.partition("-")[2] or "en"
    for path in sorted((place / "usr" / "share" / "games").rglob("*")):
        if path.is_file() and path.suffix not in _NO_TEXT:
            for found in texts.read(path, split="\n%\n"):
                if isinstance(found, tables.BadRow):
                    yield None
                else:
                    yield {"text": found["text"], "language": language, "collection": path.name}
