"""Write an image file again after its pixels were changed, in the manner in which it was stored."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image, JpegImagePlugin

from curate.image.files import load_rgb, open_stored

_QUALITY = 95
"""Of JPEG and WebP where the file's own cannot be kept."""
_EXTS: Mapping[str, str] = {"JPEG": "jpg", "WEBP": "webp"}


def changed(data: bytes, change: Callable[[Image.Image], Image.Image]) -> tuple[bytes, str, tuple[int, int]]:
    """The file whose upright RGB pixels `change` was given, its format's extension, and its size in pixels.

    A JPEG keeps its quantisation tables and the resolution of its colours, so that what did not change is hardly
    touched; a WebP stays one, of quality 95; all else, of which the first frame is taken, becomes PNG, which loses
    nothing. Colour profiles stay; EXIF and other notes, which may hold a preview of what was changed, do not, and no
    orientation is needed any more. Raises ImageError for what `curate.image.files.decode` refuses.
    """
    found, stored = open_stored(data)
    profile = stored.info.get("icc_profile")
    settings: dict[str, Any] = {"quality": _QUALITY}
    if isinstance(stored, JpegImagePlugin.JpegImageFile):
        settings = _jpeg_settings(stored)
    grey = stored.mode in ("1", "L")
    image = change(load_rgb(stored, data, found))
    if grey:
        image = image.convert("L")
    if isinstance(profile, bytes) and found.mode in ("L", "RGB", "RGBA"):
        settings["icc_profile"] = profile
    name = found.format if found.format in _EXTS else "PNG"
    image.save(file := io.BytesIO(), name, **settings)
    return file.getvalue(), _EXTS.get(name, "png"), image.size


def _jpeg_settings(stored: JpegImagePlugin.JpegImageFile) -> dict[str, Any]:
    """The manner in which a JPEG was encoded, before it is decoded, which forgets it."""
    progressive = bool(stored.info.get("progressive"))
    tables = {number: list(table) for number, table in stored.quantization.items()}
    if stored.mode not in ("L", "RGB") or not 1 <= len(tables) <= 4:
        return {"quality": _QUALITY, "subsampling": 0, "progressive": progressive}
    sampling = JpegImagePlugin.get_sampling(stored)
    settings: dict[str, Any] = {"qtables": tables, "progressive": progressive}
    return settings | ({"subsampling": sampling} if sampling >= 0 else {"subsampling": 0})
