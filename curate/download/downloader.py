"""Many rows at once, handed back in their own order with flat memory.

One thread holds the event loop and its connections for the life of an actor. A row that hangs holds back only the
order, not the work: later rows go on, and what would fill the memory meanwhile waits in a temporary file.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import resource
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from curate.download.buffer import Budget, Waiting
from curate.download.fetched import Fetched, sha256
from curate.download.settings import DownloadSettings

if TYPE_CHECKING:
    from curate.download.resize import ImageResizer
    from curate.download.transport import Transport

Row = tuple[str, str | None]

BATCH = 256
HANDFUL = 32
HAND_OVER_S = 0.005
OPEN_FILES = 16384
CLOSED = "this Downloader is closed; make a new one"


class Downloader:
    """Fetches (uid, url) rows; connections and DNS answers live as long as it does.

    `fetch` may run in several threads at once, one a shard, which share all limits: then one shard's last slow rows
    do not leave the rest idle. `scratch` is where temporary files go (the system's folder if None).
    """

    def __init__(self, settings: DownloadSettings, scratch: Path | None = None) -> None:
        self._settings = settings
        self._scratch = scratch
        self._loop: asyncio.AbstractEventLoop | None = None
        if settings.engine == "curate":
            self._start()

    def __enter__(self) -> Downloader:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def fetch(self, rows: Iterable[Row]) -> Iterator[Fetched]:
        """One Fetched a row, in the order of the rows, whatever their servers do; reads `rows` as it goes."""
        if self._settings.engine == "img2dataset":
            from curate.download.whole import fetch_with_img2dataset

            return fetch_with_img2dataset(rows, self._settings, self._scratch)
        return self._fetch(rows)

    def close(self) -> None:
        """Abandon what is under way, close the connections and end the thread. May be called again."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()
        if self._resize_pool is not None:
            self._resize_pool.shutdown(cancel_futures=True)

    def _start(self) -> None:
        self._resizer: ImageResizer | None = None
        self._resize_pool: ThreadPoolExecutor | None = None
        if self._settings.resize is not None:
            from curate.download.resize import ImageResizer

            self._resizer = ImageResizer(self._settings.resize)
            self._resize_pool = ThreadPoolExecutor(self._settings.resize_threads, "curate-resize")
        self._shards: set[_Shard] = set()
        _allow_many_files()
        self._loop = asyncio.new_event_loop()
        self._budget = Budget(self._settings.buffer_bytes, self._loop)
        self._thread = threading.Thread(target=self._loop.run_forever, name="curate-download", daemon=True)
        self._thread.start()
        self._transport = asyncio.run_coroutine_threadsafe(self._connect(), self._loop).result()

    async def _connect(self) -> Transport:
        from curate.download.transport import Transport

        return Transport(self._settings, self._budget.room)

    async def _stop(self) -> None:
        tasks = [task for shard in self._shards for task in shard.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._transport.close()

    def _fetch(self, rows: Iterable[Row]) -> Iterator[Fetched]:
        loop = self._loop
        if loop is None:
            raise ValueError(CLOSED)
        shard = _Shard(rows, self._settings.window, Waiting(self._budget, self._scratch))
        try:
            while (row := self._next(shard)) is not None:
                yield row
        finally:
            # Not waited for: an abandoned generator may be finalized by any thread, the loop's own among them.
            with contextlib.suppress(RuntimeError):  # the loop is closed, and what it did is dropped already
                loop.call_soon_threadsafe(self._drop, shard)

    def _next(self, shard: _Shard) -> Fetched | None:
        """Start what there is room for, and wait for the next row in order; None at the end."""
        while True:
            shard.collect()
            if shard.head in shard.waiting:
                self._admit(shard)
                shard.head += 1
                return shard.waiting.take(shard.head - 1)
            if self._admit(shard):
                continue
            if shard.exhausted and shard.head == shard.admitted:
                return None
            shard.waiting.spill()
            shard.wait()

    def _admit(self, shard: _Shard) -> bool:
        if self._loop is None:
            raise ValueError(CLOSED)
        batch = shard.batch()
        if batch:
            self._loop.call_soon_threadsafe(self._begin, batch, shard)
        return bool(batch)

    def _begin(self, batch: list[tuple[int, Row]], shard: _Shard) -> None:
        for number, (uid, url) in batch:
            task = asyncio.get_running_loop().create_task(self._one(number, uid, url, shard))
            shard.tasks.add(task)
            task.add_done_callback(shard.ended)
        self._shards.add(shard)
        if self._loop is None:  # closed meanwhile: the tasks would never run
            shard.done.put(None)

    def _drop(self, shard: _Shard) -> None:
        self._shards.discard(shard)
        shard.drop()

    async def _one(self, number: int, uid: str, url: str | None, shard: _Shard) -> None:
        try:
            row = await self._transport.fetch(uid, url)
            if self._resizer is not None and row.status == "success":
                self._budget.add(0, to_resize=1)
                try:
                    row = await asyncio.get_running_loop().run_in_executor(self._resize_pool, self._resizer, row)
                finally:
                    self._budget.add(0, to_resize=-1)
            self._budget.add(len(row.body or b""))
        except Exception as err:  # noqa: BLE001 - a fault of ours costs one row, not the shard, and is named
            row = Fetched(uid, url, "failed_to_download", "unexpected_error", f"{type(err).__name__}: {err}"[:500])
        shard.finish(number, row)


class _Shard:
    """One call of `fetch`: what is still to be read, what is under way, what waits to be handed over."""

    def __init__(self, rows: Iterable[Row], window: int, waiting: Waiting) -> None:
        self._source = enumerate(rows)
        self._window = window
        self.waiting = waiting
        self.done: queue.SimpleQueue[list[tuple[int, Fetched]] | None] = queue.SimpleQueue()
        self._finished: list[tuple[int, Fetched]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.head = self.admitted = 0
        self.exhausted = self._dropped = False

    def batch(self) -> list[tuple[int, Row]]:
        """The next rows to start, at most as many as the window has room for; none while that is only a few."""
        room = min(BATCH, self._window - (self.admitted - self.head))
        if self.exhausted or room < min(BATCH, self._window) // 2 or room < 1:
            return []
        rows = list(itertools.islice(self._source, room))
        self.admitted += len(rows)
        self.exhausted = len(rows) < room
        return rows

    def finish(self, number: int, row: Fetched) -> None:
        """Called on the loop when a row is finished. Rows change threads by the handful: each change costs time."""
        self._finished.append((number, row))
        if len(self._finished) == 1:
            asyncio.get_running_loop().call_later(HAND_OVER_S, self._hand_over)
        elif len(self._finished) == HANDFUL:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._finished:
            self.done.put(self._finished)
            self._finished = []

    def ended(self, task: asyncio.Task[None]) -> None:
        """Called on the loop when a task is done: whoever waits for it learns that it was cancelled."""
        self.tasks.discard(task)
        if not self.tasks:
            self._hand_over()
        if task.cancelled():
            self.done.put(None)
        if self._dropped:
            self.drop()

    def drop(self) -> None:
        """Called on the loop when nobody asks for more: cancel what is under way, then let go of all bodies."""
        self._dropped = True
        for task in tuple(self.tasks):
            task.cancel()
        if not self.tasks:
            self.collect()
            self.waiting.close()

    def collect(self) -> None:
        """Take over every row that is finished by now."""
        while not self.done.empty():
            self._add(self.done.get() or [])

    def wait(self) -> None:
        """Take over the next rows that finish. Raises ValueError if the downloader is closed instead."""
        rows = self.done.get()
        if rows is None:
            raise ValueError(CLOSED)
        self._add(rows)

    def _add(self, rows: list[tuple[int, Fetched]]) -> None:
        for number, row in rows:
            # Hashed here, because the event loop's thread has enough to do.
            self.waiting.add(number, row if row.body is None else replace(row, sha256=sha256(row.body)))


def _allow_many_files() -> None:
    """Raise this process's soft limit of open files: a walk over many hosts holds some thousands of idle sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
