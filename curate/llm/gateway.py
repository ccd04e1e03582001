"""Ask an endpoint: from the store where it was asked before, else in turn, within the budget, as often as it takes."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from curate.extras import require
from curate.llm.chat import Answer, ChatRequest, Failure
from curate.llm.ledger import Ledger
from curate.llm.outcomes import Again, Answered, EndpointError, Ends, Failed, Outcome, TooFast, judge
from curate.llm.pace import Pace, Turn
from curate.llm.prices import NanoPrice
from curate.llm.settings import Endpoint
from curate.llm.store import NOTHING, Hold, Kept, Settled, Sum

if TYPE_CHECKING:
    import aiohttp

MOST_BYTES = 16 << 20
"""The longest reply that is read."""

UNREACHED = "connection_failed"
"""A request that never reached the endpoint: no request's own fault, and counted by nobody."""

REFUSED_AT_FIRST = 20
"""So many requests that are refused before any is answered are the recipe's fault, not theirs."""

_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 60.0


class Gateway:
    """The one way to an endpoint, for the running event loop. `async with` opens and closes its connections.

    The same request is sent once, however many ask for it at the same time. What ends the run is raised by every
    request from then on, and nothing more is sent.
    """

    def __init__(self, endpoint: Endpoint, ledger: Ledger, price: NanoPrice) -> None:
        require("a chat model", "aiohttp")
        self._endpoint, self._ledger, self._price = endpoint, ledger, price
        self._key = key_of(endpoint)
        self._pace = Pace(endpoint.requests_per_minute, endpoint.tokens_per_minute, endpoint.concurrency)
        self._loop = asyncio.get_running_loop()
        self._asked: dict[tuple[bytes, int], asyncio.Task[Answer | Failure]] = {}
        self._numbers = itertools.count(secrets.randbits(62))
        self._end: Exception | None = None
        self._answered_at: float | None = None
        self._silent_since: float | None = None
        self._refused = 0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Gateway:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the pace bounds them
            timeout=aiohttp.ClientTimeout(total=self._endpoint.timeout_s),
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
            trust_env=True,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        assert self._session is not None
        await self._session.close()
        self._ledger.close()

    async def ask(self, request: ChatRequest) -> Answer | Failure:
        """The answer, or the request's own fault. Raises EndpointError, BudgetError, StoreError: they end the run."""
        key = request.key(self._endpoint.url, self._endpoint.model)
        if (known := self._ledger.find(key, request.max_tokens)) is not None:
            return known
        if self._end is not None:
            raise self._end
        name = (key, request.max_tokens)
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = self._loop.create_task(self._answer(key, request))
            task.add_done_callback(lambda _: self._asked.pop(name, None))
        return await asyncio.shield(task)

    async def _answer(self, key: bytes, request: ChatRequest) -> Answer | Failure:
        """Try until it is answered, fails by its own fault, or nothing can be answered."""
        body = json.dumps(request.body(self._endpoint.model, self._endpoint.max_tokens_as)).encode()
        faults, failures, since = 0, 0, self._loop.time()
        while True:
            outcome = await self._try(key, request, body)
            if isinstance(outcome, Answered):
                return outcome.answer
            if isinstance(outcome, Failed):
                return outcome.failure
            if isinstance(outcome, Again):
                faults += self._is_own_fault(outcome, since)
                if faults == self._endpoint.tries:
                    return outcome.failure
                failures, since = failures + 1, self._loop.time()
                await asyncio.sleep(_backoff(failures) if outcome.wait_s is None else outcome.wait_s)

    async def _try(self, key: bytes, request: ChatRequest, body: bytes) -> Outcome:
        """Send the request once, in its turn, and account for it."""
        turn = await self._pace.turn(self._expected_tokens(request))
        settled = None
        try:
            if self._end is not None:
                raise self._end
            hold = Hold(next(self._numbers), self._most(request))
            await self._ledger.hold(hold)
            settled = Settled(hold, hold.most, in_doubt=True)  # unless we learn more
            try:
                outcome = await self._post(body)
                settled = self._settled(hold, outcome)
                if isinstance(outcome, Answered):
                    outcome = self._with_cost(outcome, settled.cost)
                    settled = settled._replace(kept=Kept(key, outcome.answer, request.max_tokens))
            finally:
                is_kept = self._ledger.settle(settled)
            await is_kept
            self._learn(outcome, turn)
            return outcome
        except Exception as err:
            self._end = self._end or err  # before the next one has its turn
            raise
        finally:
            known = settled is not None and not settled.in_doubt
            self._pace.done(turn, settled.cost.tokens if settled is not None and known else None)

    async def _post(self, body: bytes) -> Outcome:
        import aiohttp

        assert self._session is not None
        url, sent = f"{self._endpoint.url}/chat/completions", self._loop.time()
        try:
            async with self._session.post(url, data=body, allow_redirects=False) as reply:
                said = self._without_key(await _read(reply))
        except TimeoutError:
            return Again(Failure("timeout", f"no answer within {self._endpoint.timeout_s:g} s"), in_doubt=True)
        except aiohttp.ClientConnectorError as err:
            return Again(Failure(UNREACHED, f"{self._endpoint.url}: {err}"))
        except (aiohttp.ClientError, OSError) as err:
            failure = Failure("connection_broken", f"{self._endpoint.url}: {err or type(err).__name__}")
            return Again(failure, in_doubt=True)
        outcome = judge(self._endpoint, reply.status, {name.lower(): v for name, v in reply.headers.items()}, said)
        if isinstance(outcome, Answered):
            seconds = round(self._loop.time() - sent, 3)
            outcome = replace(outcome, answer=replace(outcome.answer, seconds=seconds))
        return outcome

    def _without_key(self, said: bytes) -> bytes:
        """A reply in which no key stands: some endpoints, and models, say it again."""
        return said.replace(self._key.encode(), f"[{self._endpoint.key}]".encode()) if self._key else said

    def _most(self, request: ChatRequest) -> Sum:
        tokens = request.text_bytes + request.pictures * self._endpoint.picture_tokens
        return Sum(1, tokens + request.max_tokens, self._price.of(tokens, request.max_tokens))

    def _expected_tokens(self, request: ChatRequest) -> int:
        """Tokens for the pace: a text's are about a third of its bytes; corrected when the endpoint has said them."""
        return request.text_bytes // 3 + request.pictures * self._endpoint.picture_tokens + request.max_tokens

    def _settled(self, hold: Hold, outcome: Outcome) -> Settled:
        """A request's cost, by the endpoint's own count where it gave one."""
        if isinstance(outcome, Again) and outcome.in_doubt:
            return Settled(hold, hold.most, in_doubt=True)
        if isinstance(outcome, Again) and outcome.failure.error == UNREACHED:
            return Settled(hold, NOTHING)
        usage = outcome.usage if isinstance(outcome, (Answered, Failed)) else None
        if usage is not None:
            return Settled(hold, Sum(1, usage.input + usage.output, self._price.of(*usage)))
        if isinstance(outcome, Answered):
            return Settled(hold, hold.most, unsaid=True)
        return Settled(hold, Sum(1, 0, 0))

    def _with_cost(self, outcome: Answered, cost: Sum) -> Answered:
        return replace(outcome, answer=replace(outcome.answer, nano_usd=cost.nano_usd))

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
            self._check_patience(now - self._silent_since, said)
        elif isinstance(outcome, (Answered, Failed)):
            self._silent_since = None
            self._pace.grow()
        if isinstance(outcome, Answered):
            self._answered_at = now
        elif isinstance(outcome, Failed) and outcome.usage is None and self._answered_at is None:
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


def key_of(endpoint: Endpoint, environment: Mapping[str, str] = os.environ) -> str | None:
    """The endpoint's key from the environment. Raises EndpointError where there is none."""
    if endpoint.key is None:
        return None
    key = environment.get(endpoint.key, "").strip()
    if not key:
        raise EndpointError(
            f"no key for {endpoint.url}: set the environment variable {endpoint.key}, name another as `key`, or write"
            " key: null where the endpoint wants none"
        )
    if not key.isascii() or not key.isprintable():
        raise EndpointError(f"the key in {endpoint.key} is none: only printable ASCII fits in an HTTP header")
    return key


async def _read(reply: Any) -> bytes:
    """A reply's body. Raises aiohttp.ClientError where it is cut or longer than any answer."""
    import aiohttp

    said = bytearray()
    async for piece in reply.content.iter_chunked(1 << 16):
        said += piece
        if len(said) > MOST_BYTES:
            raise aiohttp.ClientPayloadError(f"a reply of more than {MOST_BYTES} bytes")
    return bytes(said)


def _backoff(tries: int) -> float:
    """A pause that doubles, with a jitter so that those that failed together do not come again together."""
    return min(_LONGEST_BACKOFF_S, _BACKOFF_S * 2.0 ** (tries - 1)) * random.uniform(0.5, 1)
