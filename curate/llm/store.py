"""Answers that were paid for, and the accounts of what was spent, in one SQLite file.

Both are changed in one transaction, so that no kill can part them: an answer that is kept is one that was counted. The
file is in write-ahead mode: the death of a process loses nothing that was committed; with `durable`, neither does the
loss of power. Any number of runs may share it.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from curate.lacks import MachineError
from curate.llm.chat import Answer
from curate.llm.settings import Budget

FILE = "answers.sqlite"
VERSION = 1
SPARE = "answers.spare"
BUSY_SECONDS = 60.0

FOUND_AT_ONCE = 500
_COLUMNS = "key, text, finish, model, input_tokens, output_tokens, nano_usd, seconds, at, max_tokens"

_TABLES = """
CREATE TABLE answers(key BLOB UNIQUE NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL, model TEXT NOT NULL,
    input_tokens INTEGER, output_tokens INTEGER, max_tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL,
    seconds REAL NOT NULL, at REAL NOT NULL);
CREATE TABLE accounts(name TEXT PRIMARY KEY, requests INTEGER NOT NULL DEFAULT 0, tokens INTEGER NOT NULL DEFAULT 0,
    nano_usd INTEGER NOT NULL DEFAULT 0, unsaid INTEGER NOT NULL DEFAULT 0, in_doubt INTEGER NOT NULL DEFAULT 0,
    held_requests INTEGER NOT NULL DEFAULT 0, held_tokens INTEGER NOT NULL DEFAULT 0,
    held_nano_usd INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE holds(id INTEGER PRIMARY KEY, account TEXT NOT NULL, tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL);
"""


class StoreError(MachineError):
    """A store of answers that cannot be used; the message says where, why and what to do."""


class Sum(NamedTuple):
    """An amount of requests, of tokens, and of billionths of a dollar."""

    requests: int
    tokens: int
    nano_usd: int


NOTHING = Sum(0, 0, 0)


class Hold(NamedTuple):
    """The most that a request on its way may cost, held by a number of its own."""

    id: int
    most: Sum


class Kept(NamedTuple):
    """An answer to keep, by its request's key."""

    key: bytes
    answer: Answer
    max_tokens: int


class Settled(NamedTuple):
    """A request that came to its end: what it cost, and its answer if it had one."""

    hold: Hold
    cost: Sum
    kept: Kept | None = None
    unsaid: bool = False
    in_doubt: bool = False


class Limits(NamedTuple):
    """The most that an account may come to; infinite where there is no bound."""

    requests: float = math.inf
    tokens: float = math.inf
    nano_usd: float = math.inf

    @staticmethod
    def of(budget: Budget) -> Limits:
        """The limits of a budget; dollars are rounded down to whole billionths."""
        tokens, requests = (math.inf if bound is None else bound for bound in (budget.tokens, budget.requests))
        return Limits(
            requests, tokens, math.inf if budget.usd is None else math.floor(Fraction(str(budget.usd)) * 10**9)
        )


@dataclass(frozen=True)
class Account:
    """The sums that were spent, and those that are held for requests on their way.

    `unsaid`: answers whose tokens the endpoint did not tell, counted at the most that they can have had. `in_doubt`:
    requests of which it is not known whether the endpoint counted them, since the run was killed or the connection
    broke: counted at the most as well.
    """

    spent: Sum
    held: Sum
    unsaid: int
    in_doubt: int


class AnswerStore:
    """The answers in a folder, made if it is not there. Raises StoreError, from every method.

    `spare_bytes` of the disk are laid by in a file of their own, for what is on its way when the disk is full.
    """

    def __init__(self, folder: Path, durable: bool = False, spare_bytes: int = 0) -> None:
        self.path, self._spare = folder / FILE, folder / SPARE
        with self._told():
            folder.mkdir(parents=True, exist_ok=True)
            if spare_bytes:
                self._lay_by(spare_bytes)
            self.db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                self._set_up(durable)
            except BaseException:
                self.db.close()
                raise

    def _set_up(self, durable: bool) -> None:
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        with self.transaction():
            self._make_tables()

    def use_spare(self) -> bool:
        """Free the room that was laid by, if it is there: what is on its way is to be kept on a full disk, too."""
        with self._told():
            was_there = self._spare.exists()
            self._spare.unlink(missing_ok=True)
            self.db.execute("PRAGMA wal_autocheckpoint = 0")  # it would take that room to copy what is kept already
        return was_there

    def find(self, key: bytes, max_tokens: int) -> Answer | None:
        """The answer of a request, if one is there that holds for `max_tokens`."""
        return self.find_all([(key, max_tokens)])[0]

    def find_all(self, asked: Sequence[tuple[bytes, int]]) -> list[Answer | None]:
        """The answers of requests, by key and `max_tokens`, where one is there that holds.

        One that ended by itself holds for every bound that it keeps; one that was cut holds for its own bound alone.
        """
        kept: dict[bytes, tuple[Answer, int]] = {}
        for start in range(0, len(asked), FOUND_AT_ONCE):
            keys = [key for key, _ in asked[start : start + FOUND_AT_ONCE]]
            places = ",".join("?" * len(keys))
            with self._told():
                rows = self.db.execute(f"SELECT {_COLUMNS} FROM answers WHERE key IN ({places})", keys).fetchall()
            for key, text, finish, model, sent, got, nano_usd, seconds, at, bound in rows:
                kept[key] = Answer(text, finish, model, sent, got, nano_usd, seconds, at, cached=True), bound
        return [_holds(*kept[key], max_tokens) if key in kept else None for key, max_tokens in asked]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes within it together or none."""
        with self._told():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self.db.in_transaction:  # a full disk has ended it already
                    self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    def hold(self, account: str, holds: Sequence[Hold], limits: Limits) -> bool:
        """Hold the most that requests may cost before they are sent: all of it, or nothing if a limit would be passed.

        Within a transaction, as `settle`.
        """
        if not self.reserve(account, total(hold.most for hold in holds), limits):
            return False
        rows = [(hold.id, account, hold.most.tokens, hold.most.nano_usd) for hold in holds]
        self.db.executemany("INSERT INTO holds VALUES (?, ?, ?, ?)", rows)
        return True

    def reserve(self, account: str, most: Sum, limits: Limits) -> bool:
        """Hold an amount in an account, if no limit is passed by it. Within a transaction."""
        changed = self.db.execute(
            "UPDATE accounts SET held_requests = held_requests + ?, held_tokens = held_tokens + ?,"
            " held_nano_usd = held_nano_usd + ? WHERE name = ? AND requests + held_requests + ? <= ?"
            " AND tokens + held_tokens + ? <= ? AND nano_usd + held_nano_usd + ? <= ?",
            (*most, account, *itertools.chain.from_iterable(zip(most, limits, strict=True))),
        )
        return bool(changed.rowcount)

    def settle(self, account: str, settled: Sequence[Settled]) -> None:
        """Put what requests cost in place of what was held for them, and keep the answers."""
        self.db.executemany("DELETE FROM holds WHERE id = ?", [(one.hold.id,) for one in settled])
        cost, held = total(one.cost for one in settled), total(one.hold.most for one in settled)
        unsaid, in_doubt = sum(one.unsaid for one in settled), sum(one.in_doubt for one in settled)
        self.charge(account, held, cost, unsaid, in_doubt)
        self.keep([one.kept for one in settled if one.kept is not None])

    def charge(self, account: str, held: Sum, cost: Sum, unsaid: int = 0, in_doubt: int = 0) -> None:
        """Put a cost in place of what was held. Within a transaction."""
        self.db.execute(
            "UPDATE accounts SET requests = requests + ?, tokens = tokens + ?, nano_usd = nano_usd + ?,"
            " unsaid = unsaid + ?, in_doubt = in_doubt + ?, held_requests = held_requests - ?,"
            " held_tokens = held_tokens - ?, held_nano_usd = held_nano_usd - ? WHERE name = ?",
            (*cost, unsaid, in_doubt, *held, account),
        )

    def keep(self, kept: Sequence[Kept]) -> None:
        """Keep answers. Within a transaction."""
        self.db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_row, kept))

    def open_account(self, name: str) -> Account:
        """Open an account, alone: what a killed run had on its way is spent now, at the most that it can have cost."""
        with self.transaction():
            self.db.execute("INSERT OR IGNORE INTO accounts(name) VALUES (?)", (name,))
            left = self.db.execute("SELECT id, tokens, nano_usd FROM holds WHERE account = ?", (name,)).fetchall()
            holds = [Hold(number, Sum(1, tokens, nano_usd)) for number, tokens, nano_usd in left]
            self.settle(name, [Settled(hold, hold.most, in_doubt=True) for hold in holds])
        return self.account(name)

    def account(self, name: str) -> Account:
        """The account's sums."""
        with self._told():
            row = self.db.execute(
                "SELECT requests, tokens, nano_usd, held_requests, held_tokens, held_nano_usd, unsaid, in_doubt"
                " FROM accounts WHERE name = ?",
                (name,),
            ).fetchone()
        return Account(Sum(*row[:3]), Sum(*row[3:6]), row[6], row[7])

    def close(self) -> None:
        """Let go of the file."""
        with self._told():
            self.db.close()

    def _lay_by(self, size: int) -> None:
        if self._spare.exists() and self._spare.stat().st_size >= size:
            return
        try:
            with self._spare.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            self._spare.unlink(missing_ok=True)
            raise

    def _make_tables(self) -> None:
        ((found,),) = self.db.execute("PRAGMA user_version").fetchall()
        if found not in (0, VERSION):
            raise StoreError(
                f"{self.path}: version {found} of the answers' file; this curate reads version {VERSION}. Use the"
                " version that made it, or name another folder as `cache`"
            )
        if found == 0:
            for statement in _TABLES.split(";"):
                self.db.execute(statement)
            self.db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as err:
            raise StoreError(f"{self.path}: {_told(err)}") from err


def _told(err: Exception) -> str:
    code = getattr(err, "sqlite_errorcode", None)
    code = code & 0xFF if code is not None else None
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"locked by another process for {BUSY_SECONDS:.0f} s; end that one, or name another folder as `cache`"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return (
            f"damaged ({err}); nothing was changed. `sqlite3 FILE .recover` may save its answers; else name another"
            " folder as `cache`"
        )
    if code == sqlite3.SQLITE_FULL or getattr(err, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return f"no room to keep answers ({err}): make room, then run again; what was kept is there"
    if isinstance(err, (FileExistsError, NotADirectoryError)):
        return "its folder is a file: name another folder as `cache`"
    return f"{err}. Nothing that was kept is lost: mend that, then run the same command to go on"


def _row(kept: Kept) -> tuple[object, ...]:
    key, a, max_tokens = kept
    return key, a.text, a.finish, a.model, a.input_tokens, a.output_tokens, max_tokens, a.nano_usd, a.seconds, a.at


def _holds(answer: Answer, bound: int, max_tokens: int) -> Answer | None:
    is_whole = answer.finish != "length" and (answer.output_tokens or bound) <= max_tokens
    return answer if is_whole or bound == max_tokens else None


def total(amounts: Iterable[Sum]) -> Sum:
    """The sum of amounts."""
    columns = list(zip(*amounts, strict=True))
    return Sum(*(sum(column) for column in columns)) if columns else NOTHING
