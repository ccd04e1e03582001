"""Fonts for `render_text`: Noto's for Latin, Greek, Cyrillic and some 140 other scripts, Droid's for Han and kana.

`prepare` lays them down; a recipe then says `fonts: [work/fonts/source/*.ttf]`. Nothing of them is part of this
project: they are fetched by version and hash, under the OFL and Apache's licence.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.materials import laid_down

PACKAGES = ("fonts-noto-core", "fonts-droid-fallback")

_VERSION = 1
_ODD = ("NotoSansSignWriting", "NotoMusic", "NotoSansTifinagh", "DroidSansFallback.ttf")
"""What holds no text, or repeats what another font holds."""


@dataclass(frozen=True)
class Prepared:
    """What was laid down: font files."""

    fonts: int


def prepare(folder: Path, cache: Path | None = None) -> Prepared:
    """Fetch Debian's packages and lay down `folder`/source/*.ttf. Done once, then found.

    Raises pipelines.materials.MaterialUnavailableError where the packages cannot be had, and curate.run.RunError while
    another command is at work in the folder.
    """
    return Prepared(**laid_down(folder, PACKAGES, _VERSION, _lay_down, cache))


def _lay_down(places: Mapping[str, Path], target: Path) -> dict[str, int]:
    target.mkdir(parents=True)
    found = [p for place in places.values() for p in sorted(place.rglob("*.ttf")) if not p.name.startswith(_ODD)]
    for path in found:
        shutil.copyfile(path, target / path.name)
        os.utime(target / path.name, (0, 0))
    return {"fonts": len(found)}
