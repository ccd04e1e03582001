"""Attention within documents: from the numbers of the documents in a row to the kernel that keeps them apart.

What travels to the device is one number a token. The mask is made there: whole for torch's own kernel on a CPU, by
blocks for flex attention on a GPU, which skips the blocks in which nothing is seen (untested on a GPU).

Shapes: B rows, T positions, H heads, K width of a head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from curate.tokens.segments import PADDING, attention_mask

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From queries, keys and values, BHTK each, to what is seen, BHTK."""

KeysValues = list[Tensor]
"""What a block keeps of positions that it has seen: nothing at first, then keys and values, BHTK each."""


def attend_within(segments_BT: Tensor | None, causal: bool = True) -> Attend:
    """The kernel by which a token sees its own document (of the same number), `causal`: and nothing after itself.

    Padding, of number 0, sees nothing but itself. Without numbers a row is one document.
    """
    if segments_BT is None:
        return functools.partial(F.scaled_dot_product_attention, is_causal=causal)
    if segments_BT.is_cuda:
        return functools.partial(_compiled_flex(), block_mask=block_mask(segments_BT, causal))
    mask_B1TT = attention_mask(segments_BT, causal).unsqueeze(1)
    return functools.partial(F.scaled_dot_product_attention, attn_mask=mask_B1TT)


def attend_after(kept: KeysValues) -> Attend:
    """The kernel of positions that follow those in `kept`, which grows by them: many at first, later one at a time."""

    def attend(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor) -> Tensor:
        first = not kept
        assert first or q_BHTK.shape[2] == 1, "one position at a time"
        if kept:
            k_BHTK, v_BHTK = torch.cat((kept[0], k_BHTK), 2), torch.cat((kept[1], v_BHTK), 2)
        kept[:] = [k_BHTK, v_BHTK]
        return F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=first)  # one position sees all before

    return attend


def block_mask(segments_BT: Tensor, causal: bool = True) -> Any:
    """The mask of `curate.tokens.segments` for flex attention, whose blocks are made from the documents' numbers."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(b: Tensor, _: Tensor, q: Tensor, k: Tensor) -> Tensor:
        mine = segments_BT[b, q]
        inside = (mine == segments_BT[b, k]) & (mine != PADDING)
        return (inside & (q >= k) if causal else inside) | (q == k)

    B, T = segments_BT.shape
    return create_block_mask(sees, B, None, T, T, device=segments_BT.device)


@functools.cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Callable[..., Tensor] = torch.compile(flex_attention)
    return compiled
