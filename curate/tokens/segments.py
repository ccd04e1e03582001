"""Documents of a pack told apart: the numbers of their tokens, and the mask that follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PADDING = 0
"""The segment id of padding; documents count from 1."""


def attention_mask(segments_BT: Tensor, causal: bool = True) -> Tensor:
    """mask_BTT bool: token i sees token j of its own document, if `causal` not after it; padding sees itself alone."""
    import torch

    sees_BTT = (segments_BT[:, :, None] == segments_BT[:, None, :]) & (segments_BT != PADDING)[:, :, None]
    places_T = torch.arange(segments_BT.shape[1], device=segments_BT.device)
    if causal:
        sees_BTT &= places_T[:, None] >= places_T[None, :]
    return sees_BTT | (places_T[:, None] == places_T[None, :])
