"""Vectors of pictures as towers give them and connectors take them.

Shapes: N pictures, V views of a picture, M = N x V of them, C x H x W pixels, P vectors of a view, D width of a tower,
T tokens of a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from curate.image.views import tensor_name


@dataclass(frozen=True)
class TowerShape:
    """The vectors that a tower gives a view of a picture, before any picture is seen: what a connector is built for.

    `grid`: height and width of their raster, the largest that there can be where views keep their own aspect ratio.
    `class_vector`: whether one stands before the raster. `views`: how many a picture is cut into, the whole included.
    `native`: whether views keep their own aspect ratio, so that rasters are of many sizes and padded.
    """

    width: int
    grid: tuple[int, int]
    class_vector: bool = False
    views: int = 1
    native: bool = False

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
class ReadTexts:
    """Texts that a connector reads beside the pictures, one a picture: ids_NT, and which of them are no padding."""

    ids_NT: Tensor
    there_NT: Tensor

    @classmethod
    def of(cls, ids_NT: Tensor) -> ReadTexts:
        """Texts of ids that are negative where there is none."""
        return cls(ids_NT.clamp(min=0), ids_NT >= 0)


@dataclass(frozen=True)
class Pictures:
    """Views of N pictures as a tower takes them: x_MCHW uint8, M = N x V, a picture's views one after another.

    `size_M2`: height and width in pixels of what a view shows, zeros of one that is missing; None: every view is whole.
    """

    x_MCHW: Tensor
    size_M2: Tensor | None = None


@dataclass(frozen=True)
class PictureGroups:
    """A batch's pictures, several towers' side by side: in each group the first tower's are of one size.

    `order`: which of all groups' pictures, one group after another, stands at each place; None: as they come.
    `asked`: of the pictures of each group, where the batch says (`instruction`: `curate.stream.instructions`).
    """

    groups: Sequence[Sequence[Pictures]]
    order: Tensor | None = None
    asked: Sequence[ReadTexts | None] = (None,)


def pictures_in(batch: Mapping[str, Tensor], others: Sequence[str] = ()) -> PictureGroups | None:
    """A batch's pictures for the first tower and for the `others`, by their names; None where it has none.

    How they are called and laid out: `curate.image.tensors`.
    """
    firsts = [name for name in sorted(batch) if name.startswith("image") and name[5:].isdigit()] or ["image"]
    if not batch[firsts[0]].numel():
        return None
    if len(firsts) == 1:
        return PictureGroups([[_pictures(batch, name) for name in ("", *others)]], asked=[_asked(batch)])
    found, groups, asked, at = torch.argsort(batch["order"]), [], [], 0
    for name in firsts:
        first = Pictures(batch[name].flatten(0, -4))
        mine = found[at : at + len(batch[name])]
        groups.append([first, *(_pictures(batch, other, mine) for other in others)])
        asked.append(_asked(batch, mine))
        at += len(batch[name])
    return PictureGroups(groups, batch["order"], asked)


def _asked(batch: Mapping[str, Tensor], which: Tensor | None = None) -> ReadTexts | None:
    if "instruction" not in batch:
        return None
    ids_NL = batch["instruction"].flatten(0, -2)
    return ReadTexts.of(ids_NL if which is None else ids_NL[which])


def _pictures(batch: Mapping[str, Tensor], tower: str, which: Tensor | None = None) -> Pictures:
    x, size = batch[tensor_name("image", tower)], batch.get(tensor_name("image_size", tower))
    if which is not None:
        x, size = x[which], None if size is None else size[which]
    return Pictures(x.flatten(0, -4), None if size is None else size.flatten(0, -2))
