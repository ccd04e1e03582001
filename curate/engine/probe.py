"""Estimate what a recipe's chat models will cost, by asking for some rows of its source.

The rows are run in a folder of their own, in a few blocks; their answers are kept where the run itself looks for them,
so nothing is paid for twice, and they are booked under the same budget.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.commit import take_over
from curate.engine.placement import place
from curate.engine.runner import AT_WORK, Runner, RunProgress, Watch
from curate.engine.stages import start_of
from curate.engine.workers import Workers
from curate.llm.model import ChatModel, Gateways, asked_here
from curate.llm.store import NOTHING, Sum, total
from curate.pool.tables import count_rows
from curate.process import hold
from curate.recipe.steps import ResolvedRecipe, assign_fingerprints, chats_of
from curate.sources.ingest import pool_of, preview_source

BLOCKS = 10
"""The blocks whose differences give the interval."""

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t for 95 %, two sides, by one degree of freedom less than there are blocks: 1, 2, ..."""


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its interval at 95 %; infinite above where one block tells nothing of others."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ChatEstimate:
    """Estimate of what a chat model would cost for `rows` of the source, by `probed` of them."""

    chat: ChatModel
    rows: int
    probed: int
    requests: Interval
    tokens: Interval
    usd: Interval

    def to_json(self) -> dict[str, Any]:
        """As plain data; a bound that is not known is null."""
        said: dict[str, Any] = {"name": self.chat.name, "model": self.chat.endpoint.name}
        said |= {"rows": self.rows, "probed": self.probed}
        for what in ("requests", "tokens", "usd"):
            found: Interval = getattr(self, what)
            high = None if math.isinf(found.high) else found.high
            said[what] = {"mean": found.mean, "low": found.low, "high": high}
        return said


def probe(resolved: ResolvedRecipe, rows: int, watch: Watch = lambda progress: None) -> tuple[ChatEstimate, ...]:
    """Run the recipe on about the first `rows` of its source, and reckon from their blocks what all would cost.

    Where the source's rows are counted only when its files are read, the estimate is for 1,000. Raises as `run`.
    """
    out = Path(resolved.recipe.out)
    chats = chats_of(resolved.steps)
    if not chats:
        return ()
    for chat in chats:
        chat.check()
    last = max(number for number, step in enumerate(resolved.steps) if step.chat is not None)
    size = -(-rows // BLOCKS)
    recipe = resolved.recipe.model_copy(update={"out": str(out / "probe"), "shard_samples": size})
    placed = place(replace(resolved, recipe=recipe, steps=resolved.steps[: last + 1]), 0)
    folder = Path(recipe.out)
    with hold(out), _fresh(folder), take_over(folder), Gateways(out) as gateways:
        pool = pool_of(recipe)
        planned = preview_source(recipe, pool)
        if not planned.shards:  # the source itself is to be written first
            return ()
        some = replace(planned, shards=min(BLOCKS, planned.shards), rows=None)
        meter = _Meter(chats, some.shards, watch)
        runner = Runner(recipe, pool, some, Workers(0, folder / AT_WORK, gateways), meter, placed)
        ingest = runner.ingest()
        runner.annotate(ingest, assign_fingerprints(placed.resolved.steps, *start_of(recipe, pool)))
        sizes = [count_rows(pool.rows(shard)) for shard in range(some.shards)]
    of = planned.rows or 1000
    return tuple(_estimate(chat, of, sizes, meter.blocks[chat.name]) for chat in chats)


@contextmanager
def _fresh(folder: Path) -> Iterator[None]:
    """A folder for this block alone: columns that were there would be asked for by nobody."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Meter:
    """Reads after each block what was asked of the models; in this process, blocks are done one after the other."""

    def __init__(self, chats: Sequence[ChatModel], blocks: int, watch: Watch) -> None:
        self.blocks = {chat.name: [NOTHING] * blocks for chat in chats}
        self._read = {chat.name: asked_here(chat.name) for chat in chats}
        self._watch = watch

    def __call__(self, progress: RunProgress) -> None:
        """Book what came since the last time under the block that is done now."""
        for name, blocks in self.blocks.items():
            now = asked_here(name)
            grown = Sum(*(a - b for a, b in zip(now, self._read[name], strict=True)))
            at = min(progress.done, len(blocks)) - 1
            blocks[at] = total([blocks[at], grown])
            self._read[name] = now
        self._watch(replace(progress, what=f"probe: {progress.what}"))


def _estimate(chat: ChatModel, rows: int, sizes: Sequence[int], blocks: Sequence[Sum]) -> ChatEstimate:
    requests, tokens, nano_usd = (_interval(rows, sizes, column) for column in zip(*blocks, strict=True))
    usd = Interval(nano_usd.mean / 1e9, nano_usd.low / 1e9, nano_usd.high / 1e9)
    return ChatEstimate(chat, rows, sum(sizes), requests, tokens, usd)


def _interval(rows: int, sizes: Sequence[int], amounts: Sequence[int]) -> Interval:
    """The ratio estimator over blocks of unlike sizes, with its t interval (Cochran, Sampling Techniques, 6.3)."""
    count, seen = len(sizes), sum(sizes)
    ratio = sum(amounts) / seen
    if count == 1:
        return Interval(rows * ratio, sum(amounts) if rows >= seen else 0.0, math.inf)
    squares = sum((amount - ratio * size) ** 2 for amount, size in zip(amounts, sizes, strict=True))
    spread = _T95[count - 2] * math.sqrt(squares / (count * (count - 1))) / (seen / count)
    return Interval(rows * ratio, max(0.0, rows * (ratio - spread)), rows * (ratio + spread))
