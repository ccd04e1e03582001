"""Fates of what a run has seen: seen = trained + cut + replaced, of samples, text tokens and images.

    trained     samples taken whole; the text tokens and images that were taken of any
    cut         samples of which a part was left out; the text tokens and images left out
    replaced    samples that could not be read, and their text tokens and images as the index counts them

What came in the place of a replaced sample is no part of this: it is another sample, seen out of its turn. Texts are a
sample's own, whichever was chosen; a template's words and the marks and tags of a form are none (of pairs for a dual
encoder, whose text is one with its template, the words are).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.mix.indexes import IMAGES, TEXT_TOKENS
from curate.stream.sample_lengths import Ints
from curate.stream.sequences import SampleAccount
from curate.stream.stream import Batch

FATES, UNITS = ("trained", "cut", "replaced"), ("samples", TEXT_TOKENS, IMAGES)
LengthsOf = Callable[[npt.NDArray[np.int32], Ints], tuple[Ints, Ints]]
"""From sources and rows to the text tokens and the images that indexes count."""


class FateTally:
    """Counts fates by source: what a checkpoint brought, the same on every rank, and what this rank met since.

    They are told where every batch said what was taken of its samples.
    """

    def __init__(self, names: Sequence[str], state: Mapping[str, Any] | None) -> None:
        self.names, self.told = names, state is not None
        self.before_SFU = np.array([(state or {}).get(name, np.zeros((3, 3))) for name in names], np.int64)
        self.met_SFU = np.zeros_like(self.before_SFU)

    def add(self, batch: Batch, lengths_of: LengthsOf) -> None:
        """Count this rank's samples of a batch."""
        if batch.account is None:
            self.told = False
            return
        planned_D = np.array(batch.planned, bool)
        of = SampleAccount(*(column[planned_D] for column in batch.account.numpy().T))
        cut = (of.text > of.text_taken) | (of.images > of.images_taken)
        self._count(of.source, 0, (~cut, of.text_taken, of.images_taken))
        self._count(of.source, 1, (cut, of.text - of.text_taken, of.images - of.images_taken))
        if lost := [replaced for replaced in batch.replaced if replaced.tried == 0]:
            source = np.array([self.names.index(replaced.source) for replaced in lost], np.int32)
            text, images = lengths_of(source, np.array([replaced.row for replaced in lost], np.int64))
            self._count(source, 2, (np.ones(len(lost)), text, images))

    def met(self) -> list[float]:
        """The counts that this rank met, as plain numbers, to be added up over ranks."""
        return [float(count) for count in self.met_SFU.flat]

    def having_met(self, sums: Sequence[float]) -> FateTally:
        """A copy that met what all ranks did, the sums of `met`."""
        whole = copy.copy(self)
        whole.met_SFU = np.array(sums, np.int64).reshape(self.met_SFU.shape)
        return whole

    def report(self) -> dict[str, dict[str, int | None]]:
        """Each source's figures: `seen_samples`, `cut_images` and so on; None where not every batch told them."""
        counts_SFU = self.before_SFU + self.met_SFU
        figures = [("seen", counts_SFU.sum(1)), *((fate, counts_SFU[:, n]) for n, fate in enumerate(FATES))]
        return {
            name: {
                f"{fate}_{unit}": int(of_SU[number, u]) if self.told else None
                for fate, of_SU in figures
                for u, unit in enumerate(UNITS)
            }
            for number, name in enumerate(self.names)
        }

    def state_dict(self) -> dict[str, Any] | None:
        """The counts as plain data."""
        found = (self.before_SFU + self.met_SFU).tolist()
        return dict(zip(self.names, found, strict=True)) if self.told else None

    def _count(self, source: npt.NDArray[Any], fate: int, numbers: Sequence[npt.NDArray[Any]]) -> None:
        for unit, counted in enumerate(numbers):
            self.met_SFU[:, fate, unit] += np.bincount(source, counted, len(self.names)).astype(np.int64)
