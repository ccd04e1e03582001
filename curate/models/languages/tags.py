"""Rows of tags that a language model was not trained with, in a table of their own beside its embedding.

So they alone can train while the rest is frozen, and no decay reaches the others' rows: OpenFlamingo masks the
gradient of the whole table to the same end, by which a decay must be switched off for all of it.

Shapes: B x T ids, N vectors, D width, V vocabulary, G tags.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TagRows(nn.Module):
    """Embeddings and, where the model's are not `tied`, output vectors of G tags, whose ids follow `first` - 1.

    Each starts as the mean of the model's own (Hewitt 2021: a row drawn like the first ones of a new model may take
    all the mass), with a little noise that tells them apart.
    """

    def __init__(self, embedding_VD: Tensor, head_VD: Tensor, tags: int, first: int) -> None:
        super().__init__()
        self.first = first
        self.rows = nn.Parameter(_around_the_mean(embedding_VD, tags))
        self.scores = None if head_VD is embedding_VD else nn.Parameter(_around_the_mean(head_VD, tags))

    def embed(self, ids_BT: Tensor, others: nn.Module) -> Tensor:
        """x_BTD: of tags by their rows, of all else by the model's own embedding."""
        is_tag_BT1 = (ids_BT >= self.first).unsqueeze(-1)
        x_BTD = others(ids_BT.clamp(max=self.first - 1))
        tags_BTD = F.embedding((ids_BT - self.first).clamp(min=0), self.rows)
        return torch.where(is_tag_BT1, tags_BTD.to(x_BTD.dtype), x_BTD)

    def logits(self, y_ND: Tensor) -> Tensor:
        """scores_NG of the tags."""
        return F.linear(y_ND, self.rows if self.scores is None else self.scores)


def _around_the_mean(table_VD: Tensor, rows: int) -> Tensor:
    table_VD = table_VD.detach().float()
    mean_D, std_D = table_VD.mean(0), table_VD.std(0)
    return (mean_D + 0.1 * std_D * torch.randn(rows, table_VD.shape[1], device=table_VD.device)).clone()
