"""Views of a picture as a vision tower takes them: squares, tiles and their whole, native aspect ratios, stills.

Shapes: V views, C channels, H x W pixels. Everything is uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from curate.image.files import DEFAULT_LIMITS, ImageError
from curate.image.scaled import Pixels
from curate.image.views import Size, Views, native_size, tile_boxes

WHITE = 255


Seen = tuple[Tensor, Tensor]
"""Views of a picture, V x CHW, and the (height, width) of what each shows of it, V x 2: zeros of a missing still."""


def square(image_CHW: Tensor, size_px: int) -> Tensor:
    """Short side to `size_px`, the centre cut out. Raises ImageError for a sliver that would become a giant."""
    width, height = fitted(image_CHW.shape[2], image_CHW.shape[1], size_px)
    image_CHW = resized(image_CHW, (height, width))
    top, left = round((height - size_px) / 2), round((width - size_px) / 2)
    return image_CHW[:, top : top + size_px, left : left + size_px].contiguous()


def padded(image_CHW: Tensor, size_px: int) -> tuple[Tensor, Size]:
    """Long side to `size_px`, the picture in the middle, white beside it; and the picture's size there."""
    scale = size_px / max(image_CHW.shape[1:])
    height, width = (max(1, round(side * scale)) for side in image_CHW.shape[1:])
    out_CHW = torch.full((3, size_px, size_px), WHITE, dtype=torch.uint8)
    top, left = (size_px - height) // 2, (size_px - width) // 2
    out_CHW[:, top : top + height, left : left + width] = resized(image_CHW, (height, width))
    return out_CHW, (height, width)


def fitted(width: int, height: int, size_px: int) -> tuple[int, int]:
    """(width, height) with the short side at `size_px`, rounded as torchvision rounds.

    Raises ImageError for a sliver that would become a giant.
    """
    if width <= height:
        size = size_px, int(size_px * height / width)
    else:
        size = int(size_px * width / height), size_px
    if size[0] * size[1] > DEFAULT_LIMITS.max_pixels:
        raise ImageError(
            "image_too_large",
            f"{width} x {height}, resized to {size[0]} x {size[1]}: pixels are more than {DEFAULT_LIMITS.max_pixels}",
        )
    return size


def resized(image_CHW: Tensor, size: Size) -> Tensor:
    """Of that size, by an antialiased bicubic filter in integers."""
    if size == tuple(image_CHW.shape[1:]):
        return image_CHW
    return F.interpolate(image_CHW[None], size, mode="bicubic", antialias=True)[0]


def see(stills: Sequence[Pixels], size_px: int, views: Views) -> Seen:
    """The views of a picture (one still, pixels_HWC) or of a film's stills, for a tower of `size_px`.

    Views of native aspect ratio are padded with black, right and below, to the largest among them. Raises ImageError.
    """
    images = [torch.from_numpy(pixels_HWC).permute(2, 0, 1) for pixels_HWC in stills]
    found = [view for image_CHW in images[: views.frames or 1] for view in _views_of(image_CHW, size_px, views)]
    missing = views.views - len(found)
    seen_VCHW = pad_together([view_CHW[None] for view_CHW, _ in found])
    sizes = [size for _, size in found] + [(0, 0)] * missing
    blank_VCHW = torch.zeros(missing, *seen_VCHW.shape[1:], dtype=torch.uint8)
    return torch.cat((seen_VCHW, blank_VCHW)), torch.tensor(sizes)


def pad_together(images: Sequence[Tensor], least: int = 0) -> Tensor:
    """Tensors of pictures, any axes before C x H x W, one after another, all as large as the largest of them.

    Black is put to the right and below. `least`: each side is at least that long.
    """
    height, width = (max(least, *(found.shape[axis] for found in images)) for axis in (-2, -1))
    return torch.cat([_enlarged(image, height, width) for image in images])


def _enlarged(image: Tensor, height: int, width: int) -> Tensor:
    missing = (0, width - image.shape[-1], 0, height - image.shape[-2])
    return F.pad(image, missing) if any(missing) else image


def _views_of(image_CHW: Tensor, size_px: int, views: Views) -> list[tuple[Tensor, Size]]:
    """The views of one still, each with the size of what it shows."""
    if views.fit != "native":
        return _square_views(image_CHW, size_px, views)
    pieces = [image_CHW] if views.tiles == 1 else _tiles_and_whole(image_CHW, views, lambda whole: whole)
    found = []
    for piece_CHW in pieces:
        size = native_size((piece_CHW.shape[1], piece_CHW.shape[2]), views.shortest_px, size_px)
        found.append((resized(piece_CHW, size), size))
    return found


def _square_views(image_CHW: Tensor, size_px: int, views: Views) -> list[tuple[Tensor, Size]]:
    """One square, or a square of `tiles` times the side cut into tiles, and the whole of it."""
    tiles = views.tiles
    if views.fit in ("pad", "whole"):
        whole_CHW, size = padded(image_CHW, size_px * tiles)
    else:
        whole_CHW, size = square(image_CHW, size_px * tiles), (size_px, size_px)
    if tiles == 1:
        return [(whole_CHW, size)]
    pieces = _tiles_and_whole(whole_CHW, views, lambda whole: resized(whole, (size_px, size_px)))
    return [(piece_CHW, (size_px, size_px)) for piece_CHW in pieces]


def _tiles_and_whole(image_CHW: Tensor, views: Views, whole: Callable[[Tensor], Tensor]) -> list[Tensor]:
    assert views.split is not None
    boxes = tile_boxes((image_CHW.shape[1], image_CHW.shape[2]), views.split.tiles)
    tiles = [image_CHW[:, top:bottom, left:right] for top, left, bottom, right in boxes]
    return [whole(image_CHW), *tiles] if views.split.whole == "first" else [*tiles, whole(image_CHW)]
