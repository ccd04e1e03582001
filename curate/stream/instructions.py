"""Texts for networks that read them beside pictures; of a sequence, what is asked of its pictures.

InstructBLIP (Dai et al. 2305.06500, 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from curate.image.tensors import INSTRUCTION
from curate.stream.reading import DrawnSample
from curate.tokens.encoders import TextCode

LENGTH = 128
"""Tokens of an instruction at most; a longer one loses its beginning."""
PADDING = -1
"""Stands in a text's ids where there is no token."""


@dataclass(frozen=True)
class Instructed:
    """Prepares a sample as `prepare` does, and {instruction: N x T}: what each of its N pictures is to be seen for.

    That is the text before the sample's first scored token: a template's, a system's, a conversation's first question.
    What is asked later is left out, since earlier answers would see it. `code` spells the sample, `reads` it for the
    connector.
    """

    prepare: Callable[[DrawnSample], dict[str, Tensor]]
    code: TextCode
    reads: TextCode

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample."""
        sample = self.prepare(drawn)
        ids = sample["ids"][: int(sample["scored"].int().argmax())]
        asked = self.code.decode([n for n in ids.tolist() if n >= 0 and n != self.code.begin])
        return {**sample, INSTRUCTION: spell_instruction(self.reads, asked).expand(len(sample["image"]), -1)}


def spell_instruction(reads: TextCode, asked: str) -> Tensor:
    """ids_T of an instruction: begin, its last tokens, end, padding."""
    return marked(reads, reads.encode(" ".join(asked.split()))[2 - LENGTH :], LENGTH)


def marked(code: TextCode, ids: Sequence[int], length: int) -> Tensor:
    """ids_T of a text: begin, at most `length` - 2 of its ids, end, padding."""
    found = [code.begin, *ids[: length - 2], code.end]
    return torch.tensor([*found, *[PADDING] * (length - len(found))])
