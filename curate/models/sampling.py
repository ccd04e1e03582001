"""Nucleus sampling with draws that are given: what is written of a row hangs on that row and its draws alone.

Shapes: B rows, T ids so far, V vocabulary, S draws of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NextScores = Callable[[Tensor], Tensor]
"""Takes the ids_BT of all rows so far, one more at each call; gives the scores_BV of the next one."""


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling from the likeliest tokens that hold `p` of the mass (Holtzman et al. 1904.09751).

    `min_tokens`, `max_tokens`: of a sequence with its begin mark and prompt, as BLIP and `transformers` count.
    `repetition_penalty`: divides the positive scores of tokens that stand in it already, and multiplies the negative
    (Keskar et al. 1909.05858). `temperature`: divides all scores before. Of `p` 0 the likeliest token alone is left:
    greedy.
    """

    p: float
    min_tokens: int
    max_tokens: int
    repetition_penalty: float
    temperature: float = 1.0


@dataclass(frozen=True)
class Marks:
    """Ids that end a sequence, and such as may never be drawn."""

    end: int
    never: tuple[int, ...] = ()


def sample(
    scores_of: NextScores, prefix: Sequence[int], draws_BS: Tensor, marks: Marks, sampling: Sampling
) -> list[list[int]]:
    """The ids after `prefix` of each row, up to its end mark or the longest length.

    `draws_BS`: numbers of [0, 1), one a token, on the CPU. All rows go on until the last has ended, so that a pass has
    one shape whatever its rows hold.
    """
    ids_BT = torch.tensor([list(prefix)] * len(draws_BS))
    ended_B = torch.zeros(len(draws_BS), dtype=torch.bool)
    while ids_BT.shape[1] < sampling.max_tokens and not ended_B.all():
        scores_BV = _shaped(scores_of(ids_BT).float(), ids_BT, marks, sampling)
        next_B = _draw(scores_BV, draws_BS[:, ids_BT.shape[1] - len(prefix)], sampling.p)
        next_B = next_B.masked_fill(ended_B, marks.end)
        ended_B |= next_B == marks.end
        ids_BT = torch.cat((ids_BT, next_B[:, None]), 1)
    rows = [row[len(prefix) :] for row in ids_BT.tolist()]
    return [row[: row.index(marks.end)] if marks.end in row else row for row in rows]


def _shaped(scores_BV: Tensor, ids_BT: Tensor, marks: Marks, sampling: Sampling) -> Tensor:
    """Scores with what was said already made less likely, and what may not come now impossible."""
    ids_BT = ids_BT.to(scores_BV.device)
    said_BT = scores_BV.gather(1, ids_BT)
    penalty = sampling.repetition_penalty
    scores_BV = scores_BV.scatter(1, ids_BT, torch.where(said_BT > 0, said_BT / penalty, said_BT * penalty))
    barred = [*marks.never, *([marks.end] if ids_BT.shape[1] < sampling.min_tokens else [])]
    scores_BV[:, barred] = -torch.inf
    return scores_BV / sampling.temperature


def _draw(scores_BV: Tensor, draws_B: Tensor, p: float) -> Tensor:
    """The id_B that each row's draw falls on, among the fewest that hold `p` of the mass."""
    shares_BV, order_BV = torch.softmax(scores_BV.double(), 1).sort(dim=1, descending=True, stable=True)
    up_to_BV = shares_BV.cumsum(1)
    kept_B1 = (up_to_BV - shares_BV < p).sum(1, keepdim=True).clamp(min=1)
    target_B1 = draws_B.to(up_to_BV)[:, None] * up_to_BV.gather(1, kept_B1 - 1)
    place_B1 = torch.searchsorted(up_to_BV, target_B1, right=True).minimum(kept_B1 - 1)
    drawn_B: Tensor = order_BV.gather(1, place_B1)[:, 0].cpu()
    return drawn_B
