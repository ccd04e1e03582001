"""Sketches of sets of numbers: keys that sets alike share, and how alike two sets are.

Keys: MinHash (Broder 1997) in bands (Indyk and Motwani 1998). Similarity: the smallest numbers of each set, which are
all of a small one (Broder's other sketch; Cohen and Kaplan 2007, bottom-k).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.mix.network import mix_bits

Hashes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]

SKETCH_NUMBERS = 256
"""A larger set is known by its smallest so many: similarities are estimates then, their standard error .031 at most."""
_BLOCK_NUMBERS = 2048


def band_keys(hashes: Hashes, places: Places, bands: int, rows: int) -> Hashes:
    """(sets, bands) keys: of two sets with similarity s, a band's agree with probability s^rows.

    `hashes`: the numbers of all sets, one after the other; `places` (sets + 1,): where each begins. Of an empty set,
    the keys are those of any other empty one.
    """
    filled = np.flatnonzero(np.diff(places))
    least = np.full((bands * rows, len(places) - 1), np.iinfo(np.uint32).max, np.uint32)
    least[:, filled] = _least(hashes, places[filled], bands * rows)
    return _joined(least.reshape(bands, rows, -1))


def _least(hashes: Hashes, begins: Places, count: int) -> Hashes:
    """(count, sets) the MinHashes of sets that begin at `begins`, none empty."""
    least = np.full((count, len(begins)), np.iinfo(np.uint32).max, np.uint32)
    multipliers = _multipliers(count)
    for start in range(0, len(hashes), _BLOCK_NUMBERS):
        block = hashes[start : start + _BLOCK_NUMBERS]
        first = int(np.searchsorted(begins, start, "right")) - 1
        end = int(np.searchsorted(begins, start + len(block), "left"))
        found = np.minimum.reduceat(multipliers * block, np.maximum(begins[first:end] - start, 0), axis=1)
        np.minimum(least[:, first:end], found, out=least[:, first:end])
    return least


def _joined(least: Hashes) -> Hashes:
    """(sets, bands) a number for the rows of each band, of (bands, rows, sets)."""
    keys = np.zeros((least.shape[0], least.shape[2]), np.uint64)
    for row in range(least.shape[1]):
        keys = mix_bits(keys + least[:, row])
    return np.ascontiguousarray((keys >> np.uint64(32)).astype(np.uint32).T)


@functools.cache
def _multipliers(count: int) -> Hashes:
    """(count, 1) odd numbers, the same on every machine."""
    drawn = np.frombuffer(hashlib.shake_256(b"minhash").digest(count * 4), "<u4").astype(np.uint32)
    return drawn.reshape(count, 1) | np.uint32(1)


@dataclass(frozen=True)
class Sketches:
    """The smallest numbers of many sets, ascending: set i has `sizes[i]` of `hashes`, from `begins[i]` on."""

    hashes: Hashes
    begins: Places
    sizes: npt.NDArray[np.int32]

    def similarities(self, first: Places, second: Places) -> npt.NDArray[np.float64]:
        """(pairs,) the share of the numbers of two sets that are in both (Jaccard), of pairs of sets by their numbers.

        Exact where both have fewer than SKETCH_NUMBERS numbers.
        """
        pairs = np.arange(len(first))
        owners = np.concatenate([np.repeat(pairs, self.sizes[side]) for side in (first, second)])
        values = np.concatenate([self._gathered(side) for side in (first, second)])
        known = values <= np.minimum(self._known_up_to(first), self._known_up_to(second))[owners]
        keyed = (owners[known].astype(np.uint64) << np.uint64(32)) | values[known]
        keyed.sort()
        both = np.flatnonzero(keyed[1:] == keyed[:-1])
        shared = np.bincount((keyed[both] >> np.uint64(32)).astype(np.int64), minlength=len(pairs))
        found = np.bincount((keyed >> np.uint64(32)).astype(np.int64), minlength=len(pairs))
        similarity: npt.NDArray[np.float64] = shared / np.maximum(found - shared, 1)
        return similarity

    def _gathered(self, sets: Places) -> Hashes:
        """The numbers of these sets, one after the other."""
        sizes = self.sizes[sets].astype(np.int64)
        shifts = np.repeat(self.begins[sets] - (np.cumsum(sizes) - sizes), sizes)
        gathered: Hashes = self.hashes[np.arange(len(shifts)) + shifts]
        return gathered

    def _known_up_to(self, sets: Places) -> Hashes:
        """(sets,) the number up to which all of each set are known."""
        sizes = self.sizes[sets]
        last = self.hashes[self.begins[sets] + sizes - 1]
        limits: Hashes = np.where(sizes < SKETCH_NUMBERS, np.uint32(np.iinfo(np.uint32).max), last)
        return limits
