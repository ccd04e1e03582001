"""Account for requests in groups: what is asked for within a moment is written in one transaction."""

from __future__ import annotations

import asyncio

from curate.lacks import MachineError
from curate.llm.chat import Prepared
from curate.llm.prices import PicoPrice
from curate.llm.settings import Endpoint
from curate.llm.store import Account, AnswerStore, Hold, Limits, Settled, StoreError, Sum

MOMENT_S = 0.005
"""How long a change may wait for others to be written with: a commit costs ten times as much as a row."""


def most_of(request: Prepared, endpoint: Endpoint, price: PicoPrice) -> Sum:
    """The most that a request may cost: what is held for it until it is over."""
    tokens = request.most_input(endpoint.picture_tokens)
    return Sum(1, tokens + request.max_tokens, price.of(tokens, request.max_tokens))


class BudgetError(MachineError):
    """The budget is spent; it ends the run, and no sample is failed for it."""

    @staticmethod
    def of(spent: Sum) -> BudgetError:
        """The error with what was spent, and what to do."""
        return BudgetError(
            f"the budget is spent: {spent.requests} requests, {spent.tokens} tokens and"
            f" {spent.nano_usd / 1e9:.4f} dollars, and the next request might pass it. All answers are kept: raise"
            " `budget`, then run the same command to go on"
        )


class Ledger:
    """One account in a store, for the running event loop: held before a request is sent, settled when it is over."""

    def __init__(self, store: AnswerStore, account: str, limits: Limits) -> None:
        self._store, self._name, self._limits = store, account, limits
        self._loop = asyncio.get_running_loop()
        self._to_hold: list[tuple[Hold, asyncio.Future[None]]] = []
        self._to_settle: list[tuple[Settled, asyncio.Future[None]]] = []
        self._held = 0
        self._full: StoreError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.find = store.find_all
        store.open_account(account)

    async def hold(self, hold: Hold) -> None:
        """Hold the most that a request may cost; where the budget is too small, wait for what others give back.

        Raises BudgetError where there are no others, StoreError.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        self._to_hold.append((hold, done))
        self._write_soon()
        await done

    def settle(self, settled: Settled) -> asyncio.Future[None]:
        """Put a request's cost in place of what was held, with its answer; done when both are kept."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._to_settle.append((settled, done))
        self._write_soon()
        return done

    def account(self) -> Account:
        """The sums that were spent and are held."""
        return self._store.account(self._name)

    def close(self) -> None:
        """Write what is left to write, and close the store."""
        if self._timer is not None:
            self._timer.cancel()
        self._write()
        self._store.close()

    def _write_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(MOMENT_S, self._write)

    def _write(self) -> None:
        self._timer = None
        settled, self._to_settle = self._to_settle, []
        to_hold, self._to_hold = [(h, f) for h, f in self._to_hold if not f.done()], []
        try:
            held = self._write_both([one for one, _ in settled], to_hold)
        except StoreError as err:
            _finish([future for _, future in (*settled, *to_hold)], err)
            return
        _finish([future for _, future in settled])
        if self._full is not None:
            _finish([future for _, future in to_hold], self._full)
            return
        _finish([future for _, future in to_hold[:held]])
        self._held += held
        left = to_hold[held:]
        if left and not self._held:
            _finish([future for _, future in left], BudgetError.of(self.account().spent))
        else:
            self._to_hold = left + self._to_hold  # first come first served, when the next is settled

    def _write_both(self, settled: list[Settled], to_hold: list[tuple[Hold, asyncio.Future[None]]]) -> int:
        """Settle and hold in one transaction, and tell how many are held: all, or the first that the budget allows.

        On a full disk what is to be settled is, by the room that was laid by, and nothing more is held.
        """
        try:
            with self._store.transaction():
                self._store.settle(self._name, settled)
                is_held = self._full is None and self._store.hold(
                    self._name, [hold for hold, _ in to_hold], self._limits
                )
        except StoreError as err:
            if self._full is not None or not self._store.use_spare():
                raise
            self._full, is_held = err, False
            with self._store.transaction():
                self._store.settle(self._name, settled)
        self._held -= len(settled)
        if is_held or self._full is not None:
            return len(to_hold) if is_held else 0
        return self._hold_what_fits(to_hold)

    def _hold_what_fits(self, to_hold: list[tuple[Hold, asyncio.Future[None]]]) -> int:
        """Hold the first of these that the budget allows, and tell how many."""
        holds = [hold for hold, _ in to_hold]
        with self._store.transaction():
            for number, hold in enumerate(holds):
                if not self._store.hold(self._name, [hold], self._limits):
                    return number
        return len(holds)


def _finish(futures: list[asyncio.Future[None]], error: Exception | None = None) -> None:
    for future in futures:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
