"""Packing: documents of many lengths into sequences of one, planned from lengths alone, never from content.

A window of positions of the mixture is packed by itself (best fit, the longest first), so the plan is a pure function
of (manifest, lengths, window): it resumes at (window, pack) and is the same on any number of ranks. A pack carries
segment ids and positions, by which attention stays within a document. Of a global batch, each rank takes as many packs
as the others, dealt so that their costs are even. MM1 (2403.09611) packs 4,096 tokens with at most 16 images.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curate import mix
from curate.mix.indexes import IMAGES, TEXT_TOKENS
from curate.sample import file_sha256
from train.lengths import Ints, Lengths

PADDING = 0
"""The segment id of padding; documents count from 1."""


class PackingError(ValueError):
    """Lengths or a state that cannot be packed; the message says which and what to do."""


@dataclass(frozen=True)
class Limits:
    """What a pack may hold: `tokens` in all, each image `visual_tokens` of them, at most `images`."""

    tokens: int = 4096
    images: int = 16
    visual_tokens: int = 144
    window: int = 4096
    """Positions that are packed together; a document meets only others of its window."""


@dataclass(frozen=True)
class Pack:
    """One sequence: the mixture's positions in it, in order, the tokens of each (cut to the limit), and its images."""

    positions: tuple[int, ...]
    tokens: tuple[int, ...]
    images: int


def plan(positions: Sequence[int], text: Ints, images: Ints, limits: Limits) -> list[Pack]:
    """The packs of a window: every position in exactly one, longest first into the fullest pack that takes it.

    `text` and `images` count each position's tokens of text and images. A document longer than a pack is cut to one;
    one with more images than the cap keeps the first of them. Packs come in the order of their first positions.
    """
    kept = np.minimum(images, min(limits.images, limits.tokens // max(limits.visual_tokens, 1)))
    need = np.minimum(text + kept * limits.visual_tokens, limits.tokens)
    members: list[list[int]] = []
    room_images: list[int] = []
    open_packs: list[tuple[int, int]] = []  # (tokens left, pack), sorted
    for number in np.argsort(-need, kind="stable").tolist():
        size, pictures = int(need[number]), int(kept[number])
        at = bisect_left(open_packs, (size, -1))
        while at < len(open_packs) and room_images[open_packs[at][1]] < pictures:
            at += 1
        if at < len(open_packs):
            left, pack = open_packs.pop(at)
        else:
            left, pack = limits.tokens, len(members)
            members.append([])
            room_images.append(limits.images)
        members[pack].append(number)
        room_images[pack] -= pictures
        if left > size:
            insort(open_packs, (left - size, pack))
    packs = [sorted(numbers) for numbers in members]
    return [
        Pack(
            tuple(int(positions[n]) for n in numbers),
            tuple(int(need[n]) for n in numbers),
            int(sum(kept[n] for n in numbers)),
        )
        for numbers in sorted(packs)
    ]


def waste(packs: Sequence[Pack], tokens: int) -> float:
    """The share of the packs' tokens that is padding, 0 to 1."""
    return 1 - sum(sum(pack.tokens) for pack in packs) / (tokens * len(packs)) if packs else 0.0


def cost(pack: Pack, limits: Limits) -> float:
    """What a pack takes to train on, in tokens: its text and visual tokens once more for the tower's work."""
    return sum(pack.tokens) + pack.images * limits.visual_tokens


def balanced(costs: Sequence[float], world: int) -> list[list[int]]:
    """For each rank the packs it takes, equally many: dearest first to the rank with least so far (Graham 1969)."""
    if len(costs) % world:
        raise PackingError(f"a batch of {len(costs)} packs cannot be shared by {world} ranks; choose a multiple")
    each, load = len(costs) // world, [0.0] * world
    taken: list[list[int]] = [[] for _ in range(world)]
    for pack in sorted(range(len(costs)), key=lambda n: (-costs[n], n)):
        rank = min((r for r in range(world) if len(taken[r]) < each), key=lambda r: (load[r], r))
        taken[rank].append(pack)
        load[rank] += costs[pack]
    return [sorted(packs) for packs in taken]


def laid_out(pack: Pack, length: int) -> dict[str, Tensor]:
    """{segments: T, positions: T} of a pack: which document a token belongs to (0 is padding), and its place in it."""
    segments_T, positions_T = torch.zeros(length, dtype=torch.long), torch.zeros(length, dtype=torch.long)
    at = 0
    for number, size in enumerate(pack.tokens, start=1):
        segments_T[at : at + size] = number
        positions_T[at : at + size] = torch.arange(size)
        at += size
    return {"segments": segments_T, "positions": positions_T}


def attends(segments_T: Tensor) -> Tensor:
    """mask_TT bool: token i sees token j of its own document and not after it; padding sees nothing but itself."""
    same_TT = segments_T[:, None] == segments_T[None, :]
    places_T = torch.arange(len(segments_T), device=segments_T.device)
    causal_TT = places_T[:, None] >= places_T[None, :]
    itself_TT = places_T[:, None] == places_T[None, :]
    return (same_TT & causal_TT & (segments_T != PADDING)[:, None]) | itself_TT


class Packer:
    """The packs of a mixture from a state on, `batch_size` packs a global batch; only indexes are read.

    A window's last packs may be fewer than a batch: the batch is filled from the next window. Raises PackingError, and
    what `curate.mix` raises for an index without the lengths.
    """

    def __init__(self, manifest: Path, batch_size: int, limits: Limits | None = None) -> None:
        self.path, self.manifest = Path(manifest), mix.load(manifest)
        self.digest, self.batch_size, self.limits = file_sha256(self.path), batch_size, limits or Limits()
        self.window = self.pack = 0
        self.given = self.padding = 0
        self.held = Lengths(self.manifest, self.path)
        self.held.check((TEXT_TOKENS, IMAGES))
        self._planned: tuple[int, list[Pack]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Where the packs stand, the same on every rank."""
        return {"window": self.window, "pack": self.pack, "manifest": self.digest, "limits": vars(self.limits).copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same manifest and limits. Raises PackingError if it is another's."""
        if state["manifest"] != self.digest or state["limits"] != vars(self.limits):
            raise PackingError("the manifest or the packing's limits have changed since this state was saved")
        self.window, self.pack = int(state["window"]), int(state["pack"])

    def __iter__(self) -> Iterator[list[Pack]]:
        return self

    def __next__(self) -> list[Pack]:
        """The packs of the next global batch; which rank takes which, `balanced` says."""
        out: list[Pack] = []
        while len(out) < self.batch_size:
            packs = self._packs(self.window)
            taken = packs[self.pack : self.pack + self.batch_size - len(out)]
            out += taken
            self.pack += len(taken)
            if self.pack >= len(packs):
                self.window, self.pack = self.window + 1, 0
        self.given += len(out) * self.limits.tokens
        self.padding += len(out) * self.limits.tokens - sum(sum(pack.tokens) for pack in out)
        return out

    @property
    def padding_waste(self) -> float:
        """The share of padding in all packs given so far, 0 to 1."""
        return self.padding / self.given if self.given else 0.0

    def _packs(self, window: int) -> list[Pack]:
        if self._planned is None or self._planned[0] != window:
            first = window * self.limits.window
            last = first + self.limits.window
            last = last if self.manifest.end is None else min(last, self.manifest.end)
            if last <= first:
                raise StopIteration
            positions = np.arange(first, last, dtype=np.int64)
            source, _, row = mix.locate(self.manifest, positions)
            text, images = (self.held.of(source, row, unit) for unit in (TEXT_TOKENS, IMAGES))
            self._planned = window, plan(positions.tolist(), text, images, self.limits)
        return self._planned[1]
