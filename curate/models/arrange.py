"""Learnt vectors that stand between the views of a picture, behind the connector.

Shapes: N pictures, V views, P places of a picture, E width of the language model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from curate.models.files import ModelError


class Boundaries(nn.Module):
    """One learnt vector before, between and after the views of a picture (Idefics2, Laurençon et al. 2405.02246).

    Views that follow one another share it: 64 vectors of one view become 66 places, of four quarters and the whole 326.
    Idefics2 has it as a token of the text, `<fake_token_around_image>`. Raises ModelError for vectors that are not of
    one view each.
    """

    def __init__(self, views: int, places: int, width: int) -> None:
        super().__init__()
        if places % views:
            raise ModelError(f"boundaries: {places} vectors of {views} views belong to no view apart; leave them out")
        self.views, self.places = views, places + views + 1
        self.boundary_E = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, vectors_NPE: Tensor) -> Tensor:
        """vectors_NPE with the boundaries in their places."""
        count, places, width = vectors_NPE.shape
        views_NVQE = vectors_NPE.reshape(count, self.views, places // self.views, width)
        before_NV1E = self.boundary_E.to(vectors_NPE.dtype).expand(count, self.views, 1, width)
        return torch.cat((torch.cat((before_NV1E, views_NVQE), 2).flatten(1, 2), before_NV1E[:, 0]), 1)
