"""Read, decode, prepare and compute the rows of coming chunks in threads, while those before are written.

Nothing is decided here: a row that does not decode, or that an op fails on, is left to the ordinary way, which names
what is wrong with it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from curate.engine.answers import Answer
from curate.engine.calls import CallFailedError, DirectCalls, alarm
from curate.engine.chunk import Chunk, PlaceOfImage
from curate.image.files import decode
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.recipe.steps import Resolved, read_columns

CHUNKS_AHEAD = 2
"""Chunks that are begun while one is written: one whose rows are prepared, one that is computed."""

_IMAGES = ("image", "decoded")

Prepared = dict[int, Any]
"""What the steps' ops prepared of a row, by the steps' numbers."""

T = TypeVar("T")


def begun_ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The items, each when `count` more have been taken."""
    taken: deque[T] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > count:
            yield taken.popleft()
    yield from taken


@dataclass(frozen=True)
class _Wish:
    """What a step's op is to prepare of a row: its arguments, of which those at `images` are put in when decoded."""

    prepare: Callable[..., Any]
    arguments: Sequence[Any]
    images: Mapping[int, str]


class ReadAhead:
    """Threads that read ahead for the steps of a stage whose ops have `prepare` and `compute`, and run on a device.

    Of the first step the device computes ahead, too: which rows come to it is known. Leaving it ends the threads.
    """

    def __init__(self, pool: Pool, direct: DirectCalls, steps: Mapping[int, Resolved], threads: int) -> None:
        self._pool, self._direct, self.steps = pool, direct, steps
        self._threads = ThreadPoolExecutor(threads, "prepare")
        self._device = ThreadPoolExecutor(1, "device")
        self._own = threading.local()

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *error: Any) -> None:
        for threads in (self._threads, self._device):
            threads.shutdown(wait=True, cancel_futures=True)

    def begin(self, chunk: Chunk, missing: Mapping[int, Sequence[int]]) -> Ahead:
        """Begin on the rows of a chunk that each of these steps has not seen."""
        wishes: dict[int, dict[int, _Wish]] = {}
        for number, rows in missing.items():
            for row, wish in self._wishes(self.steps[number], chunk, rows):
                wishes.setdefault(row, {})[number] = wish
        places = chunk.places_of_images(sorted(wishes))
        futures = {row: self._threads.submit(self._prepare, places[row], wishes[row]) for row in sorted(wishes)}
        computed = None
        if missing.get(0):
            computed = self._device.submit(self.compute, 0, {row: futures[row] for row in missing[0]})
        return Ahead(self, futures, computed)

    def _wishes(self, step: Resolved, chunk: Chunk, rows: Sequence[int]) -> Iterator[tuple[int, _Wish]]:
        reads = step.reads
        images = {at: name for at, name in enumerate(reads) if name in _IMAGES}
        columns = [[None] * len(rows) if name in _IMAGES else chunk.read(name, rows) for name in reads]
        prepare = self._direct.op(step).prepare
        for row, arguments in zip(rows, zip(*columns, strict=True), strict=True):
            yield row, _Wish(prepare, arguments, images)

    def _prepare(self, place: PlaceOfImage | None, wishes: Mapping[int, _Wish]) -> Prepared:
        """In a thread: what can be prepared of a row. What raises is met again, and named, in the ordinary way."""
        decoded = None
        if any(wish.images for wish in wishes.values()):
            if place is None:
                return {}
            decoded = decode(self._blobs.read(*place))
            if decoded.error is not None:
                return {}
        found = {}
        for number, wish in wishes.items():
            arguments = list(wish.arguments)
            for at, name in wish.images.items():
                arguments[at] = decoded if name == "decoded" or decoded is None else decoded.image
            found[number] = wish.prepare(*arguments)
        return found

    @property
    def _blobs(self) -> Blobs:
        if not hasattr(self._own, "blobs"):
            self._own.blobs = Blobs(self._pool)
        found: Blobs = self._own.blobs
        return found

    def compute(self, number: int, futures: Mapping[int, Future[Prepared]]) -> dict[int, Answer]:
        """The answers to those of these rows that were prepared well; to none where the op fails on one of them."""
        ready = {}
        for row, future in futures.items():
            if future.exception() is None and number in future.result():
                ready[row] = future.result()[number]
        if not ready:
            return {}
        try:
            answers = self._direct.compute(self.steps[number], list(ready.values()))
        except CallFailedError:
            return {}
        return dict(zip(ready, answers, strict=True))

    def wait(self, number: int, do: Callable[[], T]) -> T:
        """Wait as long as a call of a step's op may take; then this process ends, as by a call of its own."""
        with alarm(self._direct.limit(self.steps[number])):
            return do()


@dataclass
class Ahead:
    """Work that has been begun on a chunk."""

    reading: ReadAhead
    futures: Mapping[int, Future[Prepared]]
    computed: Future[dict[int, Answer]] | None

    def answers(self, number: int, rows: Sequence[int]) -> dict[int, Answer]:
        """The answers of a step's op to those of these rows that were prepared well."""
        if number not in self.reading.steps:
            return {}
        if number == 0 and self.computed is not None:
            found = self.reading.wait(number, self.computed.result)
            return {row: found[row] for row in rows if row in found}
        mine = {row: self.futures[row] for row in rows if row in self.futures}
        return self.reading.wait(number, lambda: self.reading.compute(number, mine))


def steps_ahead(steps: Sequence[Resolved]) -> dict[int, Resolved]:
    """Those of a stage's steps, by number, of which rows can be prepared before the steps before them are through."""
    found = {}
    written: set[str] = set()
    for number, step in enumerate(steps):
        apart = step.over is None and not written & read_columns(step.reads)
        if apart and not step.placement.on_cpu and hasattr(step.function, "prepare"):
            found[number] = step
        written |= {*step.columns.values()}
    return found
