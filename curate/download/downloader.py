"""Download many rows at once and return them in their own order, in flat memory.

One event loop and its connections last for the life of an actor. It runs in the caller's thread, while the caller
waits for its next row: so nothing is passed between threads, and a slow caller slows the download by itself. A row
that hangs holds back only the order, not the work: later rows go on, and what would fill the memory meanwhile waits
in a temporary file.
"""

from __future__ import annotations

import asyncio
import itertools
import resource
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from curate.download.buffer import BufferBudget, ReorderBuffer
from curate.download.fetched import Fetched, Wants, sha256
from curate.download.hosts import open_hosts
from curate.download.settings import DownloadSettings
from curate.extras import require

if TYPE_CHECKING:
    from curate.download.resize import ImageResizer
    from curate.download.transport import Transport

Row = tuple[str, str | None]

BATCH = 256
OPEN_FILES = 16384
CLOSED = "this Downloader is closed; make a new one"


class Downloader:
    """Fetches (uid, url) rows; connections and DNS answers live as long as it does. For one thread at a time.

    `scratch` is where temporary files go (the system's folder if None). What is not of the kind that the caller
    `wants` fails by name.
    """

    def __init__(self, settings: DownloadSettings, scratch: Path | None = None, wants: Wants = "image") -> None:
        self._settings = settings
        self._wants: Wants = wants
        self._scratch = scratch
        self._shard: _Shard | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        if settings.engine == "curate" or wants != "image":
            self._start()

    def __enter__(self) -> Downloader:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def fetch(self, rows: Iterable[Row]) -> Iterator[Fetched]:
        """Fetch rows: one Fetched a row, in the order of the rows, whatever their servers do; reads `rows` as it goes.

        Rows of several shards may be given as one: then one shard's last slow rows do not leave the rest idle.
        A new call abandons what an earlier one has not handed over. Raises ValueError once it is closed.
        """
        if self._settings.engine == "img2dataset" and self._wants == "image":
            require("download.engine img2dataset", "img2dataset")
            from curate.download.whole import fetch_with_img2dataset

            return fetch_with_img2dataset(rows, self._settings, self._scratch)
        return self._fetch(rows)

    def close(self) -> None:
        """Abandon what is under way and close the connections. May be called again."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        loop.run_until_complete(self._stop())
        loop.close()
        if self._resize_pool is not None:
            self._resize_pool.shutdown(cancel_futures=True)

    def _start(self) -> None:
        require("a download", "pycurl", "aiodns", "idna")
        self._resizer: ImageResizer | None = None
        self._resize_pool: ThreadPoolExecutor | None = None
        if self._settings.resize is not None and self._wants == "image":
            require("download.resize", "img2dataset")
            from curate.download.resize import ImageResizer

            self._resizer = ImageResizer(self._settings.resize)
            self._resize_pool = ThreadPoolExecutor(self._settings.resize_threads, "curate-resize")
        _allow_many_files()
        self._loop = asyncio.new_event_loop()
        self._budget = BufferBudget(self._settings.buffer_bytes)
        try:
            self._transport = self._loop.run_until_complete(self._connect())
        except OSError:
            self._loop.close()
            raise

    async def _connect(self) -> Transport:
        from curate.download.transport import Transport

        hosts = await open_hosts(self._settings.per_host, self._settings.host_failures)
        return Transport(self._settings, self._budget.room, hosts, self._wants)

    async def _stop(self) -> None:
        await self._abandon()
        await self._transport.close()

    async def _abandon(self) -> None:
        shard, self._shard = self._shard, None
        if shard is not None:
            for task in shard.tasks:
                task.cancel()
            await asyncio.gather(*shard.tasks, return_exceptions=True)
            shard.waiting.close()

    def _fetch(self, rows: Iterable[Row]) -> Iterator[Fetched]:
        if self._loop is None:
            raise ValueError(CLOSED)
        if self._shard is not None:
            self._loop.run_until_complete(self._abandon())
        shard = self._shard = _Shard(rows, self._settings.window, ReorderBuffer(self._budget, self._scratch))
        try:
            while (row := self._next(shard)) is not None:
                yield row
        finally:
            if self._loop is not None and self._shard is shard:  # a caller that stopped: nothing of it is held any more
                self._loop.run_until_complete(self._abandon())

    def _next(self, shard: _Shard) -> Fetched | None:
        """Start what there is room for, and run the loop until the next row in order is there; None at the end."""
        while True:
            if self._loop is None or self._shard is not shard:
                raise ValueError(CLOSED if self._loop is None else "a later call of fetch has taken over")
            batch = shard.next_batch()
            for number, (uid, url) in batch:
                task = self._loop.create_task(self._fetch_one(number, uid, url, shard))
                shard.tasks.add(task)
                task.add_done_callback(shard.tasks.discard)
            if shard.lack is not None:
                raise shard.lack
            if shard.head in shard.waiting:
                shard.head += 1
                return shard.waiting.take(shard.head - 1)
            if shard.exhausted and shard.head == shard.admitted:
                return None
            shard.waiting.spill()
            shard.wake = self._loop.create_future()
            if batch:  # there may be more to start: let these begin, and look
                self._loop.call_soon(shard.yield_to_consumer)
            self._loop.run_until_complete(shard.wake)

    async def _fetch_one(self, number: int, uid: str, url: str | None, shard: _Shard) -> None:
        try:
            row = await self._transport.fetch(uid, url)
            if self._resizer is not None and row.status == "success":
                self._budget.add(0, to_resize=1)
                try:
                    row = await asyncio.get_running_loop().run_in_executor(self._resize_pool, self._resizer, row)
                finally:
                    self._budget.add(0, to_resize=-1)
                if row.body is not None:
                    row = replace(row, sha256=sha256(row.body))
        except (OSError, MemoryError) as err:  # what a server does has a name: this is the machine's lack, no row's
            shard.stop(err)
            return
        except Exception as err:  # noqa: BLE001 - a fault of ours costs one row, not the shard, and is named
            row = Fetched(uid, url, "failed_to_download", "unexpected_error", f"{type(err).__name__}: {err}"[:500])
        shard.waiting.add(number, row)
        if number == shard.head or self._budget.is_full:
            shard.yield_to_consumer()


class _Shard:
    """One call of `fetch`: what is still to be read, what is under way, what waits to be handed over."""

    def __init__(self, rows: Iterable[Row], window: int, waiting: ReorderBuffer) -> None:
        self._source = enumerate(rows)
        self._window = window
        self.waiting = waiting
        self.tasks: set[asyncio.Task[None]] = set()
        self.wake: asyncio.Future[None] | None = None
        self.head = self.admitted = 0
        self.exhausted = False
        self.lack: OSError | MemoryError | None = None

    def next_batch(self) -> list[tuple[int, Row]]:
        """The next rows to start, at most as many as the window has room for; none while that is only a few."""
        room = min(BATCH, self._window - (self.admitted - self.head))
        if self.exhausted or room < min(BATCH, self._window) // 2 or room < 1:
            return []
        rows = list(itertools.islice(self._source, room))
        self.admitted += len(rows)
        self.exhausted = len(rows) < room
        return rows

    def stop(self, lack: OSError | MemoryError) -> None:
        """Tell the consumer what the machine lacks, in place of the next row."""
        self.lack = self.lack or lack
        self.yield_to_consumer()

    def yield_to_consumer(self) -> None:
        """Give the thread back to whoever waits for the next row, once, after what else is ready now."""
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)


def _allow_many_files() -> None:
    """Raise this process's soft limit of open files: a walk over many hosts holds some thousands of idle sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
