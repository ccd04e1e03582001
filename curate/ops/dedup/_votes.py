"""Block votes: whether two aligned pictures are one but for a mark, a logo in a corner and a line of text.

Each picture is cut into `BLOCKS` x `BLOCKS` places that vote. A copy agrees everywhere; a marked one everywhere but in
one corner and one line. Local votes after a robust alignment, as in Lowe 2004 (section 7.4) of keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.ops.dedup import _lookalike as look
from curate.ops.dedup._detail import MAX_REST_CROPPED, SIDE, measure_rest
from curate.ops.dedup._lookalike import Array

BLOCKS = 12
SIZE = SIDE // BLOCKS
COARSE = SIDE // 2
COARSE_ERROR, COARSE_AGREEING = 3.0, 0.7
"""How much more may differ at half the side, before a pair is laid on each other anew, and in how few blocks."""
LEAST_SIDE = 96
"""Pixels of a side: drawings as small as emoji differ by a face's mouth, and nobody marks them."""
TEXTURE = 30.0
"""Sum of both variances of a block that shows something, in grey levels squared."""
LEVEL_ERROR = 25.0
"""Mean square by which a smooth block may differ."""
TEXTURE_ERROR = 0.15
"""Share of the variances by which a textured block may differ: half a pixel amiss leaves so much."""
COLOUR_LEVELS = 14.0
MIN_AGREEING = 0.8
CORNER, LINE = 4, 2
"""Blocks a side of a corner that a logo may hide, and rows of blocks that a line of text may."""
MAX_STRAY = 2
"""Blocks elsewhere that may disagree: a codec's noise, an edge of the mark."""
MIN_VARIANCE = 40.0
"""Least variance of what agrees: two blank pages agree in nothing."""
MAX_UNEXPLAINED = 0.03
"""Share of that variance that may differ: pictures alone in broad shading differ by more."""
PAPER, PAPER_LEVELS = 0.4, 8.0
"""Share of what agrees that is of one level, within so many grey levels: a page, a drawing."""
MAX_REPRINTED = 1
"""Blocks of a page with print in both that is not the same print: other words on one form differ in more."""
MARK_ERROR = 900.0
"""Mean square by which some block of a page must differ: without a mark it is other print that differs a little."""
MAX_OVERPRINT = 0.3
"""Blocks that disagree and show something in both pictures, to those textured ones that agree."""


def _marks() -> Array:
    """(marks, BLOCKS, BLOCKS) 1 where none of the mark's corner and line is."""
    away = []
    for line in range(BLOCKS - LINE + 1):
        for rows in (slice(0, CORNER), slice(-CORNER, None)):
            for columns in (slice(0, CORNER), slice(-CORNER, None)):
                mark = np.ones((BLOCKS, BLOCKS), np.float32)
                mark[line : line + LINE] = 0
                mark[rows, columns] = 0
                away.append(mark)
    return np.stack(away)


AWAY_FROM_MARKS = _marks()


@dataclass(frozen=True)
class Sight:
    """Sight of n pictures that vote: grey levels (n, SIDE, SIDE) and colour (n, 2, COLOUR_SIDE, COLOUR_SIDE)."""

    grey: Array
    colour: Array

    def take(self, rows: npt.NDArray[np.int64]) -> Sight:
        """Those of these rows."""
        return Sight(self.grey[rows], self.colour[rows])


def is_marked_copy(first: Sight, second: Sight, place: Array, greyed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether n pairs are one picture but for a mark, once `first` is laid on `second` at about `place` (n, 4).

    Of pairs that are `greyed` colour is not compared.
    """
    found = np.zeros(len(place), bool)
    rows = np.flatnonzero(_may_agree(first.grey, second.grey, place))
    if len(rows):
        found[rows] = _agree_but_for_a_mark(first.take(rows), second.take(rows), place[rows], greyed[rows])
    return found


def _may_agree(first: Array, second: Array, place: Array) -> npt.NDArray[np.bool_]:
    """Whether each pair is worth the closer look: at half the side and where it lies."""
    one, two = (grey.reshape(-1, COARSE, 2, COARSE, 2).mean((2, 4)) for grey in (first, second))
    warped, inside = look.warp(one, place)
    votes = _vote(warped, two, inside, np.maximum(_sum_blocks(inside), 1))
    near = votes.apart <= COARSE_ERROR * np.maximum(LEVEL_ERROR, TEXTURE_ERROR * (votes.one + votes.two))
    return np.asarray(near.mean((1, 2)) >= COARSE_AGREEING)


def _agree_but_for_a_mark(
    first: Sight, second: Sight, place: Array, greyed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    one, two = look.blur(first.grey), look.blur(second.grey)
    place = look.refine(one, two, place, 3, clipped=True)
    warped, inside = look.warp(one, place)
    shown = _sum_blocks(inside)
    votes = _vote(warped, two, inside, np.maximum(shown, 1))
    agrees = votes.agrees & (_colour_apart(first.colour, second.colour, place) <= COLOUR_LEVELS) | (
        votes.agrees & greyed[:, None, None]
    )
    rest, printed = measure_rest(first.grey, second.grey, place)
    reprinted = ((rest > MAX_REST_CROPPED) & printed).sum((1, 2))
    voting = shown >= 0.75 * SIZE * SIZE
    agrees &= voting
    against = (voting & ~agrees).astype(np.float32)
    stray = np.einsum("nyx,myx->nm", against, AWAY_FROM_MARKS).min(1)
    enough = agrees.sum((1, 2)) >= MIN_AGREEING * voting.sum((1, 2))
    marked = (against * votes.apart).max((1, 2)) >= MARK_ERROR
    same_print = (reprinted <= MAX_REPRINTED) & marked | ~votes.on_paper(agrees)
    return np.asarray(
        same_print & enough & (stray <= MAX_STRAY) & votes.explain(agrees) & votes.overprint_little(agrees, voting)
    )


@dataclass(frozen=True)
class _Votes:
    """Of n pairs and their blocks, (n, BLOCKS, BLOCKS): mean square difference, means and variances of either."""

    apart: Array
    mean: Array
    one: Array
    two: Array

    @property
    def agrees(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.apart <= np.maximum(LEVEL_ERROR, TEXTURE_ERROR * (self.one + self.two)))

    @property
    def textured(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.one + self.two > TEXTURE)

    def explain(self, agrees: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether what agrees shows something, and explains it."""
        count = np.maximum(agrees.sum((1, 2)), 1)
        mean = (self.mean * agrees).sum((1, 2)) / count
        spread = self.two + (self.mean - mean[:, None, None]) ** 2
        variance = (spread * agrees).sum((1, 2)) / count
        unexplained = (self.apart * agrees).sum((1, 2)) / count
        return np.asarray((variance >= MIN_VARIANCE) & (unexplained <= MAX_UNEXPLAINED * variance))

    def overprint_little(self, agrees: npt.NDArray[np.bool_], voting: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether few of the blocks that disagree show something in both."""
        both = ((np.minimum(self.one, self.two) > TEXTURE / 2) & voting & ~agrees).sum((1, 2))
        textured = (self.textured & agrees).sum((1, 2))
        return np.asarray(both <= MAX_OVERPRINT * textured)

    def on_paper(self, agrees: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether much of what agrees is blank, of one level."""
        blank = agrees & ~self.textured
        masked = np.ma.array(self.mean, mask=~blank).reshape(len(blank), -1)
        level = np.ma.median(masked, axis=1).filled(0)  # type: ignore[no-untyped-call]
        even = agrees & (np.abs(self.mean - level[:, None, None]) <= PAPER_LEVELS)
        return np.asarray(even.sum((1, 2)) >= PAPER * agrees.sum((1, 2)))


def _vote(warped: Array, second: Array, inside: Array, shown: Array) -> _Votes:
    rest = (warped - second) * inside
    means = [_sum_blocks(picture * inside) / shown for picture in (warped, second)]
    squares = [_sum_blocks(picture * picture * inside) / shown for picture in (warped, second)]
    one, two = (np.maximum(square - mean * mean, 0) for square, mean in zip(squares, means, strict=True))
    return _Votes(_sum_blocks(rest * rest) / shown, means[1], one, two)


def _colour_apart(first: Array, second: Array, place: Array) -> Array:
    """Distance of the mean colours of each block, (n, BLOCKS, BLOCKS)."""
    rests = []
    for plane in range(2):
        warped, inside = look.warp(first[:, plane], place)
        rest = ((warped - second[:, plane]) * inside).repeat(3, axis=1).repeat(3, axis=2)
        rests.append(rest.reshape(-1, BLOCKS, 4, BLOCKS, 4).mean((2, 4)))
    return np.asarray(np.hypot(*rests))


def _sum_blocks(values: Array) -> Array:
    size = values.shape[-1] // BLOCKS
    return np.asarray(values.reshape(-1, BLOCKS, size, BLOCKS, size).sum((2, 4)))
