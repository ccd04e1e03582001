"""Augmentation of training images: crops, flips and colours, keyed by the sample."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from curate.settings import Settings

Share = Annotated[float, Field(ge=0.0, le=1.0)]

Colour = tuple[
    Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]
]


class Augment(Settings):
    """Augmentation of a training image, keyed by (seed, uid, epoch). The defaults vary nothing."""

    crop_min_area: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Smallest share of the image that a random resized crop keeps; 1 resizes the whole and cuts its centre."""
    rotate_degrees: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    """Turned by an angle in [-r, r]."""
    zoom: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Scaled by a factor in [1 - z, 1 + z]; what comes into view is background."""
    stretch: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Width over height scaled by a factor in [1 - s, 1 + s]."""
    shift: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Moved by up to this share of the side, each way."""
    flip: Share = 0.0
    """Probability of a left-right flip."""
    color_jitter: Share = 0.0
    """Brightness, contrast and saturation are each scaled by a factor in [1 - j, 1 + j]."""
    tint: Share = 0.0
    """Red, green and blue are each scaled by a factor in [1 - t, 1 + t]."""
    grayscale: Share = 0.0
    """Probability of losing all colour."""
    blur: Share = 0.0
    """Probability of a 3 x 3 box blur."""
    background: Colour | None = None
    """What shows through transparent pixels, and around what was turned or moved. None: white, and through the
    transparent pixels of a white drawing black."""
    random_background: Share = 0.0
    """Probability of another background colour, any."""
