"""Vision transformers on pictures of their own aspect ratios, padded together: Idefics2's (2405.02246).

Shapes: M views, H x W pixels, h x w patches of the padded raster, P = h x w, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from curate.models.features import Features


def patches_of(size_M2: Tensor, patch_px: int) -> Tensor:
    """Patches (rows, columns) of views, M2: those that show anything of it, the last of a row perhaps in part."""
    return -(-size_M2 // patch_px)


def patches_there(patches_M2: Tensor, grid: tuple[int, int]) -> Tensor:
    """there_MP: which patches of a padded raster are a view's own."""
    rows_M1H, columns_M1W = (
        torch.arange(side, device=patches_M2.device)[None] < patches_M2[:, axis, None] for axis, side in enumerate(grid)
    )
    return (rows_M1H[:, :, None] & columns_M1W[:, None, :]).flatten(1)


def position_ids(patches_M2: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """ids_MP of patches in a table of side x side positions: the floor of a patch's fraction of its view, times `side`.

    In whole numbers; `transformers`' Idefics2 has fractions of 32 bits, of which some fall just short of a boundary.
    Where nothing is, 0.
    """
    rows_MH, columns_MW = (
        torch.arange(length, device=patches_M2.device)[None] * side // patches_M2[:, axis, None].clamp(min=1)
        for axis, length in enumerate(grid)
    )
    ids_MP = (rows_MH[:, :, None] * side + columns_MW[:, None, :]).flatten(1)
    return ids_MP.where(patches_there(patches_M2, grid), 0)


def without_padding(images_MCHW: Tensor, size_M2: Tensor, patch_px: int) -> Tensor:
    """Normalised pictures with zeros where nothing is, cut to as many whole patches as the largest of them needs."""
    height, width = (-(-side // patch_px) * patch_px for side in size_M2.amax(0).clamp(min=1).tolist())
    missing = (0, width - images_MCHW.shape[3], 0, height - images_MCHW.shape[2])
    images_MCHW = F.pad(images_MCHW, missing)
    there_MP = patches_there(size_M2, (height, width))
    return images_MCHW * there_MP.view(-1, 1, height, width)


def native_features(net: Any, x_MCHW: Tensor, size_M2: Tensor, final_norm: bool) -> Features:
    """Vectors of a timm vision transformer's last block, of normalised pictures with zeros where nothing is.

    `size_M2`: a view's height and width in pixels. No patch of padding is attended to; a view without any patch sees
    itself, so that it is finite.
    """
    embed = net.patch_embed
    patch, (side, _) = embed.patch_size[0], embed.grid_size
    x_MhwD = embed(x_MCHW)
    grid = x_MhwD.shape[1], x_MhwD.shape[2]
    patches_M2 = patches_of(size_M2, patch)
    there_MP = patches_there(patches_M2, grid)
    x_MPD = x_MhwD.flatten(1, 2) + net.pos_embed[0][position_ids(patches_M2, grid, side)]
    x_MPD = net.norm_pre(x_MPD)
    seen_M11P = (there_MP | ~there_MP.any(1, keepdim=True))[:, None, None]
    for block in net.blocks:
        x_MPD = block(x_MPD, attn_mask=seen_M11P)
    return Features(net.norm(x_MPD) if final_norm else x_MPD, grid, there_MP)
