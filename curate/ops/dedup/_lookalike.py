"""Near-duplicate images: thumbnails, descriptors that propose pairs, an alignment that decides.

Pure numpy over blocks of rows or pairs; the bookkeeping around it is in `dedup.py`. A thumbnail is `SIDE` x `SIDE`
luma and two planes of half that side for colour, all stretched to a square. A row's values never depend on the
rows that share its block.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float32]

SIDE = 32
COLOUR_SIDE = SIDE // 2
THUMBNAIL_BYTES = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE
WINDOW_GRIDS = ((0.93, 3), (0.865, 4), (0.8, 5))
"""Sides of the windows looked at for the other picture's whole, and how many places each way: any crop to 80 % of both
sides or more lies within 3 % of one."""
MAX_SCALE = 1.35
"""Two copies may both be cropped, at different ends."""
MAX_SHIFT = 0.16
MIN_CONTENT = 0.5
"""A shared part with less of a picture's contrast misses what there is to see: a line along a blank page's edge."""
AGREEING_LEVELS = 14.0
MIN_AGREEING = 0.7
"""Share of the squares of 3 thumbnail pixels that differ by less: a copy whose mark is looked past has more."""
MIN_SHARED = 0.76
"""Less than this share of a side in common is another cut-out, not a lightly cropped copy."""
MAX_STRETCH = 1.08
"""Sides are rounded to pixels, and a picture of little texture is aligned to a few per cent only."""
NOISE = 0.5
"""Grey levels by which rounding alone makes two thumbnails of one picture differ."""
GREY_LEVELS = 3.0
"""What codecs leave of colour in a grey picture."""
GREYS = ((0.0, 0.0), (-0.118, -0.213), (0.476, 0.229), (-0.344, -0.714))
"""Weights of blue and red difference in grey levels made otherwise than as luma: as luma, by BT.709, as the mean of the
three, as green alone."""
UNMOVED = 0.008
"""Edges nearer than this share of the side have not been cropped."""


def make_thumbnail(image: Image.Image) -> bytes:
    """Make `THUMBNAIL_BYTES` bytes of an RGB image: luma (SIDE, SIDE), then blue and red difference at half size."""
    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    y, cb, cr = (np.asarray(plane, np.uint8) for plane in small.convert("YCbCr").split())
    halves = [plane.reshape(COLOUR_SIDE, 2, COLOUR_SIDE, 2).sum((1, 3), dtype=np.uint16) for plane in (cb, cr)]
    return y.tobytes() + b"".join(((half + 2) // 4).astype(np.uint8).tobytes() for half in halves)


@dataclass(frozen=True)
class Planes:
    """Thumbnails of n rows as float32: `luma` (n, SIDE, SIDE) and `colour` (n, 2, COLOUR_SIDE, COLOUR_SIDE)."""

    luma: Array
    colour: Array

    def mirror(self, where: npt.NDArray[np.bool_]) -> Planes:
        """The same rows, those of `where` (n,) turned left to right."""
        return Planes(
            np.where(where[:, None, None], self.luma[:, :, ::-1], self.luma),
            np.where(where[:, None, None, None], self.colour[:, :, :, ::-1], self.colour),
        )

    def is_grey(self) -> npt.NDArray[np.bool_]:
        """Whether each row has no colour, (n,)."""
        return np.asarray(np.abs(self.colour - 128).max((1, 2, 3)) <= GREY_LEVELS)

    def greyed_like(self, others: Planes) -> Array:
        """How each row's colour was made grey, (n, 2) weights of blue and red difference; 0 of rows that were not.

        Of the usual ways (`GREYS`) the one that comes nearest to the other row, which is without colour.
        """
        was_greyed = others.is_grey() & ~self.is_grey()
        if not was_greyed.any():
            return np.zeros((len(was_greyed), 2), np.float32)
        colour = (self.colour - 128).repeat(2, axis=2).repeat(2, axis=3)
        rest = self.luma - others.luma
        apart = [((rest + blue * colour[:, 0] + red * colour[:, 1]) ** 2).sum((1, 2)) for blue, red in GREYS]
        best = np.array(GREYS, np.float32)[np.argmin(apart, axis=0)]
        return np.where(was_greyed[:, None], best, np.float32(0))

    def weigh(self, weights: Array) -> Planes:
        """The same rows, their luma made grey by the `weights` (n, 2) of `greyed_like`."""
        return Planes(weigh(self.luma, self.colour, weights), self.colour) if weights.any() else self


def weigh(luma: Array, colour: Array, weights: Array) -> Array:
    """Grey levels (n, side, side) of luma and colour (n, 2, COLOUR_SIDE, COLOUR_SIDE) by `Planes.greyed_like`."""
    times = luma.shape[1] // COLOUR_SIDE
    shares = weights[:, :, None, None] * (colour - 128)
    return np.asarray(luma + shares.sum(1).repeat(times, axis=1).repeat(times, axis=2))


def split_planes(thumbnails: npt.NDArray[np.uint8]) -> Planes:
    """(n, THUMBNAIL_BYTES) uint8 to planes."""
    luma = thumbnails[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE)
    colour = thumbnails[:, SIDE * SIDE :].reshape(-1, 2, COLOUR_SIDE, COLOUR_SIDE)
    return Planes(luma.astype(np.float32), colour.astype(np.float32))


# Proposing: low cosine coefficients of the whole and of five windows.


@cache
def _cosines(side: int, start: float, length: float, count: int) -> npt.NDArray[np.float64]:
    """(count, side): cosine basis over the window, averaged over each pixel, in units of root mean square."""
    fine = 16
    u = (np.arange(side * fine) + 0.5) / (side * fine)
    z = (u - start) / length
    inside = (z >= 0) & (z < 1)
    k = np.arange(count)[:, None]
    waves = np.where(inside, np.cos(np.pi * k * z) * np.where(k == 0, 1.0, np.sqrt(2.0)), 0.0) / inside.sum()
    return np.asarray(waves.reshape(count, side, fine).sum(2))


WAVES = [(v, u) for v in range(5) for u in range(5) if u + v <= 4]
DIMENSIONS = len(WAVES)
WINDOWS = [
    (1.0, 0.0, 0.0),
    *(
        (side, (1 - side) * column / (places - 1), (1 - side) * row / (places - 1))
        for side, places in WINDOW_GRIDS
        for row in range(places)
        for column in range(places)
    ),
]
"""(side, left, top) of each view, in units of the side: the whole, then the windows."""
VIEWS = len(WINDOWS)
MIRRORED_VIEWS = [0] + [
    first + row * places + places - 1 - column
    for first, places in ((1, 3), (10, 4), (26, 5))
    for row in range(places)
    for column in range(places)
]
"""The view that each becomes once the picture is turned left to right."""
MIRROR_SIGNS: Array = np.array([-1 if u % 2 else 1 for _, u in WAVES], np.float32)
WHOLE: Array = np.array([1, 0, 1, 0], np.float32)
"""The place of a picture on one of the same frame, see `align`."""


def compute_descriptors(luma: Array) -> Array:
    """Compute (n, VIEWS, DIMENSIONS): low cosine coefficients in grey levels, of the whole (0) and of each window."""
    found = np.empty((len(luma), VIEWS, DIMENSIONS), np.float32)
    wide = luma.astype(np.float64)
    for view, (length, left, top) in enumerate(WINDOWS):
        waves = _cosines(SIDE, top, length, 5) @ wide @ _cosines(SIDE, left, length, 5).T
        found[:, view] = np.stack([waves[:, v, u] for v, u in WAVES], axis=1)
    return found


def mirror_views(views: Array) -> Array:
    """The descriptors (n, VIEWS, DIMENSIONS) that the pictures have when turned left to right."""
    return views[:, MIRRORED_VIEWS] * MIRROR_SIGNS


def closest_views(
    first: Array, second: Array, mirror: npt.NDArray[np.bool_]
) -> tuple[Array, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Distance of n pairs of descriptors (n, VIEWS, DIMENSIONS), and where it was found, for `starting_places`.

    The least over the views of the first against the whole of the second, and the other way round (`inverse`); the
    first is turned left to right where `mirror`.
    """
    turned = np.where(mirror[:, None], MIRROR_SIGNS, np.float32(1))
    there, back = _distances(first, second[:, 0] * turned), _distances(second, first[:, 0] * turned)
    inverse = back.min(1) < there.min(1)
    view = there.argmin(1)
    view = np.where(inverse, back.argmin(1), np.where(mirror, np.array(MIRRORED_VIEWS)[view], view))
    return np.sqrt(np.minimum(there.min(1), back.min(1))), view, inverse


def _distances(views: Array, whole: Array) -> Array:
    """(n, VIEWS) squared distances."""
    cross = np.einsum("nvd,nd->nv", views, whole)
    own = np.einsum("nvd,nvd->nv", views, views)
    return np.maximum(own - 2 * cross + np.einsum("nd,nd->n", whole, whole)[:, None], 0)


def bucket_keys(points: Array, table: int, cell: float) -> npt.NDArray[np.uint64]:
    """Keys of (n, DIMENSIONS) points in one table: three nested grids, each finer, in the bits from the top down.

    Near points share a key with a probability that falls with distance / cell: Datar et al. 2004, section 3.2,
    with projections of signs. `key >> 40` is the coarse bucket, `key >> 20` splits it, `key` splits it again.
    """
    keys = np.zeros(len(points), np.uint64)
    rounded = np.rint(points.astype(np.float64) * 64) / 64  # sums of these are exact, in whatever order
    for level, count in enumerate((4, 4, 8)):
        signs, shifts = _projections(table, level, count)
        cells = np.floor(rounded @ signs / cell + shifts).astype(np.int64)
        keys = (keys << np.uint64(20)) | (_mix(cells) >> np.uint64(44))
    return keys


def _projections(table: int, level: int, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(DIMENSIONS, count) of -1 and 1, and (count,) in [0, 1): from a hash, the same on every machine."""
    raw = hashlib.shake_256(f"{table}/{level}".encode()).digest(count * (DIMENSIONS + 1))
    drawn = np.frombuffer(raw, np.uint8).reshape(DIMENSIONS + 1, count)
    return np.where(drawn[:-1] & 1, 1.0, -1.0), drawn[-1] / 256.0


def _mix(cells: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """(n, count) grid cells to one well mixed 64-bit number a row (the finaliser of splitmix64, chained)."""
    mixed = np.full(len(cells), 0x9E3779B97F4A7C15, np.uint64)
    for column in cells.T.astype(np.uint64):
        mixed = (mixed ^ column) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(32)
    return mixed


# Deciding: one picture is laid on the other, and what is left is looked at.


@dataclass(frozen=True)
class MatchLimits:
    """Limits of difference between two aligned thumbnails, in grey levels of 256 unless said; see `is_same_picture`."""

    similarity: float
    levels: float


@dataclass(frozen=True)
class Differences:
    """Differences of aligned pairs, (n,) each: correlation, grey levels left over, and how far one had to move.

    `spread` is the root mean square of the luma left over, `fine`, `middle`, `wide` its largest mean over a square
    of 3, 4 and 6 thumbnail pixels; `colour_spread` and `colour` the same for colour (squares of 3 of its pixels).
    `content` is how much of either's own contrast lies in the shared part, the lesser of the two.
    `greyed`: one of them has no colour, the other has. `agreeing`: share of the squares of 3 that hardly differ.
    `moved` is how far an edge of one lies from the other's, as a share of the side; `shared` the least share of a
    side of either that the other shows too.
    """

    similarity: Array
    spread: Array
    fine: Array
    middle: Array
    wide: Array
    colour_spread: Array
    colour: Array
    content: Array
    moved: Array
    shared: Array
    greyed: npt.NDArray[np.bool_]
    agreeing: Array


def measure_differences(first: Planes, second: Planes, place: Array) -> Differences:
    """Measure the differences of n pairs once `first` is laid on `second` at `place` (n, 4), see `align`."""
    warped, inside = warp(first.luma, place)
    rest = (second.luma - warped) * inside
    blue, inside_blue = warp(first.colour[:, 0], place)
    red, _ = warp(first.colour[:, 1], place)
    rest_blue, rest_red = (second.colour[:, 0] - blue) * inside_blue, (second.colour[:, 1] - red) * inside_blue
    return Differences(
        _similarity(warped, second.luma, inside),
        _spread(rest, inside),
        np.abs(boxes(rest, 3)).max((1, 2)),
        np.abs(boxes(rest, 4)).max((1, 2)),
        np.abs(boxes(rest, 6)).max((1, 2)),
        np.hypot(_spread(rest_blue, inside_blue), _spread(rest_red, inside_blue)),
        np.hypot(boxes(rest_blue, 3), boxes(rest_red, 3)).max((1, 2)),
        np.minimum(_content(warped, inside, first.luma), _content(second.luma, inside, second.luma)),
        measure_moved(place),
        _shared(place),
        first.is_grey() != second.is_grey(),
        _agreeing(rest, inside),
    )


def _agreeing(rest: Array, inside: Array) -> Array:
    """Share (n,) of the squares of 3 pixels in the shared part that differ by less than AGREEING_LEVELS."""
    shown = boxes(inside, 3) > 0.99
    near = shown & (np.abs(boxes(rest, 3)) <= AGREEING_LEVELS)
    return np.asarray(near.sum((1, 2)) / np.maximum(shown.sum((1, 2)), 1), np.float32)


def _content(part: Array, inside: Array, whole: Array) -> Array:
    """Contrast of the shared part over that of the whole (root mean square about the mean), (n,)."""
    mean = (part * inside).sum((1, 2)) / np.maximum(inside.sum((1, 2)), 1)
    shared = _spread((part - mean[:, None, None]) * inside, inside)
    own = np.sqrt(whole.var((1, 2)))
    return np.asarray((shared + NOISE) / (own + NOISE), np.float32)


def _shared(place: Array) -> Array:
    scale, shift = place[:, 0::2], place[:, 1::2]
    common = np.minimum(shift + scale / 2, 0.5) - np.maximum(shift - scale / 2, -0.5)
    return np.asarray((common / np.maximum(scale, 1)).min(1))


def is_same_picture(left: Differences, limits: MatchLimits) -> npt.NDArray[np.bool_]:
    """Whether each of n aligned pairs shows one picture.

    Five things must hold: each shows nearly all of the other, and what it does not show is not all that there is to
    see (a line along the edge of a blank page); they correlate; no place differs much, and less where
    neither was cropped, as then the thumbnails sample the same points; and no place stands out from the rest. A codec
    disturbs the whole picture, another drawing (a skin tone, a clock's hand) one place.
    """
    level = limits.levels
    fine = np.where(left.moved < UNMOVED, 1.3, 2.0) * level
    near = (left.wide <= level) & (left.fine <= fine) & ((left.colour <= level) | left.greyed)
    even = left.middle <= 2.8 * (left.spread + NOISE)
    even &= (left.colour <= 2.2 * (left.colour_spread + NOISE)) | left.greyed
    whole = (left.shared >= MIN_SHARED) & (left.content >= MIN_CONTENT)
    return (left.similarity >= limits.similarity) & whole & near & even


def align(first: Array, second: Array, start: Array) -> Array:
    """Align n pairs: (n, 4) places that lay the lumas `first` on `second`, refined from `start` by Gauss-Newton.

    A place is scale and shift of x, then of y, in units of the side: the second picture's coordinate u (0 in the
    middle) lies at scale * u + shift in the first.
    Inverse compositional (Baker and Matthews 2004, section 3.2), first blurred, then sharp.
    """
    place = refine(blur(first), blur(second), start, 5)
    return refine(first, second, place, 2)


def refine(first: Array, second: Array, place: Array, rounds: int, *, clipped: bool = False) -> Array:
    """Refine the places (n, 4) of pictures (n, side, side) by so many rounds of `align`.

    `clipped`: what differs most pulls no more than what differs a little (Huber 1964), so that a mark pulls nothing.
    """
    u = _axis(second.shape[1])
    across, down = _slopes(second)
    solver = np.linalg.inv(_normal(across, down, u))
    place = place.copy()
    for _ in range(rounds):
        warped, inside = warp(first, place)
        rest = (warped - second) * inside
        if clipped:
            most = np.maximum(6, np.float32(2.5) * np.median(np.abs(rest).reshape(len(rest), -1), axis=1))
            rest = np.clip(rest, -most[:, None, None], most[:, None, None])
        columns, rows = (across * rest).sum(1), (down * rest).sum(2)
        # Not `columns @ u`: its last bit would depend on how many pairs share the block.
        force = np.stack([part.sum(1) for part in (columns * u, columns, rows * u, rows)], axis=1)
        step = np.clip((solver @ force[:, :, None])[:, :, 0], -0.05, 0.05)
        scale = place[:, 0::2] / (1 + step[:, 0::2])
        shift = place[:, 1::2] - scale * step[:, 1::2]
        place[:, 0::2] = np.clip(scale, 1 / MAX_SCALE, MAX_SCALE)
        place[:, 1::2] = np.clip(shift, -MAX_SHIFT, MAX_SHIFT)
    return place


def _slopes(pictures: Array) -> tuple[Array, Array]:
    """Central differences to the right and downwards, in levels a side; zero on the border."""
    across, down = np.zeros_like(pictures), np.zeros_like(pictures)
    half = np.float32(pictures.shape[1] / 2)
    across[:, :, 1:-1] = (pictures[:, :, 2:] - pictures[:, :, :-2]) * half
    down[:, 1:-1] = (pictures[:, 2:] - pictures[:, :-2]) * half
    return across, down


def _normal(across: Array, down: Array, u: Array) -> Array:
    """(n, 4, 4) normal matrix of scale x, shift x, scale y, shift y; damped, so that a blank picture stays put."""
    xx, yy = (across * across).sum(1), (down * down).sum(2)
    linear = np.stack([u, np.ones_like(u)])
    xy = linear @ (across * down) @ linear.T  # by y, then by x
    normal = np.empty((len(across), 4, 4), np.float32)
    for corner, part in ((0, xx), (2, yy)):
        normal[:, corner, corner] = (part * (u * u)).sum(1)
        normal[:, corner, corner + 1] = normal[:, corner + 1, corner] = (part * u).sum(1)
        normal[:, corner + 1, corner + 1] = part.sum(1)
    normal[:, 2:, :2] = xy
    normal[:, :2, 2:] = xy.transpose(0, 2, 1)
    damping = np.trace(normal, axis1=1, axis2=2) * np.float32(2.5e-4) + 50
    normal += damping[:, None, None] * np.eye(4, dtype=np.float32)
    return normal


def measure_stretch(place: Array, first: npt.NDArray[np.int32], second: npt.NDArray[np.int32]) -> Array:
    """Measure how much wider (n,) the second picture's pixels became than the first's; sides (n, 2) are w, h."""
    covered = place[:, 0] * first[:, 0] / (place[:, 2] * first[:, 1])
    return (second[:, 0] / second[:, 1] / covered).astype(np.float32)


def measure_moved(place: Array) -> Array:
    """Measure how far (n,) an edge of one picture lies from the other's at `place`, as a share of the side."""
    return np.asarray((np.abs(place[:, 0::2] - 1) / 2 + np.abs(place[:, 1::2])).max(1))


def starting_places(view: npt.NDArray[np.int64], inverse: npt.NDArray[np.bool_]) -> Array:
    """(n, 4) placements that lay view number `view` of the first picture on the whole second, or, where
    `inverse`, the first's whole on that view of the second."""
    table = np.array([(s, x + s / 2 - 0.5, s, y + s / 2 - 0.5) for s, x, y in WINDOWS], np.float32)
    place = table[view]
    back = np.empty_like(place)
    back[:, 0::2] = 1 / place[:, 0::2]
    back[:, 1::2] = -place[:, 1::2] / place[:, 0::2]
    return np.where(inverse[:, None], back, place).astype(np.float32)


def _axis(side: int) -> Array:
    """(side,) pixel centres in units of the side, 0 in the middle."""
    return np.asarray((np.arange(side) + 0.5) / side - 0.5, np.float32)


def warp(pictures: Array, place: Array) -> tuple[Array, Array]:
    """Resample pictures (n, side, side) at `place`; beside them 1 where the sample lies inside the picture, else 0."""
    x, in_x = _weights(pictures.shape[2], place[:, 0], place[:, 1])
    y, in_y = _weights(pictures.shape[1], place[:, 2], place[:, 3])
    return np.asarray(y @ pictures @ x.transpose(0, 2, 1)), np.asarray(in_y[:, :, None] * in_x[:, None, :])


def _weights(side: int, scale: Array, shift: Array) -> tuple[Array, Array]:
    """(n, side, side) linear interpolation along one axis, and (n, side) whether the place is inside."""
    middle = scale[:, None] * _axis(side) + shift[:, None]
    at = np.asarray((middle + 0.5) * side - 0.5, np.float32)
    inside = np.asarray((at >= -0.25) & (at <= side - 0.75), np.float32)
    at = np.clip(at, 0, side - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, :, None] - np.arange(side, dtype=np.float32)))
    return np.asarray(weights, np.float32), inside


def _similarity(first: Array, second: Array, inside: Array) -> Array:
    """Correlation over the shared part, with a floor of two levels of contrast so that blank agrees with blank."""
    area = np.maximum(inside.sum((1, 2)), 1)
    x, y = ((p - ((p * inside).sum((1, 2)) / area)[:, None, None]) * inside for p in (first, second))
    floor = np.float32(4.0)
    together, own = (x * y).sum((1, 2)) / area, ((x * x + y * y).sum((1, 2))) / area
    return np.asarray((2 * together + floor) / (own + floor), np.float32)


def _spread(rest: Array, inside: Array) -> Array:
    """Root mean square over the shared part, (n,)."""
    return np.asarray(np.sqrt((rest * rest).sum((1, 2)) / np.maximum(inside.sum((1, 2)), 1)), np.float32)


def boxes(rest: Array, size: int) -> Array:
    """Take means over every `size` x `size` square."""
    side = rest.shape[1]
    start = np.arange(side - size + 1)[:, None]
    column = np.arange(side)
    band = ((column >= start) & (column < start + size)).astype(np.float32) / np.float32(size)
    return np.asarray(band @ rest @ band.T)


def blur(pictures: Array) -> Array:
    """Smooth pictures (n, side, side) by the weights 1, 2, 1 each way."""
    wide = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), "edge")
    wide = (wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]) * np.float32(0.25)
    return ((wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:]) * np.float32(0.25)).astype(np.float32)
