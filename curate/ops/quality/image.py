"""Measure image files: their size, and whether they decode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from PIL.Image import Image

from curate.image.files import Decoded, ImageLimits, header
from curate.ops.spec import Columns, Count, Failed, op
from curate.pool.blob import Blob

_LIMITS = ImageLimits()
_SIZES = {
    "width": pa.int32(),
    "height": pa.int32(),
    "min_side": pa.int32(),
    "max_side": pa.int32(),
    "aspect": pa.float32(),
    "pixels": pa.int64(),
}


@op(
    reads=("image_bytes",),
    writes=_SIZES,
    version=2,
)
def image_size(
    files: Sequence[bytes], *, max_side_px: Count = _LIMITS.max_side_px, max_pixels: Count = _LIMITS.max_pixels
) -> Columns:
    """Sides in pixels as seen upright, the long over the short side, and the area; reads the header, decodes nothing.

    A row whose header cannot be read, or is above the limits, fails with the error's name.
    """
    limits = ImageLimits(max_side_px=max_side_px, max_pixels=max_pixels)
    rows = [_sizes(header(data, limits)) for data in files]
    return {name: [row if isinstance(row, Failed) else row[name] for row in rows] for name in _SIZES}


def _sizes(found: Decoded) -> Failed | dict[str, int | float]:
    if found.error is not None:
        return Failed(found.error, found.detail)
    short, long = sorted((found.width, found.height))
    values = (found.width, found.height, short, long, long / short, found.width * found.height)
    return dict(zip(_SIZES, values, strict=True))


@op(
    reads=("decoded",),
    writes={
        "image_ok": pa.bool_(),
        "image_error": pa.string(),
        "image_format": pa.string(),
        "image_mode": pa.string(),
        "frames": pa.int32(),
        "orientation": pa.int8(),
    },
    version=2,
)
def image_ok(images: Sequence[Decoded]) -> Columns:
    """Decode the whole file: whether that succeeds, and if not the error's name; format and mode as stored, frames,
    EXIF orientation.

    Never fails a row: `keep: {image_ok: {is: true}}` drops what is broken, `frames: {max: 1}` what is animated.
    What could not be read from a broken file is null.
    """
    return {
        "image_ok": [each.error is None for each in images],
        "image_error": [each.error for each in images],
        "image_format": [each.format or None for each in images],
        "image_mode": [each.mode or None for each in images],
        "frames": [each.frames or None for each in images],
        "orientation": [each.orientation if each.format else None for each in images],
    }


@op(
    reads="blob",
    writes={
        "image_found": pa.bool_(),
        "image_missing": pa.string(),
        "image_format": pa.string(),
        "min_side": pa.int32(),
        "max_side": pa.int32(),
        "aspect": pa.float32(),
    },
    version=2,
    batch_size=1024,
)
def image_file(blobs: Sequence[Blob]) -> Columns:
    """Tell of an image of a document whether it is there (else the error by which it is missing), its format, its
    sides.

    With `over: images`; what was fetched is not read again. Format: jpg, png, webp, gif, tif, ... by the first bytes.
    Sides in pixels as seen upright, and the long over the short. OBELICS keeps jpg, png and webp with sides of 150 to
    20,000 and an aspect of at most 2; MM1 sides of 100 to 10,000; MMC4 sides from 150; Flamingo sides from 64 and an
    aspect of at most 3.
    """
    rows = [_file(blob) for blob in blobs]
    return {name: [row if isinstance(row, Failed) else row[name] for row in rows] for name in _FILE}


_FILE = ("image_found", "image_missing", "image_format", "min_side", "max_side", "aspect")
_ALIKE = {"jpeg": "jpg", "tiff": "tif"}


def _file(blob: Blob) -> Failed | dict[str, Any]:
    if blob.error is not None:
        return dict(zip(_FILE, (False, blob.error, None, None, None, None), strict=True))
    width, height = blob.width, blob.height
    if width is None or height is None:
        found = header(blob.read())
        if found.error is not None:
            return Failed(found.error, found.detail)
        width, height = found.width, found.height
    ext = (blob.ext or "").lower()
    short, long = sorted((width, height))
    return dict(zip(_FILE, (True, None, _ALIKE.get(ext, ext), short, long, long / short), strict=True))


@op(reads="image", writes={"colour_levels": pa.int32()}, version=2, batch_size=16)
def colour_levels(images: Sequence[Image]) -> Columns:
    """By how many levels, 0 to 255, the brightest and the darkest pixel differ, in the channel where they do most.

    0 of one colour. Flamingo (Alayrac et al. 2022, appendix A.3) drops images of a single colour.
    """
    return {"colour_levels": [max(high - low for low, high in image.getextrema()) for image in images]}  # type: ignore[misc]
