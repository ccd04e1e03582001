"""Read Tux Paint's stamps: photographs cut out and drawings, one sentence each (GPL-2: for tests alone)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from curate.image.files import decode


@dataclass(frozen=True)
class Stamp:
    """A stamp's path below the package, its picture, and its English caption without the full stop."""

    name: str
    image: Image.Image
    caption: str


def stamps(package: Path, side_px: int) -> Iterator[Stamp]:
    """One stamp a caption, in the order of their paths; vectors are drawn `side_px` wide, or left out without a size.

    `package` is the unpacked material `tuxpaint-stamps`, read as data.
    """
    seen = set()
    for text in sorted(package.rglob("*.txt")):
        caption = text.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip().rstrip(".")
        file = next((path for ext in (".png", ".svg") if (path := text.with_suffix(ext)).is_file()), None)
        if caption and file and caption.casefold() not in seen and (image := _picture(file, side_px)) is not None:
            seen.add(caption.casefold())
            yield Stamp(text.relative_to(package).with_suffix("").as_posix(), image, caption)


def _picture(file: Path, side_px: int) -> Image.Image | None:
    data = file.read_bytes()
    if file.suffix == ".svg":
        import resvg_py

        try:
            data = bytes(resvg_py.svg_to_bytes(svg_string=data.decode(), width=side_px, skip_system_fonts=True))
        except ValueError:  # it says no size
            return None
    return decode(data).image
