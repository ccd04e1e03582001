"""Decode images at about the size that is wanted, for training and thumbnails: what is too large in part only.

The files that `files.decode` refuses are refused here, by the same names, and what is not scaled has the same pixels to
the last bit. A JPEG is decoded at a half, quarter or eighth, in the DCT domain, where enough pixels are left.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from curate.image.files import DEFAULT_LIMITS, check_limits, check_scans, load_rgb, open_stored, upright
from curate.image.rgb import RGB
from curate.image.structure import JpegFrame, jpeg_frame

Pixels = npt.NDArray[np.uint8]

_JPEG = b"\xff\xd8\xff"


def scaled_image(data: bytes, least_px: float, background: RGB | None = None) -> Image.Image:
    """RGB image of the first frame, upright; a JPEG's short side is at least `least_px`, if it was.

    What is transparent lies on `background`, or where `files.decode` lays it. Raises ImageError.
    """
    found = _scaled(data, least_px, background)
    return found if isinstance(found, Image.Image) else Image.fromarray(found)


def scaled_pixels(data: bytes, least_px: float) -> Pixels:
    """pixels_HWC of what `scaled_image` gives. Raises ImageError."""
    found = _scaled(data, least_px, None)
    return np.array(found) if isinstance(found, Image.Image) else found


def _scaled(data: bytes, least_px: float, background: RGB | None) -> Image.Image | Pixels:
    frame = jpeg_frame(data) if data.startswith(_JPEG) else None
    if frame is not None and frame.bare:  # opening it with Pillow would cost 70 microseconds and tell nothing
        check_limits((frame.width, frame.height), DEFAULT_LIMITS)
        check_scans(data, frame, (frame.width, frame.height), DEFAULT_LIMITS)
        pixels_HWC = _turbo(data, frame, least_px)
        if pixels_HWC is not None:
            return pixels_HWC
    found, stored = open_stored(data)
    if frame is not None and not frame.bare:
        pixels_HWC = _turbo(data, frame, least_px)
        if pixels_HWC is not None:
            return pixels_HWC if found.orientation == 1 else upright(Image.fromarray(pixels_HWC), found)
    if found.format == "JPEG":
        least = math.ceil(min(least_px, *stored.size))
        stored.draft(None, (least, least))
    return load_rgb(stored, data, found, background)


def _turbo(data: bytes, frame: JpegFrame, least_px: float) -> Pixels | None:
    """The pixels as stored, halved as often as leaves the short side `least_px`; None is for Pillow to decode, or name.

    Only powers of two: libjpeg-turbo has no vector code for other fractions, they take longer than the whole.
    """
    parts = next((n for n in (8, 4, 2) if min(frame.width, frame.height) / n >= least_px), 1)
    height, width = -(-frame.height // parts), -(-frame.width // parts)
    least: dict[str, Any] = {"min_height": height, "min_width": width} if parts > 1 else {}
    try:
        pixels_HWC = np.asarray(simplejpeg.decode_jpeg(data, **least))
    except ValueError:
        return None  # damaged, if only a little: simplejpeg bears none
    return pixels_HWC if pixels_HWC.shape[:2] == (height, width) else None
