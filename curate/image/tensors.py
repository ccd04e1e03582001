"""Pictures of a document and of a batch as tensors by the names of their towers.

A tower's pictures are `image` (of the first, or only one) or `image:NAME`: N x C x H x W, or N x V x C x H x W of
several views. Where a tower must be told how much of a view is picture, `image_size` (`image_size:NAME`) has its height
and width, N x 2 or N x V x 2, and pictures are padded to the largest with black, right and below. Where it need not,
and a batch has the first tower's pictures at several resolutions, they come as a tensor a side (`image000384`), and
`order` says which of all of them each picture is. `curate.models.features.pictures_in` reads them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from curate.image.scaled import Pixels
from curate.image.shown import pad_together, see
from curate.image.views import Views, tensor_name

IMAGE_TENSOR = "image"


@dataclass(frozen=True)
class Shown:
    """Views that a tower is shown of pictures, at its size."""

    size_px: int
    views: Views = field(default_factory=Views)


def of_picture(stills: Sequence[Pixels], tower: str, shown: Shown, whole: bool = False) -> dict[str, Tensor]:
    """The tensors of one picture for a tower: of its only view, or of several V x.

    `whole`: what is native is padded to the largest there can be, so that all pictures are of one shape. Raises
    ImageError.
    """
    views = shown.views
    x_VCHW, size_V2 = see(stills, shown.size_px, views)
    x_VCHW = pad_together([x_VCHW], shown.size_px) if whole else x_VCHW
    found = {tensor_name("image", tower): x_VCHW}
    if views.sized:
        found[tensor_name("image_size", tower)] = size_V2
    return found if views.views > 1 else {name: tensor[0] for name, tensor in found.items()}


def is_of_pictures(name: str) -> bool:
    """Whether a prepared sample's tensor of that name has a row for each of its pictures."""
    return name.partition(":")[0] in (IMAGE_TENSOR, "image_size")


def of_document(pictures: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of a document's pictures, from those of each; an empty `image` where it has none."""
    return _together([{name: tensor[None] for name, tensor in picture.items()} for picture in pictures])


def of_batch(documents: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of a batch's pictures, from prepared samples of which some may have none."""
    shown = [
        {name: tensor for name, tensor in document.items() if is_of_pictures(name)}
        for document in documents
        if len(document[IMAGE_TENSOR])
    ]
    sides = np.array([d[IMAGE_TENSOR].shape[-1] for d in shown for _ in range(len(d[IMAGE_TENSOR]))], np.int64)
    kinds = sorted(set(sides.tolist()))
    if len(kinds) < 2 or "image_size" in shown[0]:
        return _together(shown)
    first = [document[IMAGE_TENSOR] for document in shown]
    others = _padded([{name: d[name] for name in d if name != IMAGE_TENSOR} for d in shown])
    by_side = {f"{IMAGE_TENSOR}{side:06d}": torch.cat([i for i in first if i.shape[-1] == side]) for side in kinds}
    return {**by_side, **others, "order": torch.from_numpy(np.argsort(np.argsort(sides, kind="stable"), kind="stable"))}


def _together(documents: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return _padded(documents) if documents else {IMAGE_TENSOR: torch.empty(0, dtype=torch.uint8)}


def _padded(documents: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    listed = {name: [document[name] for document in documents] for name in documents[0]}
    return {
        name: pad_together(found) if name.partition(":")[0] == IMAGE_TENSOR else torch.cat(found)
        for name, found in listed.items()
    }
