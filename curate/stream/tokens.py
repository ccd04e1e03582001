"""Tokenize captions: CLIP's byte pairs (whole or cut short), whole words, or plain bytes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from curate.tokens.clip import Tokenizer


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """ids_BT (int64) of `texts`, zero-padded to the tokenizer's context."""
    ids_BT = torch.zeros(len(texts), tokenizer.context_length, dtype=torch.long)
    for row, text in enumerate(texts):
        ids = tokenizer(text)
        ids_BT[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return ids_BT
