"""Vectors of pictures as towers give them and connectors take them.

Shapes: N pictures, V views of a picture, P vectors of a view, D width of a tower, T tokens of a text.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TowerShape:
    """The vectors that a tower gives a view of a picture, before any picture is seen: what a connector is built for.

    `grid`: height and width of their raster, the largest that there can be where views keep their own aspect ratio.
    `class_vector`: whether one stands before the raster. `views`: how many a picture is cut into, the whole included.
    """

    width: int
    grid: tuple[int, int]
    class_vector: bool = False
    views: int = 1

    @property
    def vectors(self) -> int:
        """P: vectors of a view."""
        return self.grid[0] * self.grid[1] + self.class_vector


@dataclass(frozen=True)
class Features:
    """Vectors of the views of N pictures by one tower: x_MPD, M = N x V, a picture's views one after another.

    P is a raster of height x width `grid`, row by row, behind the class vector where there is one (`TowerShape`).
    `there_MP`: which of them show something of the picture; None: all.
    """

    x_MPD: Tensor
    grid: tuple[int, int]
    there_MP: Tensor | None = None


@dataclass(frozen=True)
class Texts:
    """Texts that a connector reads beside the pictures, one a picture: ids_NT, and which of them are no padding."""

    ids_NT: Tensor
    there_NT: Tensor
