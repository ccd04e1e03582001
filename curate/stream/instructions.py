"""Questions apart from answers: for encoder-decoders, and for connectors that read what is asked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from curate.mix.content import Prompt, Segment
from curate.stream.forms import IMAGE
from curate.stream.prompts import Prompts
from curate.tokens.encoders import TextCode

NOTHING = -1
"""Stands in an instruction where it is shorter than it may be."""


@dataclass(frozen=True)
class Instructions:
    """Spells what a sample asks in a code of the connector's own: begin, at most `limit` ids with both marks, end.

    Cut from the left, as InstructBLIP's (2305.06500) is in LAVIS: what stands last is nearest to the answer. Of a
    conversation, what is asked before the first answer: later questions would tell earlier answers what comes.
    """

    code: TextCode
    limit: int = 128

    def __call__(self, segments: Sequence[Segment], prompts: Prompts) -> Tensor:
        """ids_L of a conversation's first questions, or of the words of a template; NOTHING behind their end."""
        before = itertools.takewhile(lambda segment: not isinstance(segment, str), segments)
        asked = [segment.text for segment in before if isinstance(segment, Prompt)]
        words = " ".join(text for text in (*asked, prompts.before.strip(), prompts.after.strip()) if text)
        ids = self.code.encode(words)[-(self.limit - 2) :]
        ids_L = torch.full((self.limit,), NOTHING)
        ids_L[: len(ids) + 2] = torch.tensor([self.code.begin, *ids, self.code.end])
        return ids_L


def split_at_answer(ids_T: Tensor, scored_T: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(ids that an encoder reads, ids that a decoder writes behind its begin, which of these are scored).

    The first scored id is the first that is written; later questions are then read by the decoder, unscored. Raises
    ValueError for a sample that says nothing, or shows an image behind its first answer: an encoder reads once.
    """
    if not scored_T.any():
        raise ValueError("nothing of this sample is scored: an encoder-decoder has nothing to write")
    first = int(scored_T.int().argmax())
    if bool((ids_T[first:] == IMAGE).any()):
        raise ValueError("an image stands behind the first answer, and an encoder reads what comes before it alone")
    return ids_T[:first], ids_T[first:], scored_T[first:]
