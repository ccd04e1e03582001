"""The perceptual hash of Zauner 2010."""

from __future__ import annotations

import numpy as np
from PIL import Image

_SIDE, _LOW = 32, 8


def perceptual_hash(image: Image.Image) -> int:
    """Compute the 64 bits of `image_hashes`; the first coefficient is the highest bit, of a signed number."""
    from scipy.fft import dct

    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
    low = dct(dct(grey, axis=0), axis=1)[:_LOW, :_LOW]
    bits = np.packbits(low > np.median(low))
    return int.from_bytes(bits.tobytes(), "big", signed=True)
