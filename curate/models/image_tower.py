"""Image towers of open_clip's dual encoders: the patch vectors of their last block, at any resolution.

Shapes: B images, C channels, H x W pixels, N patches, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from curate.models.features import Features, TowerShape
from curate.models.files import ModelError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own normalisation (Radford et al. 2021), which open_clip assumes unless told otherwise."""


def normalised(images_BCHW: Tensor) -> Tensor:
    """uint8 images to what CLIP's towers expect, on the images' device, channels last."""
    images_BCHW = images_BCHW.to(memory_format=torch.channels_last)
    mean = torch.tensor(MEAN, device=images_BCHW.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images_BCHW.device).view(1, 3, 1, 1)
    return (images_BCHW.float() / 255 - mean) / std


def tower_shape(visual: nn.Module, size_px: int) -> TowerShape:
    """The vectors that `features_of` gives an image of that size."""
    was_training = visual.training
    with torch.no_grad():
        visual.eval()
        found = features_of(visual, torch.zeros(1, 3, size_px, size_px))
    visual.train(was_training)
    return TowerShape(found.x_MPD.shape[2], found.grid)


def features_of(visual: nn.Module, images_BCHW: Tensor) -> Features:
    """The vectors of an open_clip image tower's last block, before pooling: one a patch, no class vector."""
    return _last_block(visual, images_BCHW, features=False)[0]


def features_and_embedding(visual: nn.Module, images_BCHW: Tensor) -> tuple[Features, Tensor]:
    """(vectors as `features_of` gives them, the image's embedding BE), in one pass through the tower."""
    found, embedding_BE = _last_block(visual, images_BCHW, features=True)
    assert embedding_BE is not None
    return found, embedding_BE


def _last_block(visual: nn.Module, images_BCHW: Tensor, features: bool) -> tuple[Features, Tensor | None]:
    changed = at_resolution(visual, images_BCHW.shape[-1], "visual.")
    x_BDHW, embedding_BE = functional_call(_LastBlock(visual, features), changed, (images_BCHW,))
    _, _, height, width = x_BDHW.shape
    return Features(x_BDHW.flatten(2).transpose(1, 2), (height, width)), embedding_BE


def at_resolution(visual: nn.Module, size_px: int, prefix: str) -> dict[str, Tensor]:
    """Replacements in an image tower for images of another size than its own, by name; nothing at its own.

    A vision transformer's positions are interpolated (bicubic, as open_clip does when it loads weights of another
    size). Raises ModelError for a tower or a size for which that cannot be.
    """
    grid, patch = getattr(visual, "grid_size", None), getattr(visual, "patch_size", None)
    if grid is None or patch is None:
        return {}  # a convolutional tower takes any size
    if size_px % patch[0]:
        raise ModelError(f"the tower's patches have {patch[0]} pixels a side, so an image cannot have {size_px}")
    side = size_px // patch[0]
    if tuple(grid) == (side, side):
        return {}
    positions_LD = visual.positional_embedding
    assert isinstance(positions_LD, Tensor)
    extra = len(positions_LD) - grid[0] * grid[1]
    old_1DHW = positions_LD[extra:].T.reshape(1, -1, *grid)
    new_1DHW = F.interpolate(old_1DHW, (side, side), mode="bicubic", antialias=True)
    return {f"{prefix}positional_embedding": torch.cat((positions_LD[:extra], new_1DHW[0].flatten(1).T))}


class _LastBlock(nn.Module):
    """An image tower whose forward gives its last block's patches, and its features if they are wanted."""

    def __init__(self, visual: nn.Module, features: bool) -> None:
        super().__init__()
        self.visual, self.features = visual, features

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
        out = self.visual.forward_intermediates(  # type: ignore[operator]
            images_BCHW, indices=1, intermediates_only=not self.features
        )
        return out["image_intermediates"][-1], out.get("image_features")
