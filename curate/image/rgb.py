"""Stored pictures of any mode as 8-bit RGB: 16 bits scaled to 8, and what is transparent laid on a colour."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, TiffImagePlugin

from curate.image.structure import without_notes

RGB = tuple[int, int, int]

WHITE: RGB = (255, 255, 255)
BLACK: RGB = (0, 0, 0)

PALE_LEVELS = 32
"""What differs by no more from the colour below it is not seen: 1.3 to 1 in contrast, where readable print asks for 4.5
to 1 (WCAG 2.2, criterion 1.4.3)."""
MIN_DRAWING_PX = 16
"""The side of the smallest icons; what is smaller is a spacer or a rule, and stays on white."""

_BITS, _PHOTOMETRIC = 258, 262
"""Tags of a TIFF."""


def to_rgb(stored: Image.Image, data: bytes, background: RGB | None) -> Image.Image:
    """The pixels of a decoded file, whose bytes are `data`, as RGB without alpha.

    What is transparent lies on `background`; where none is given, on white, and on black if the picture can be seen
    there but not on white (a white drawing).
    """
    clear = _one_colour(stored, data)
    if clear is not None:
        rgba = _opaque(stored)
        rgba.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
        return _laid(rgba, background)
    if stored.mode == "La":
        stored = stored.convert("LA")
    if "transparency" in stored.info or stored.mode in ("LA", "PA", "RGBA", "RGBa"):
        return _laid(stored.convert("RGBA"), background)
    return _opaque(stored)


def _laid(rgba: Image.Image, background: RGB | None) -> Image.Image:
    if background is not None:
        return _on(rgba, background)
    white = _on(rgba, WHITE)
    if min(rgba.size) < MIN_DRAWING_PX or not _is_flat(white):
        return white
    black = _on(rgba, BLACK)
    return white if _is_flat(black) else black


def _on(rgba: Image.Image, background: RGB) -> Image.Image:
    below = Image.new("RGB", rgba.size, background)
    below.paste(rgba, mask=rgba.getchannel("A"))
    return below


def _is_flat(rgb: Image.Image) -> bool:
    """Whether there is nothing to see."""
    return all(high - low <= PALE_LEVELS for low, high in rgb.getextrema())  # type: ignore[misc]


def _opaque(stored: Image.Image) -> Image.Image:
    if not stored.mode.startswith("I"):
        rgb = stored.convert("RGB")
        rgb.info = {}
        return rgb
    grey_HW, most, negative = np.asarray(stored).astype(np.uint32), 0xFFFF, False  # Pillow alone would clip
    if isinstance(stored, TiffImagePlugin.TiffImageFile):  # and it leaves 12 bits, and white that is 0, as they are
        most = (1 << min(16, stored.tag_v2.get(_BITS, (16,))[0])) - 1
        negative = stored.tag_v2.get(_PHOTOMETRIC) == 0
    scaled_HW = ((grey_HW * 255 + most // 2) // most).astype(np.uint8)
    return Image.fromarray(255 - scaled_HW if negative else scaled_HW).convert("RGB")


def _one_colour(stored: Image.Image, data: bytes) -> npt.NDArray[np.bool_] | None:
    """Where (H, W) a PNG has the one colour that it calls transparent; None without one.

    The colour is given at the depth of the samples (PNG, third edition, section 11.3.1.1); Pillow has it compared with
    what they became at 8 bits.
    """
    colour = stored.info.get("transparency")
    if not isinstance(stored, PngImagePlugin.PngImageFile) or stored.mode not in ("1", "L", "I;16", "RGB"):
        return None
    if not isinstance(colour, int | tuple):
        return None
    bits = data[data.index(b"IHDR") + 12]
    most = (1 << bits) - 1
    samples = np.asarray(stored)
    if stored.mode == "L":
        samples = samples // (255 // most)  # back from where Pillow spread them
    elif stored.mode == "RGB" and bits == 16:
        samples = samples.astype(np.uint16) << 8 | _low_bytes(data)
    same = samples == (np.array(colour) & most)
    return np.asarray(same.all(2) if same.ndim == 3 else same)


def _low_bytes(data: bytes) -> npt.NDArray[np.uint8]:
    """(H, W, 3) the lower halves of the 16-bit samples of a colour PNG, which Pillow leaves out."""
    again = PngImagePlugin.PngImageFile(io.BytesIO(without_notes(data)))
    again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]  # read as little-endian, the low byte leads
    return np.asarray(again)
