"""Measure image files: their size, and whether they decode."""

from collections.abc import Sequence

import pyarrow as pa

from curate.image.files import Decoded, ImageLimits, header
from curate.ops.spec import Columns, Failed, op

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
    version=1,
)
def image_size(
    files: Sequence[bytes], *, max_side_px: int = _LIMITS.max_side_px, max_pixels: int = _LIMITS.max_pixels
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
    version=1,
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
