"""The batches that are on their way, written down beside the answers: no kill can lose one, nor send it twice.

A batch is planned before anything of it is sent: its name, its requests, and the most that they may cost, all held in
one transaction. Its answers are kept, and each request's cost put in place of what was held, in transactions too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from curate.llm.store import AnswerStore, Kept, Limits, Sum

_TABLES = """
CREATE TABLE IF NOT EXISTS batches(name TEXT PRIMARY KEY, account TEXT NOT NULL, planned_at REAL NOT NULL,
    batch_id TEXT);
CREATE TABLE IF NOT EXISTS batch_requests(batch TEXT NOT NULL, number INTEGER NOT NULL, key BLOB NOT NULL,
    max_tokens INTEGER NOT NULL, tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL, PRIMARY KEY(batch, number))
    WITHOUT ROWID;
"""


class AskedInBatch(NamedTuple):
    """A request in a batch: which it is, and the most that it may cost."""

    key: bytes
    max_tokens: int
    most: Sum


class Planned(NamedTuple):
    """A batch on its way; without `batch_id` it is not known whether it was submitted."""

    name: str
    planned_at: float
    batch_id: str | None


class Ended(NamedTuple):
    """A request of a batch that came to its end: what it cost, and its answer if it had one."""

    number: int
    cost: Sum
    kept: Kept | None = None
    unsaid: bool = False


class BatchBook:
    """The batches of an account in a store of answers. Raises StoreError, from every method."""

    def __init__(self, store: AnswerStore, account: str) -> None:
        self._store, self._account = store, account
        with store.transaction():
            for statement in _TABLES.split(";"):
                store.db.execute(statement)

    def plan(self, name: str, asked: Sequence[AskedInBatch], limits: Limits) -> bool:
        """Write a batch down and hold the most that it may cost: all, or nothing where a limit would be passed."""
        most = Sum(*(sum(part) for part in zip(*(one.most for one in asked), strict=True)))
        with self._store.transaction():
            if not self._store.reserve(self._account, most, limits):
                return False
            row = (name, self._account, time.time())
            self._store.db.execute("INSERT INTO batches VALUES (?, ?, ?, NULL)", row)
            rows = ((name, n, a.key, a.max_tokens, a.most.tokens, a.most.nano_usd) for n, a in enumerate(asked))
            self._store.db.executemany("INSERT INTO batch_requests VALUES (?, ?, ?, ?, ?, ?)", rows)
        return True

    def submitted(self, name: str, batch_id: str) -> None:
        """Write down that a batch is at the endpoint, and by which name there."""
        with self._store.transaction():
            self._store.db.execute("UPDATE batches SET batch_id = ? WHERE name = ?", (batch_id, name))

    def open(self) -> list[Planned]:
        """The batches that are on their way, the oldest first."""
        with self._store.transaction():
            rows = self._store.db.execute(
                "SELECT name, planned_at, batch_id FROM batches WHERE account = ? ORDER BY planned_at, name",
                (self._account,),
            ).fetchall()
        return [Planned(*row) for row in rows]

    def requests(self, name: str) -> dict[int, AskedInBatch]:
        """The requests of a batch that have not ended, by their numbers in it."""
        with self._store.transaction():
            rows = self._store.db.execute(
                "SELECT number, key, max_tokens, tokens, nano_usd FROM batch_requests WHERE batch = ?", (name,)
            ).fetchall()
        return {number: AskedInBatch(key, bound, Sum(1, tokens, usd)) for number, key, bound, tokens, usd in rows}

    def end(self, planned: Planned, asked: Mapping[int, AskedInBatch], ended: Sequence[Ended]) -> None:
        """Keep what came of some of a batch's requests, and what it cost, once however often it is said."""
        with self._store.transaction():
            for one in ended:
                gone = self._store.db.execute(
                    "DELETE FROM batch_requests WHERE batch = ? AND number = ?", (planned.name, one.number)
                )
                if gone.rowcount:
                    self._store.charge(self._account, asked[one.number].most, one.cost, one.unsaid)
                    self._store.keep([one.kept] if one.kept is not None else [])

    def close(self, planned: Planned) -> None:
        """Forget a batch; what was held for requests of it that did not end is free again."""
        left = self.requests(planned.name)
        self.end(planned, left, [Ended(number, Sum(0, 0, 0)) for number in left])
        with self._store.transaction():
            self._store.db.execute("DELETE FROM batches WHERE name = ?", (planned.name,))
