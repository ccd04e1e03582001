"""Intervals by bootstrap over samples: how far a figure would move, had other samples of the kind been asked.

Questions about one sample are not drawn apart: whoever asks ten of a picture does not know ten times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
LEVEL = 0.95

Draws = npt.NDArray[np.float64]
"""A figure of all samples, and behind it of each resample: what is computed of several figures keeps that shape."""


@dataclass(frozen=True)
class Estimate:
    """A figure with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: Draws) -> Estimate:
        """The figure in `draws`; bounds are percentiles (Efron and Tibshirani 1993, 13.3)."""
        if len(draws) == 1 or not np.isfinite(draws[0]):
            return cls(float(draws[0]), float("nan"), float("nan"))
        edge = (1 - LEVEL) / 2
        low, high = np.nanquantile(draws[1:], (edge, 1 - edge)).tolist()
        return cls(float(draws[0]), low, high)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Resampled:
    """Draws samples with replacement, by seed: the same draws for every figure, so that differences are paired.

    `samples`: the sample of each scored question.
    """

    def __init__(self, samples: Sequence[str], seed: int, resamples: int = RESAMPLES) -> None:
        names, self._sample = np.unique(np.asarray(samples, dtype=str), return_inverse=True)
        self._samples, self._seed, self._resamples = len(names), seed, resamples

    def sums(self, values_QK: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Sums of the questions' values over all samples, then over each resample: (1 + resamples) x K."""
        values = np.atleast_2d(np.asarray(values_QK, np.float64))
        of_sample = np.stack([np.bincount(self._sample, column, self._samples) for column in values.T], axis=1)
        rng = np.random.default_rng(self._seed)
        drawn = (of_sample[rng.integers(self._samples, size=self._samples)].sum(0) for _ in range(self._resamples))
        return np.stack([of_sample.sum(0), *drawn])

    def mean(self, scores: Sequence[float], of: npt.NDArray[np.bool_] | None = None) -> Draws:
        """Mean of the questions' scores (of those that `of` marks) over all samples, then over each resample.

        A resample in which none of them was drawn has no figure: NaN, which is left out of an interval.
        """
        counted = np.ones(len(self._sample)) if of is None else of.astype(np.float64)
        sums = self.sums(np.stack([np.asarray(scores, np.float64) * counted, counted], axis=1))
        with np.errstate(invalid="ignore"):
            found: Draws = sums[:, 0] / sums[:, 1]
        return found
