"""Prepare documents: a manual with screenshots, printed guides, chapters in five languages (Debian).

`prepare` lays them down as folders that `recipes/pages.yaml`, `recipes/ocr.yaml` and `recipes/texts.yaml` curate.
Nothing of them is part of this project: they are fetched by version and hash.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.materials.packages import prepare_source

PAGES, GUIDES, CHAPTERS = "pages", "guides", "chapters"
LANGUAGES = ("de", "en", "es", "fr", "ja")
MAX_FILE_BYTES = 256 << 20

_VERSION = 1
_MANUAL, _GUIDES = "gimp-help-en", "installation-guide-amd64"


@dataclass(frozen=True)
class PreparedDocuments:
    """Counts of prepared files: HTML pages of a manual and its pictures, PDF files, chapters as HTML."""

    pages: int
    pictures: int
    guides: int
    chapters: int


def prepare(folder: Path, cache: Path | None = None) -> PreparedDocuments:
    """Fetch Debian's packages and lay down `folder`/source: pages/, guides/ and chapters/. Done once, then found.

    Raises PackageUnavailableError where the packages cannot be had, and RunError while
    another command is at work in the folder.
    """
    names = [_MANUAL, _GUIDES, *(f"debian-reference-{language}" for language in LANGUAGES)]
    return PreparedDocuments(**prepare_source(folder, names, _VERSION, _lay_down, cache))


def _lay_down(packages: Mapping[str, Path], target: Path) -> dict[str, int]:
    """Copy what is wanted; the files' times are zero, so that the same packages make the same source anywhere."""
    places = {name: package / "usr" / "share" for name, package in packages.items()}
    manual = places[_MANUAL] / "gimp" / "2.0" / "help" / "en"
    pages = [_copy(path, target / PAGES / path.relative_to(manual)) for path in _files(manual)]
    guides = [
        _copy(path, target / GUIDES / f"{path.parent.name}.pdf")
        for path in _files(places[_GUIDES] / "doc" / "installation-guide-amd64")
        if path.name.endswith((".pdf", ".pdf.gz"))
    ]
    chapters = [
        _copy(path, target / CHAPTERS / path.name)
        for name in sorted(places)
        if name.startswith("debian-reference")
        for path in _files(places[name] / "debian-reference")
        if path.suffix == ".html"
    ]
    html = sum(path.suffix == ".html" for path in pages)
    return {"pages": html, "pictures": len(pages) - html, "guides": len(guides), "chapters": len(chapters)}


def _files(folder: Path) -> Iterator[Path]:
    return iter(sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()))


def _copy(source: Path, target: Path) -> Path:
    """Copy a file, unpacked if it is packed; an unpacked file of more than the limit is our mistake in naming it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as packed:
        data = packed.read(MAX_FILE_BYTES + 1)
    assert len(data) <= MAX_FILE_BYTES, source
    target.write_bytes(data)
    os.utime(target, (0, 0))
    return target
