"""Pictures for all towers of a model as one tensor a picture, so that they can be stacked and handed on as one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from curate.image.scaled import Pixels
from curate.image.tensors import Shown, of_picture
from curate.models.features import Pictures
from curate.models.towers.tower import VisionTower


def row_of(pixels_HWC: Pixels, towers: Mapping[str, VisionTower]) -> Tensor:
    """One picture as the towers are shown it, a row of bytes. Raises ImageError."""
    parts = []
    for name, tower in towers.items():
        found = of_picture([pixels_HWC], name, Shown(tower.size_px, tower.config.views.of(False)), whole=True)
        parts += [tensor.flatten().contiguous().view(torch.uint8) for tensor in found.values()]
    return torch.cat(parts)


def pictures_of(rows_NS: Tensor, towers: Mapping[str, VisionTower]) -> list[Pictures]:
    """Pictures for each tower from such rows."""
    found, at = [], 0
    for tower in towers.values():
        views, side = tower.config.views.views, tower.size_px
        bytes_of = views * 3 * side * side
        x_MCHW = rows_NS[:, at : at + bytes_of].reshape(-1, 3, side, side)
        at, size_M2 = at + bytes_of, None
        if tower.config.views.sized:
            bytes_of = views * 2 * torch.int64.itemsize
            size_M2 = rows_NS[:, at : at + bytes_of].contiguous().view(torch.int64).reshape(-1, 2)
            at += bytes_of
        found.append(Pictures(x_MCHW, size_M2))
    return found
