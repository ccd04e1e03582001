"""Cross entropy over a large vocabulary without the scores of all tokens in memory at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

CHUNK = 1024
"""Tokens whose scores are in memory at once: 1,024 of 128,000 words are 0.5 GB."""


def token_losses(y_ND: Tensor, wanted_N: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
    """The cross entropy of each token, losses_N; `logits` makes scores_NV of y_ND.

    Scores of a chunk of tokens are made, used and forgotten, and made again in the backward pass: N x V numbers, which
    of a large vocabulary are more than all activations, become CHUNK x V, for one matrix product more. Few tokens are
    one chunk, whose scores are kept.
    """
    if len(y_ND) <= CHUNK:
        return _losses(y_ND, wanted_N, logits)
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    chunks = zip(torch.split(y_ND, CHUNK), torch.split(wanted_N, CHUNK), strict=True)
    return torch.cat([again(_losses, y_CD, wanted_C, logits) for y_CD, wanted_C in chunks])


def _losses(y_ND: Tensor, wanted_N: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
    return F.cross_entropy(logits(y_ND).float(), wanted_N, reduction="none")
