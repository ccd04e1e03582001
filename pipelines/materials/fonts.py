"""Prepare fonts for `render_text`: Noto's for Latin, Han, kana, Hangul and some 140 other scripts.

`prepare` lays them down; a recipe then says `fonts: [work/fonts/source/*.tt?]`. Nothing of them is part of this
project: they are fetched by version and hash, under the Open Font License.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.materials.packages import prepare_source

PACKAGES = ("fonts-noto-core", "fonts-noto-cjk")

_VERSION = 1
_LEFT_OUT = ("NotoSansSignWriting", "NotoMusic", "NotoSansTifinagh", "NotoSansCJK-Bold", "NotoSerifCJK-Bold")
"""What holds no text, repeats what another font holds, or is large and no other shape."""


@dataclass(frozen=True)
class PreparedFonts:
    """Counts of prepared font files."""

    fonts: int


def prepare(folder: Path, cache: Path | None = None) -> PreparedFonts:
    """Fetch Debian's packages and lay down `folder`/source/*.tt?. Done once, then found.

    Raises PackageUnavailableError where the packages cannot be had, and RunError while
    another command is at work in the folder.
    """
    return PreparedFonts(**prepare_source(folder, PACKAGES, _VERSION, _lay_down, cache))


def _lay_down(places: Mapping[str, Path], target: Path) -> dict[str, int]:
    target.mkdir(parents=True)
    every = [path for place in places.values() for path in sorted(place.rglob("*.tt[fc]"))]
    found = [path for path in every if not path.name.startswith(_LEFT_OUT)]
    for path in found:
        shutil.copyfile(path, target / path.name)
        os.utime(target / path.name, (0, 0))
    return {"fonts": len(found)}
