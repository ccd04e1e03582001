"""Turns at an endpoint: so many requests and tokens a minute, so many at once as it bears, quiet where it asks."""

from __future__ import annotations

import asyncio
import random
from collections import deque

SPAN_S = 60.5
"""A minute, and the half second by which requests may be nearer to each other when they arrive than when they left."""

FIRST_AT_ONCE = 4
LONGEST_PAUSE_S = 60.0


class Window:
    """Amounts of the last minute, that they never come to more than `limit`."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._entries: deque[Taken] = deque()
        self._total = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Seconds until there is room for `amount`; for one beyond the limit, until nothing else is there."""
        while self._entries and self._entries[0].at <= now - SPAN_S:
            self._total -= self._entries.popleft().amount
        over = self._total + min(amount, self.limit) - self.limit
        for entry in self._entries:
            if over <= 0:
                break
            over -= entry.amount
            wait = entry.at + SPAN_S - now
            if over <= 0:
                return wait
        return 0.0

    def take(self, amount: float, now: float) -> Taken:
        """Count an amount."""
        entry = Taken(now, amount)
        self._entries.append(entry)
        self._total += amount
        return entry

    def correct(self, entry: Taken, amount: float) -> None:
        """Put what was used in place of what was thought."""
        if self._entries and entry.at >= self._entries[0].at:
            self._total += amount - entry.amount
        entry.amount = amount


class Taken:
    """An amount that was taken at a time."""

    __slots__ = ("amount", "at")

    def __init__(self, at: float, amount: float) -> None:
        self.at, self.amount = at, amount


class Turn:
    """A request's turn, until it is done."""

    __slots__ = ("at", "tokens")

    def __init__(self, at: float, tokens: Taken | None) -> None:
        self.at, self.tokens = at, tokens


class Pace:
    """Turns for the running event loop, first come first served.

    `at_once` requests are on their way at most: one more after each answer until the endpoint first says that it is too
    much, from then on one more a round; halved each time it says so.
    """

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None, at_once: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._requests = Window(requests_per_minute) if requests_per_minute else None
        self._tokens = Window(tokens_per_minute) if tokens_per_minute else None
        self._most, self.at_once = at_once, float(min(at_once, FIRST_AT_ONCE))
        self._apart_s = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next_at = self._quiet_until = self._halved_at = 0.0
        self._grows_fast, self._slowed = True, 0
        self.on_their_way = 0
        self._waiting: deque[tuple[int, asyncio.Future[Turn]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, tokens: int) -> Turn:
        """Wait until a request of about so many tokens may be sent."""
        if not self._waiting and self.on_their_way < int(self.at_once):
            now = self._loop.time()
            if self._wait(tokens, now) <= 0:
                return self._take(tokens, now)
        granted: asyncio.Future[Turn] = self._loop.create_future()
        self._waiting.append((tokens, granted))
        self._serve()
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.done(granted.result())
            raise

    def done(self, turn: Turn, tokens: int | None = None) -> None:
        """Give a turn back; `tokens`: how many it took, where that is known."""
        self.on_their_way -= 1
        if self._tokens is not None and turn.tokens is not None and tokens is not None:
            self._tokens.correct(turn.tokens, tokens)
        self._serve()

    def grow(self) -> None:
        """An answer came: the endpoint bears what it is given."""
        self._slowed = 0
        self.at_once = min(self._most, self.at_once + (1 if self._grows_fast else 1 / self.at_once))

    def slow_down(self, turn: Turn, wait_s: float | None) -> None:
        """The endpoint said that it was too much: nothing is sent for `wait_s`, or for a growing while."""
        if turn.at >= self._halved_at:  # requests that left before the last halving say nothing new
            self.at_once, self._halved_at = max(1.0, self.at_once / 2), self._loop.time()
            self._grows_fast = False
            self._slowed += 1
        if wait_s is None:
            wait_s = min(LONGEST_PAUSE_S, 2.0 ** (self._slowed - 1)) * random.uniform(0.5, 1)
        self._quiet_until = max(self._quiet_until, self._loop.time() + wait_s)

    def _serve(self) -> None:
        while self._waiting:
            tokens, granted = self._waiting[0]
            if not granted.done():
                if self.on_their_way >= int(self.at_once):
                    return
                now = self._loop.time()
                if (wait := self._wait(tokens, now)) > 0:
                    self._serve_later(now + wait)
                    return
                granted.set_result(self._take(tokens, now))
            self._waiting.popleft()

    def _wait(self, tokens: int, now: float) -> float:
        waits = [self._quiet_until - now, self._next_at - now]
        if self._requests is not None:
            waits.append(self._requests.wait(1, now))
        if self._tokens is not None:
            waits.append(self._tokens.wait(tokens, now))
        return max(waits)

    def _take(self, tokens: int, now: float) -> Turn:
        self.on_their_way += 1
        # A second's worth may go at once: timers are late, and what they lose shall not be lost for ever.
        self._next_at = max(self._next_at + self._apart_s, now - 1.0)
        if self._requests is not None:
            self._requests.take(1, now)
        return Turn(now, self._tokens.take(tokens, now) if self._tokens is not None else None)

    def _serve_later(self, at: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._timer_rang)

    def _timer_rang(self) -> None:
        self._timer = None
        self._serve()
