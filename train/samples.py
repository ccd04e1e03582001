"""Samples as objectives take them: pixels, ids and what is scored, made of a drawn sample's parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.image.scaled import scaled_pixels
from curate.image.tensors import Shown, of_picture
from curate.image.views import Views
from curate.stream import images
from curate.stream.augment import Augment
from curate.stream.instructions import NOTHING
from curate.stream.prompts import TextChooser
from curate.stream.reading import DrawnSample
from curate.stream.sequences import Sequences, account_of_pair
from curate.stream.stages import Stages
from curate.stream.tokens import token_ids
from curate.tokens.clip import Tokenizer
from curate.tokens.encoders import TextCode
from train.config import Data
from train.objectives.text_only import as_document


@dataclass(frozen=True)
class Pixels:
    """Makes {image: CHW} from an image's bytes, at the resolution of its stage, varied by the sample's randomness.

    `views`: the first tower's; `others`: what other towers are shown, by their names (`curate.image.tensors`).
    `whole`: native pictures are padded to the largest there can be, for batches of rows.
    """

    chooser: TextChooser
    stages: Stages
    data: Data
    views: Views = field(default_factory=Views)
    others: Mapping[str, Shown] = field(default_factory=dict)
    whole: bool = False

    def __call__(self, data: bytes, rng: np.random.Generator, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one picture, uint8. Raises ImageError."""
        source, all_of_it = self.chooser.numbers[drawn.source], drawn.kind in self.data.whole
        towers = {"": Shown(self.stages.resolution(drawn.at, source), self.views.of(all_of_it))}
        towers |= {name: Shown(shown.size_px, shown.views.of(all_of_it)) for name, shown in self.others.items()}
        found: dict[str, Tensor] = {}
        for name, pixels_HWC in self._pixels(data, rng, towers):
            found |= of_picture([pixels_HWC], name, towers[name], self.whole)
        return found

    def _pixels(
        self, data: bytes, rng: np.random.Generator, towers: Mapping[str, Shown]
    ) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """The picture for each tower: decoded once, or varied in one way at each size."""
        if self.data.augment == Augment():
            least = max(shown.size_px * shown.views.tiles for shown in towers.values())
            pixels_HWC = scaled_pixels(data, images.LEAST * least)
            yield from ((name, pixels_HWC) for name in towers)
            return
        state = rng.bit_generator.state
        for name, shown in towers.items():
            rng.bit_generator.state = state
            side = shown.size_px * shown.views.tiles
            varied_CHW = images.varied(data, side, self.data.augment, rng, whole=shown.views.fit in ("pad", "whole"))
            yield name, varied_CHW.permute(1, 2, 0).numpy()


def _pair(chooser: TextChooser, pixels: Pixels, drawn: DrawnSample) -> tuple[int, str, dict[str, Tensor]]:
    """(the source's number, the text within its template, the picture's tensors) of a pair."""
    source = chooser.numbers[drawn.source]
    words = chooser.prompts(source, drawn.uid, drawn.epoch).wrap(chooser.text(drawn))
    rng = images.keyed_rng(chooser.seed, drawn.uid, drawn.epoch)
    return source, words, pixels(images.image_part(drawn.parts), rng, drawn)


@dataclass(frozen=True)
class PreparePair:
    """Makes {image: CHW uint8, text: T, account: 6} from a drawn sample, the text within its template."""

    chooser: TextChooser
    pixels: Pixels
    tokenizer: Tokenizer

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample."""
        source, words, picture = _pair(self.chooser, self.pixels, drawn)
        had, taken = self.tokenizer.count(words), len(self.tokenizer(words)) - self.tokenizer.marks
        return {
            **picture,
            "text": token_ids(self.tokenizer, [words])[0],
            "account": account_of_pair(source, had, taken),
        }


@dataclass(frozen=True)
class PrepareTold:
    """Makes {image: CHW uint8, text: T, account: 6} from a drawn sample: begin, its text within its template, end,
    padding.
    """

    chooser: TextChooser
    pixels: Pixels
    code: TextCode
    length: int

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample."""
        source, words, picture = _pair(self.chooser, self.pixels, drawn)
        whole = self.code.encode(words)
        ids = whole[: self.length - 2]
        text_T = torch.full((self.length,), NOTHING)
        text_T[: len(ids) + 2] = torch.tensor([self.code.begin, *ids, self.code.end])
        return {**picture, "text": text_T, "account": account_of_pair(source, len(whole), len(ids))}


@dataclass(frozen=True)
class PrepareRow:
    """Makes {ids, scored: T, image: 1 x CHW, source, account} from a drawn sample, padded to `length`."""

    sequences: Sequences
    length: int

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample."""
        sample = self.sequences(drawn)
        del sample["image_at"]
        missing = self.length - len(sample["ids"])
        padded = {name: torch.nn.functional.pad(sample[name], (0, missing)) for name in ("ids", "scored")}
        return {**sample, **padded}


@dataclass(frozen=True)
class PrepareTextOnly:
    """Makes what `PrepareRow` makes from a text, in the place of its picture the ids of its context, image: 1 x T."""

    row: PrepareRow

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample."""
        return self.row(as_document(drawn))


@dataclass(frozen=True)
class ContextIds:
    """Makes {image: T}, the ids of a context, in the place of a picture's pixels."""

    tokenizer: Tokenizer

    def __call__(self, data: bytes, rng: np.random.Generator, drawn: DrawnSample) -> dict[str, Tensor]:
        """Ids of the text in the bytes."""
        return {"image": token_ids(self.tokenizer, [data.decode("utf-8")])[0]}
