"""Cut documents that are longer than their sequence: where to begin, and which images to keep.

A layout (tokens of each text, PICTURE for each image) and a draw keyed by (seed, uid, epoch) decide it; no content is
looked at, so that packs are planned from indexes alone. Flamingo (2204.14198) takes 256 tokens of text from anywhere
with the first 5 images among them, and in half of the cases lets a text see the image after it; MM1 (2403.09611) takes
4,096 tokens in all with at most 16 images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from curate.mix.content import PICTURE


@dataclass(frozen=True)
class CutRule:
    """Limits of a cut: `tokens` in all (an image is `visual_tokens`), of them `text_tokens` of text, and `images`.

    `start`: from the first token of text, or from a random one. `next_image`: how probable it is that each image moves
    in front of the text before it.
    """

    tokens: int
    images: int
    visual_tokens: int
    text_tokens: int | None = None
    start: Literal["first", "random"] = "first"
    next_image: float = 0.0

    @property
    def text(self) -> int:
        """Tokens of text that are taken at most."""
        return self.tokens if self.text_tokens is None else min(self.text_tokens, self.tokens)


@dataclass(frozen=True)
class DocumentPiece:
    """A part of a layout: tokens `begin` to `end` of the text `number`, or the image there (`end` is 0)."""

    number: int
    begin: int = 0
    end: int = 0


def cut_document(layout: Sequence[int], rule: CutRule, draw: Callable[[], np.random.Generator]) -> list[DocumentPiece]:
    """Cut a document to pieces, in their order; `draw` gives the document's own randomness."""
    rng = draw() if rule.next_image or rule.start == "random" else None
    order: Sequence[int] = range(len(layout))
    if rng is not None and rule.next_image and rng.random() < rule.next_image:
        order = _move_images_first(layout)
    skip = _skip_tokens(layout, rule, rng) if rng is not None and rule.start == "random" else 0
    out: list[DocumentPiece] = []
    left, text_left, images_left, passed = rule.tokens, rule.text, rule.images, 0
    for number in order:
        size = layout[number]
        if size == PICTURE:
            if passed >= skip and images_left and left >= rule.visual_tokens:
                out.append(DocumentPiece(number))
                left, images_left = left - rule.visual_tokens, images_left - 1
            continue
        begin = min(max(skip - passed, 0), size)
        end = min(size, begin + min(left, text_left))
        passed += size
        if end > begin:
            out.append(DocumentPiece(number, begin, end))
            left, text_left = left - (end - begin), text_left - (end - begin)
        if end < size:
            break
    return out


def size_of(pieces: Sequence[DocumentPiece], layout: Sequence[int], visual_tokens: int) -> tuple[int, int]:
    """(tokens in all, images) of pieces."""
    images = sum(layout[piece.number] == PICTURE for piece in pieces)
    return sum(piece.end - piece.begin for piece in pieces) + images * visual_tokens, images


def _skip_tokens(layout: Sequence[int], rule: CutRule, rng: np.random.Generator) -> int:
    """Tokens of text left out at the beginning: as many as still leave the text that there is room for."""
    images = min(sum(size == PICTURE for size in layout), rule.images)
    room = min(rule.text, max(rule.tokens - images * rule.visual_tokens, 1))
    return int(rng.integers(max(sum(size for size in layout if size != PICTURE) - room, 0) + 1))


def _move_images_first(layout: Sequence[int]) -> list[int]:
    """Every image moved in front of the text that stands before it."""
    order: list[int] = []
    text: int | None = None
    for number, size in enumerate(layout):
        if size == PICTURE:
            order.append(number)
            continue
        if text is not None:
            order.append(text)
        text = number
    return order if text is None else [*order, text]
