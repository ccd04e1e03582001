"""Chance keyed by (seed, uid): the same numbers whatever worker asks, in whatever order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.mix.network import GOLDEN, mix_bits

Keys = npt.NDArray[np.uint64]


def uid_keys(seed: int, uids: pa.ChunkedArray | pa.Array) -> Keys:
    """(n,) 64 bits for each uid of 32 hex digits, well mixed with the seed."""
    raw = np.frombuffer(bytes.fromhex("".join(uids.to_pylist())), ">u8").reshape(-1, 2).astype(np.uint64)
    start = mix_bits(np.array([(seed + 1) * GOLDEN & (1 << 64) - 1], np.uint64))
    return mix_bits(mix_bits(raw[:, 0] ^ start) ^ raw[:, 1])


def read_keys(inputs: Sequence[Path], seed: int) -> Keys:
    """(n,) the keys of all rows of a group op's inputs, in their order."""
    found = [uid_keys(seed, pq.read_table(path, columns=["uid"])["uid"]) for path in inputs]
    return np.concatenate([np.zeros(0, np.uint64), *found])


def further_keys(keys: Keys, draw: int) -> Keys:
    """(n,) other 64 bits for the same rows, those of the draw numbered `draw`."""
    return mix_bits(keys + np.uint64((draw + 1) * GOLDEN & (1 << 64) - 1))


def generator(seed: int, uid: str, what: str) -> np.random.Generator:
    """Chance for one purpose and one row."""
    key = hashlib.blake2b(f"{seed}/{uid}/{what}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def uniform(keys: Keys) -> npt.NDArray[np.float64]:
    """(n,) the keys as numbers between 0 and 1, neither of them."""
    return ((keys >> np.uint64(12)).astype(np.float64) + 0.5) / float(1 << 52)
