"""Ask an endpoint, in turn and within the budget, until it answers or what ails it has a name."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import Sequence

from curate.llm.chat import Answer, Failure, Prepared
from curate.llm.ledger import Ledger, most_of
from curate.llm.outcomes import Again, Answered, AtFault, EndpointError, Ends, Outcome, TooFast
from curate.llm.pace import Pace, Turn
from curate.llm.prices import PicoPrice
from curate.llm.settings import Endpoint
from curate.llm.store import NOTHING, Hold, Kept, Settled, Sum
from curate.llm.transport import UNREACHED, Sender

REFUSED_AT_FIRST = 20
"""So many requests that are refused before any is answered are the recipe's fault, not theirs."""

FIRST_CONTACT_S = 30.0
"""What cannot be talked to, and never could, is waited for so long and not for all of `patience_s`."""

_NO_TALK = (UNREACHED, "connection_broken", "malformed_answer", "endpoint_timeout")

_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 60.0


class Gateway:
    """The one way to an endpoint, for the running event loop. `async with` opens and closes its connections.

    The same request is sent once, however many ask for it at the same time. What ends the run is raised by every
    request from then on, and nothing more is sent.
    """

    def __init__(self, endpoint: Endpoint, ledger: Ledger, price: PicoPrice) -> None:
        self._endpoint, self._ledger, self._price = endpoint, ledger, price
        self._transport = Sender(endpoint)
        self._pace = Pace(endpoint.requests_per_minute, endpoint.tokens_per_minute, endpoint.concurrency)
        self._loop = asyncio.get_running_loop()
        self._asked: dict[tuple[bytes, int], asyncio.Future[Answer | Failure]] = {}
        self._numbers = itertools.count(secrets.randbits(62))
        self._end: Exception | None = None
        self._answered_at: float | None = None
        self._silent_since: float | None = None
        self._refused, self._spoke = 0, False

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._transport.close()
        self._ledger.close()

    def find(self, asked: Sequence[tuple[bytes, int]]) -> list[Answer | None]:
        """The answers that were paid for already, by key and `max_tokens`, where there are any. Raises StoreError."""
        return self._ledger.find(asked)

    async def ask(self, request: Prepared) -> Answer | Failure:
        """Ask for an answer that is not kept: the answer, or the request's own fault.

        Raises EndpointError, BudgetError, StoreError: they end the run.
        """
        name = (request.key, request.max_tokens)
        if (asked := self._asked.get(name)) is not None:
            return await asyncio.shield(asked)
        told = self._asked[name] = self._loop.create_future()
        try:
            found = await self._answer(request)
        except BaseException as err:
            told.set_exception(err)
            told.exception()  # it is told here; others may or may not wait for it
            raise
        else:
            told.set_result(found)
        finally:
            del self._asked[name]
        return found

    async def _answer(self, request: Prepared) -> Answer | Failure:
        """Try until it is answered, fails by its own fault, or nothing can be answered."""
        faults, failures, since = 0, 0, self._loop.time()
        while True:
            outcome = await self._try(request)
            if isinstance(outcome, Answered):
                return outcome.answer
            if isinstance(outcome, AtFault):
                return outcome.failure
            if isinstance(outcome, Again):
                faults += self._is_own_fault(outcome, since)
                if faults == self._endpoint.tries:
                    return outcome.failure
                failures, since = failures + 1, self._loop.time()
                await asyncio.sleep(_backoff(failures) if outcome.wait_s is None else outcome.wait_s)

    async def _try(self, request: Prepared) -> Outcome:
        """Send the request once, in its turn, and account for it."""
        turn = await self._pace.turn(self._expected_tokens(request))
        tokens = None
        try:
            if self._end is not None:
                raise self._end
            hold = Hold(next(self._numbers), most_of(request, self._endpoint, self._price))
            await self._ledger.hold(hold)
            outcome, settled = await self._send(request, hold)
            await settled
            self._learn(outcome, turn)
            tokens = outcome.usage.sum if isinstance(outcome, Answered) and outcome.usage else None
            return outcome
        except Exception as err:
            self._end = self._end or err  # before the next one has its turn
            raise
        finally:
            self._pace.done(turn, tokens)

    async def _send(self, request: Prepared, hold: Hold) -> tuple[Outcome, asyncio.Future[None]]:
        """What came of it, and when that is kept. Whatever comes, what was held for it is settled."""
        settled, sent = Settled(hold, hold.most, in_doubt=True), self._loop.time()  # in doubt unless we learn more
        try:
            outcome = await self._transport.post(request.body)
            settled = self._settled(hold, outcome)
            if isinstance(outcome, Answered):
                answer = outcome.paid(settled.cost.nano_usd, self._loop.time() - sent)
                settled = settled._replace(kept=Kept(request.key, answer, request.max_tokens))
                outcome = Answered(answer, outcome.usage)
            return outcome, self._ledger.settle(settled)
        except BaseException:
            self._ledger.settle(settled)
            raise

    def _expected_tokens(self, request: Prepared) -> int:
        """Tokens for the pace; corrected when the endpoint has said them."""
        return request.likely_input(self._endpoint.picture_tokens) + request.max_tokens

    def _settled(self, hold: Hold, outcome: Outcome) -> Settled:
        """A request's cost, by the endpoint's own count where it gave one."""
        if isinstance(outcome, Again) and outcome.in_doubt:
            return Settled(hold, hold.most, in_doubt=True)
        if isinstance(outcome, Again) and outcome.failure.error == UNREACHED:
            return Settled(hold, NOTHING)
        usage = outcome.usage if isinstance(outcome, (Answered, AtFault)) else None
        if usage is not None:
            return Settled(hold, Sum(1, usage.input + usage.output, self._price.of(*usage)))
        if isinstance(outcome, Answered):
            return Settled(hold, hold.most, unsaid=True)
        return Settled(hold, Sum(1, 0, 0))

    def _learn(self, outcome: Outcome, turn: Turn) -> None:
        """Remember how the endpoint does. Raises EndpointError where there is no use in asking it any more."""
        now = self._loop.time()
        if isinstance(outcome, Ends):
            raise outcome.error
        if isinstance(outcome, TooFast):
            self._check_pause(outcome)
            self._pace.slow_down(turn, outcome.wait_s)
        if isinstance(outcome, (TooFast, Again)):
            self._silent_since = now if self._silent_since is None else self._silent_since
            said = (
                outcome.said if isinstance(outcome, TooFast) else f"{outcome.failure.error}, {outcome.failure.detail}"
            )
            self._check_contact(now - self._silent_since, outcome)
            self._check_patience(now - self._silent_since, said)
        elif isinstance(outcome, (Answered, AtFault)):
            self._silent_since, self._spoke = None, True
            self._pace.grow()
        if isinstance(outcome, Answered):
            self._answered_at = now
        elif isinstance(outcome, AtFault) and outcome.usage is None and self._answered_at is None:
            self._refused += 1
            self._check_refused(outcome.failure)

    def _is_own_fault(self, outcome: Again, since: float) -> bool:
        """Whether it failed while others were answered, or where it is the last one: else the endpoint is at fault."""
        if self._answered_at is None or outcome.failure.error == UNREACHED:
            return False
        return self._answered_at >= since or len(self._asked) == 1

    def _check_pause(self, outcome: TooFast) -> None:
        if outcome.wait_s is not None and outcome.wait_s > self._endpoint.patience_s:
            raise EndpointError(
                f"{self._endpoint.url} wants to be left alone for {outcome.wait_s:.0f} s ({outcome.said}), longer than"
                f" patience_s: {self._endpoint.patience_s:g}. Run the same command then, or raise patience_s"
            )

    def _check_contact(self, silent_s: float, outcome: TooFast | Again) -> None:
        if isinstance(outcome, TooFast) or outcome.failure.error not in _NO_TALK:
            self._spoke = True
        elif not self._spoke and silent_s > min(FIRST_CONTACT_S, self._endpoint.patience_s):
            raise EndpointError(
                f"nothing that can be talked to is at {self._endpoint.url} ({outcome.failure.error},"
                f" {outcome.failure.detail}): start it, or correct `url`"
            )

    def _check_patience(self, silent_s: float, said: str) -> None:
        if silent_s > self._endpoint.patience_s:
            raise EndpointError(
                f"{self._endpoint.url} has answered nothing for {silent_s:.0f} s, longer than patience_s:"
                f" {self._endpoint.patience_s:g} (last: {said}). All answers are kept: run the same command to go on"
            )

    def _check_refused(self, failure: Failure) -> None:
        if self._refused >= REFUSED_AT_FIRST:
            raise EndpointError(
                f"{self._endpoint.url} refused the first {self._refused} requests, the last as {failure.error}"
                f" ({failure.detail}): correct what the recipe asks for"
            )


def _backoff(tries: int) -> float:
    """A pause that doubles, with a jitter so that those that failed together do not come again together."""
    return min(_LONGEST_BACKOFF_S, _BACKOFF_S * 2.0 ** (tries - 1)) * random.uniform(0.5, 1)
