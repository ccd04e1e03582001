"""Pack documents of many lengths into sequences of one, planned from lengths alone, never from content.

A window of positions of the mixture is packed by itself, so the plan is a pure function of (manifest, lengths, window):
it resumes at any pack and is the same on any number of ranks. A pack carries segment ids and positions, by which
attention stays within a document. Of a global batch, each rank takes as many packs as the others, dealt so that their
costs are even. MM1 (2403.09611) packs 4,096 tokens with at most 16 images.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from curate.image.tensors import of_batch
from curate.stream.reading import check_count
from curate.stream.sample_lengths import Ints
from curate.stream.sequences import cut_sequence
from curate.tokens.segments import PADDING


class PackingError(ValueError):
    """Lengths or a state that cannot be packed; the message says which and what to do."""


@dataclass(frozen=True)
class PackLimits:
    """Limits of a pack: `tokens` in all, each image `visual_tokens` of them, at most `images`. Raises StreamError."""

    tokens: int = 4096
    images: int = 16
    visual_tokens: int = 144
    window: int = 4096
    """Positions that are packed together; a document meets only others of its window."""

    def __post_init__(self) -> None:
        for what, least in (("tokens", 1), ("images", 0), ("visual_tokens", 0), ("window", 1)):
            check_count(f"PackLimits.{what}", getattr(self, what), least)


@dataclass(frozen=True)
class Pack:
    """One sequence: the mixture's positions in it, in order, and the tokens in all and the images of each."""

    positions: tuple[int, ...]
    tokens: tuple[int, ...]
    images: tuple[int, ...]


EMPTY = Pack((), (), ())
NEVER = np.iinfo(np.int64).max
COMPARED = 512
"""Kinds of packs that are compared at each step of an order."""
MOST_STRAY = 1 << 27
"""What a pack may stray by in the arithmetic of an order: squares of several times as much still fit 64 bits."""


def plan_packs(positions: Sequence[int], tokens: Ints, images: Ints, limits: PackLimits) -> list[Pack]:
    """Plan the packs of a window, every position in exactly one; they come in the order of their first positions.

    `tokens` and `images` are those of each position's document, none above what a pack may hold. Packs are filled one
    after another, each time by the document that takes most of what is left, tokens and images weighed by how much of
    them is left (the dot product of Panigrahy et al. 2011): a pack runs out of both at once.
    """
    waiting: dict[int, list[tuple[int, int]]] = {}  # by their images: (tokens, number), sorted
    for number in np.lexsort((-np.arange(len(tokens)), tokens)).tolist():
        waiting.setdefault(int(images[number]), []).append((int(tokens[number]), number))
    members: list[list[int]] = []
    while waiting:
        left, room, numbers = limits.tokens, limits.images, list[int]()
        while (pictures := _next_images(waiting, left, room, limits)) is not None:
            size, number = waiting[pictures].pop(_find_longest(waiting[pictures], left))
            left, room = left - size, room - pictures
            numbers.append(number)
            if not waiting[pictures]:
                del waiting[pictures]
        members.append(numbers)
    return [
        Pack(
            tuple(int(positions[n]) for n in numbers),
            tuple(int(tokens[n]) for n in numbers),
            tuple(int(images[n]) for n in numbers),
        )
        for numbers in sorted(sorted(numbers) for numbers in members)
    ]


def spread_packs(packs: Sequence[Pack], units_PS: Ints) -> list[Pack]:
    """Order a window's packs so that each source has about its share at every prefix.

    `held_PS`: how much a pack holds of each of S sources, documents or another unit. Always next comes the kind of pack
    after which the squares of what the sources stray by are least, and of one kind the earliest: in whole numbers, so
    that it is the same everywhere. Of very many kinds a part is compared at a time.
    """
    kinds_KS, kind_P = np.unique(units_PS, axis=0, return_inverse=True)
    waiting = [deque(np.flatnonzero(kind_P == kind).tolist()) for kind in range(len(kinds_KS))]
    strays_KS, parts = _strays(kinds_KS, units_PS.sum(axis=0)), -(-len(kinds_KS) // COMPARED)
    turn = [kind for part in range(parts) for kind in range(part, len(kinds_KS), parts)]  # neighbours lie apart
    slots, later = turn[:COMPARED], iter(turn[COMPARED:])
    mine_CS = strays_KS[slots]
    squares_C = np.square(mine_CS).sum(axis=1)
    off_S, order = np.zeros(units_PS.shape[1], np.int64), list[Pack]()
    for _ in packs:
        slot = int(np.argmin(squares_C + 2 * (mine_CS @ off_S)))
        kind = slots[slot]
        order.append(packs[waiting[kind].popleft()])
        off_S = off_S + strays_KS[kind]
        if waiting[kind]:
            continue
        if (following := next(later, None)) is None:
            squares_C[slot], mine_CS[slot] = NEVER, 0
        else:
            slots[slot], mine_CS[slot] = following, strays_KS[following]
            squares_C[slot] = np.square(mine_CS[slot]).sum()
    return order


def _strays(kinds_KS: Ints, totals_S: Ints) -> Ints:
    """What each kind of pack holds above what is due to its sources, times all that the window holds.

    Of n that have come, n / all of each source are due. Cut to numbers whose squares can be added up.
    """
    found_KS = kinds_KS * int(totals_S.sum()) - kinds_KS.sum(axis=1, keepdims=True) * totals_S
    cut_KS: Ints = found_KS // max(-(-int(np.abs(found_KS).max(initial=0)) // MOST_STRAY), 1)
    return cut_KS


def max_stray(packs_PS: Ints) -> float:
    """The most by which any source is off its share of what packs hold, `packs_PS` in their order, after any one."""
    due_PS = packs_PS.sum(axis=1).cumsum()[:, None] * (packs_PS.sum(axis=0) / max(int(packs_PS.sum()), 1))
    return float(np.abs(packs_PS.cumsum(axis=0) - due_PS).max(initial=0))


def _find_longest(documents: Sequence[tuple[int, ...]], left: int) -> int:
    """Which of sorted (tokens, number) has most tokens, of those with at most `left`; -1 if none has so few."""
    return bisect_left(documents, (left + 1,)) - 1


def _next_images(
    waiting: Mapping[int, Sequence[tuple[int, int]]], left: int, room: int, limits: PackLimits
) -> int | None:
    """How many images the document has that is taken next, the longest such that fits; None if none does."""
    best, most = None, -1.0
    for pictures, documents in waiting.items():
        if pictures <= room and (longest := _find_longest(documents, left)) >= 0:
            size = documents[longest][0]
            score = size * left / limits.tokens**2 + pictures * room / max(limits.images, 1) ** 2
            if score > most:
                best, most = pictures, score
    return best


def padding_share(packs: Sequence[Pack], tokens: int) -> float:
    """The share of the packs' tokens that is padding, 0 to 1."""
    return 1 - sum(sum(pack.tokens) for pack in packs) / (tokens * len(packs)) if packs else 0.0


def pack_cost(pack: Pack, limits: PackLimits) -> float:
    """The cost of training on a pack, in tokens: its text and visual tokens once more for the tower's work."""
    return sum(pack.tokens) + sum(pack.images) * limits.visual_tokens


def balance(costs: Sequence[float], world: int) -> list[list[int]]:
    """Balance packs over ranks, equally many each: dearest first to the rank with least so far (Graham 1969)."""
    if len(costs) % world:
        raise PackingError(f"a batch of {len(costs)} packs cannot be shared by {world} ranks; choose a multiple")
    each, load = len(costs) // world, [0.0] * world
    taken: list[list[int]] = [[] for _ in range(world)]
    for pack in sorted(range(len(costs)), key=lambda n: (-costs[n], n)):
        rank = min((r for r in range(world) if len(taken[r]) < each), key=lambda r: (load[r], r))
        taken[rank].append(pack)
        load[rank] += costs[pack]
    return [sorted(packs) for packs in taken]


def lay_out(pack: Pack, length: int) -> dict[str, Tensor]:
    """Lay out a pack, {segments: T, positions: T}: the document a token belongs to (0 is padding), its place in it."""
    sizes = np.array([*pack.tokens, length - sum(pack.tokens)])
    segments_T = np.repeat([*range(1, len(pack.tokens) + 1), PADDING], sizes)
    positions_T = np.arange(length) - np.repeat(sizes.cumsum() - sizes, sizes)
    return {
        "segments": torch.from_numpy(segments_T),
        "positions": torch.from_numpy(np.where(segments_T == PADDING, 0, positions_T)),
    }


@dataclass(frozen=True)
class PackedDocument:
    """A prepared sample (`curate.stream.sequences`); `replaced` if another stands where it was planned."""

    uid: str
    tensors: Mapping[str, Tensor]
    replaced: bool


def assemble(packs: Sequence[Pack], documents: Sequence[PackedDocument], limits: PackLimits) -> dict[str, Tensor]:
    """Assemble {ids, scored, source, segments, positions: B x T, image: N x CHW, account: D x 6} of packs, from
    documents in order (`curate.stream.sequences.SampleAccount`); {instruction: N x L} where samples have one.

    Images of several sizes or towers come as `curate.image.tensors` says. A replacement is cut to the place that was
    planned. Raises PackingError for a document of another length than its index says.
    """
    rows, shown, queue = list[dict[str, Tensor]](), list[Mapping[str, Tensor]](), iter(documents)
    for pack in packs:
        due = zip(pack.tokens, pack.images, strict=True)
        fitted = [_fit_document(next(queue), tokens, pictures) for tokens, pictures in due]
        rows.append(_row(pack, fitted, limits.tokens))
        shown += fitted
    accounts = [fitted["account"] for fitted in shown]
    found = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    found["account"] = torch.stack(accounts) if accounts else torch.zeros(0, 6, dtype=torch.long)
    asked = [document["instruction"] for document in shown if "instruction" in document]
    return {**found, **({"instruction": torch.cat(asked)} if asked else {}), **of_batch(shown)}


def _row(pack: Pack, fitted: Sequence[Mapping[str, Tensor]], length: int) -> dict[str, Tensor]:
    """{ids, scored, source, segments, positions: T} of a pack: each document, then nothing to where the next begins."""
    due = [*pack.tokens, length - sum(pack.tokens)]
    sizes = [*(len(document["ids"]) for document in fitted), 0]
    gaps = [planned - size for planned, size in zip(due, sizes, strict=True)]
    row = lay_out(pack, length)
    if any(gaps[:-1]):  # a replacement that is shorter
        laid = np.repeat([True, False] * len(due), np.stack((sizes, gaps), 1).ravel())
        row["segments"][torch.from_numpy(~laid)] = PADDING
    sources = [*(int(document["source"]) for document in fitted), 0]
    row["source"] = torch.from_numpy(np.repeat(sources, due))
    for name, kind in (("ids", torch.long), ("scored", torch.bool)):
        parts = [document[name] for document in fitted]
        filled = [F.pad(part, (0, gap)) if gap else part for part, gap in zip(parts, gaps, strict=False)]
        row[name] = torch.cat([*filled, torch.zeros(gaps[-1], dtype=kind)])
    return row


def _fit_document(document: PackedDocument, tokens: int, images: int) -> Mapping[str, Tensor]:
    found = len(document.tensors["ids"]), len(document.tensors["image"])
    if document.replaced:
        smaller = found[0] > tokens or found[1] > images
        return cut_sequence(dict(document.tensors), tokens, images) if smaller else document.tensors
    if found != (tokens, images):
        raise PackingError(
            f"lengths_differ: sample {document.uid} has {found[0]} tokens and {found[1]} images, its index made them"
            f" {tokens} and {images}; count again with `curate index FOLDER --tokenizer NAME`"
        )
    return document.tensors
