"""Table-free permutations: a Feistel network on a grid of cells, with cycle walking (numpy only).

Black and Rogaway 2002, "Ciphers with arbitrary finite domains".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curate.mix.schedule import Ints

ROUNDS = 24  # from 20 on, all orders of 2 to 6 rows come equally often in 400,000 epochs (chi-square)
GOLDEN = 0x9E3779B97F4A7C15
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

Words = npt.NDArray[np.uint64]


def permute(place: Ints, rows: Ints, key: Words) -> Ints:
    """Permute 0..rows-1 by a network on at least as many cells: empty cells are stepped over (cycle walking)."""
    high = np.sqrt((rows - 1).astype(np.float64)).astype(np.int64) + 1
    low = -(-rows // high)
    n, a, b = rows.astype(np.uint64), high.astype(np.uint64), low.astype(np.uint64)
    row = _network(place.astype(np.uint64), a, b, key)
    outside = np.flatnonzero(row >= n)
    while outside.size:
        row[outside] = _network(row[outside], a[outside], b[outside], key[outside])
        outside = outside[row[outside] >= n[outside]]
    return row.astype(np.int64)


def _network(cell: Words, a: Words, b: Words, key: Words) -> Words:
    """An alternating Feistel network on the grid of `a` by `b` cells: a permutation for every key."""
    left, right = np.divmod(cell, b)
    for turn in range(ROUNDS):
        salt = key + np.uint64(turn * GOLDEN & (1 << 64) - 1)
        if turn % 2:
            right = _add_hash(right, left, salt, b)
        else:
            left = _add_hash(left, right, salt, a)
    return left * b + right


def _add_hash(half: Words, other: Words, salt: Words, size: Words) -> Words:
    """(half + f(other)) mod size, f being a hash cut to the range: sizes are below 2**32, so nothing overflows."""
    word = other + salt
    word *= np.uint64(MIX[0])
    word ^= word >> np.uint64(32)
    word *= np.uint64(MIX[1])
    word >>= np.uint64(32)
    word *= size
    word >>= np.uint64(32)
    word += half
    # Unsigned numbers wrap: where nothing was carried, word - size is the larger of the two.
    out: Words = np.minimum(word, word - size)
    return out


def mix_bits(word: Words) -> Words:
    """Mix bits by the finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of a key depends on every bit."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(MIX[0])
    word = (word ^ (word >> np.uint64(27))) * np.uint64(MIX[1])
    return word ^ (word >> np.uint64(31))
