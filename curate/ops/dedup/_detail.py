"""Fine detail of images that look alike: whether the print on two sheets of one form is the same print.

At the 32 pixels of a thumbnail two invoices of one firm are one picture. Here what is finer than its surroundings is
laid on the other's and compared place by place: copies agree everywhere, other words agree nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.ops.dedup._lookalike import UNMOVED, Array, blur, boxes, measure_moved, refine, warp

SIDE = 96
"""Pixels a side: a line of print on a page of 50 lines is two of them, and a word is four."""
DETAIL_BYTES = SIDE * SIDE
BLOCKS = 8
"""Places a side: one changed word is enough of what there is to see in a 64th of the picture."""
NOISE = 36.0
"""Mean square in grey levels of detail that is no print: what codecs leave on paper, the grain of a photograph."""
MIN_GAIN = 0.6
"""Copies of half or twice the size have softer or crisper edges: to this share of the contrast, or its inverse."""
MARGIN = 9
"""Squares of so many pixels reach beyond a cropped edge: nothing is compared there."""
MAX_REST = 0.065
"""Share of a block's detail that may differ: re-encoded and resized forms differ by .06 at most, photographs by .012;
forms with other words by .2 and more, with another number or two by .08 to .6."""
MAX_REST_CROPPED = 0.2
"""A cropped copy's pixels lie between the original's: photographs differ by .03 then, drawings by .15, forms by .06 to
.3."""
BOTH_PRINTED = 0.1
"""Least share of one picture's detail to the other's where both have print: a line on blank paper has less."""
MAX_REST_SMALL = 0.4
"""Pictures of less than twice as many pixels have no print to tell, and resizing them takes detail away."""


def make_detail(image: Image.Image) -> bytes:
    """Make `DETAIL_BYTES` bytes of an RGB image: its grey levels at (SIDE, SIDE)."""
    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return small.convert("L").tobytes()


@dataclass(frozen=True)
class Details:
    """Details of n pictures: grey levels (n, SIDE, SIDE) and sides in pixels (n, 2)."""

    grey: Array
    sides: npt.NDArray[np.int32]


def split_details(
    details: npt.NDArray[np.uint8], sides: npt.NDArray[np.int32], mirror: npt.NDArray[np.bool_]
) -> Details:
    """(n, DETAIL_BYTES) uint8 and sides (n, 2) to details, those of `mirror` (n,) turned left to right."""
    grey = details.reshape(-1, SIDE, SIDE).astype(np.float32)
    return Details(np.where(mirror[:, None, None], grey[:, :, ::-1], grey), sides)


def is_same_print(first: Details, second: Details, place: Array) -> npt.NDArray[np.bool_]:
    """Whether the details of n pairs agree everywhere, once `first` is laid on `second` at about `place` (n, 4)."""
    start, place = place, refine(first.grey, second.grey, place, 2)
    cropped = np.minimum(measure_moved(start), measure_moved(place)) >= UNMOVED
    small = np.minimum(first.sides.min(1), second.sides.min(1)) < 2 * SIDE
    allowed = np.where(cropped, MAX_REST_CROPPED, MAX_REST)
    return np.asarray(_rest(first.grey, second.grey, place) <= np.where(small, MAX_REST_SMALL, allowed))


def _rest(first: Array, second: Array, place: Array) -> Array:
    return np.asarray(measure_rest(first, second, place)[0].max((1, 2)))


def measure_rest(first: Array, second: Array, place: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Measure the share of the detail of each block that is one picture's alone, and whether both have print there.

    (n, BLOCKS, BLOCKS) each, contrast being set right.
    """
    warped, inside = warp(first, place)
    edge = MARGIN // 2
    within = np.pad(boxes(inside, MARGIN) > 0.999, ((0, 0), (edge, edge), (edge, edge)))
    one, other = (_fine(picture) * within for picture in (warped, second))
    own, both, theirs = _by_block(one * one), _by_block(one * other), _by_block(other * other)
    gain = np.clip(both / np.maximum(own, 1e-6), MIN_GAIN, 1 / MIN_GAIN)
    left, all_ = theirs - 2 * gain * both + gain * gain * own, theirs + gain * gain * own
    rest = np.asarray(left / (all_ + NOISE * (SIDE // BLOCKS) ** 2), np.float32)
    return rest, np.minimum(own, theirs) > BOTH_PRINTED * np.maximum(own, theirs)


def _fine(pictures: Array) -> Array:
    return pictures - blur(blur(pictures))


def _by_block(values: Array) -> Array:
    size = SIDE // BLOCKS
    return np.asarray(values.reshape(-1, BLOCKS, size, BLOCKS, size).sum((2, 4)))
