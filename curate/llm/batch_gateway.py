"""Ask an endpoint by batches: gather what all workers ask for, submit it, poll, and keep what comes.

Whatever a kill parts, nothing is submitted twice: a batch is written down before it is sent, and found by its metadata
where it was sent and that was not written down. What the next run asks for that is on its way is waited for.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from curate.llm.batch_book import AskedInBatch, BatchBook, Ended, Planned
from curate.llm.batch_client import BatchClient
from curate.llm.chat import Answer, Failure, Prepared
from curate.llm.ledger import BudgetError, most_of
from curate.llm.outcomes import Again, Answered, AtFault, EndpointError, Ends, Outcome, TooFast, judge
from curate.llm.prices import PicoPrice
from curate.llm.settings import BatchMode, Endpoint
from curate.llm.store import AnswerStore, Kept, Limits, Sum

ROWS = 500
"""Results that are kept in one transaction."""

CLOSING_S = 10.0
"""A batch that is being collected when the run ends may take so long: its files are to be deleted."""

Name = tuple[bytes, int]
"""A request's key and its bound of tokens."""

_OVER = ("completed", "expired", "failed", "cancelled")


class BatchGateway:
    """The way to an endpoint's batches, for the running event loop; asked as a `Gateway` is."""

    def __init__(self, endpoint: Endpoint, store: AnswerStore, account: str, limits: Limits, price: PicoPrice) -> None:
        self._endpoint, self._how = endpoint, endpoint.batch or BatchMode()
        self._store, self._account, self._limits = store, account, limits
        self._price = price.share(self._how.price_share)
        self._book, self._client = BatchBook(store, account), BatchClient(endpoint)
        self._loop = asyncio.get_running_loop()
        self._asked: dict[Name, asyncio.Future[Outcome]] = {}
        self._gathered: dict[Name, Prepared] = {}
        self._gathered_at = 0.0
        self._on_their_way: dict[Name, str] = {}
        self._enqueued: dict[str, int] = {}
        self._most_enqueued = self._how.enqueued_tokens
        self._end: Exception | None = None
        self._collecting: asyncio.Task[None] | None = None
        store.open_account(account)

    async def __aenter__(self) -> BatchGateway:
        await self._recover()
        self._work = self._loop.create_task(self._keep_working())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._work.cancel()
        with suppress(asyncio.CancelledError):
            await self._work
        if self._collecting is not None and not self._collecting.done():
            with suppress(TimeoutError, EndpointError):  # what is left of it the next run takes up
                await asyncio.wait_for(self._collecting, CLOSING_S)
        await self._client.close()
        self._store.close()

    def find(self, asked: Sequence[Name]) -> list[Answer | None]:
        """The answers that were paid for already, by key and `max_tokens`, where there are any. Raises StoreError."""
        return self._store.find_all(asked)

    async def ask(self, request: Prepared) -> Answer | Failure:
        """Ask for an answer that is not kept: the answer, or the request's own fault; it may take a day.

        Raises EndpointError, BudgetError, StoreError: they end the run.
        """
        tries = 0
        while True:
            outcome = await self._next_batch(request)
            if isinstance(outcome, Answered):
                return outcome.answer
            if isinstance(outcome, AtFault):
                return outcome.failure
            if isinstance(outcome, Again):  # else it was not its turn
                tries += 1
                if tries == self._endpoint.tries:
                    return outcome.failure

    async def _next_batch(self, request: Prepared) -> Outcome:
        """What comes of a request in the batch that it is in already, or else in the next."""
        if self._end is not None:
            raise self._end
        name = (request.key, request.max_tokens)
        if (asked := self._asked.get(name)) is None:
            asked = self._asked[name] = self._loop.create_future()
            if name not in self._on_their_way:
                self._gathered[name] = request
                self._gathered_at = self._loop.time()
        return await asyncio.shield(asked)

    async def _recover(self) -> None:
        """Take up the batches of a run before: those that were submitted, whether or not it could write that down."""
        for planned in self._book.open():
            batch_id = planned.batch_id or await self._client.find(planned.name, planned.planned_at)
            if batch_id is None:
                await self._client.delete_orphans(_file_name(planned.name))
                self._book.close(planned)
                continue
            if planned.batch_id is None:
                self._book.submitted(planned.name, batch_id)
            left = self._book.requests(planned.name).values()
            self._on_their_way |= {(asked.key, asked.max_tokens): planned.name for asked in left}
            self._enqueued[planned.name] = sum(asked.most.tokens - asked.max_tokens for asked in left) // 3

    async def _keep_working(self) -> None:
        """Submit what was gathered, and look for what came, until the run ends or something ends it."""
        looked_at = -self._how.poll_s
        try:
            while True:
                await self._submit_gathered()
                now = self._loop.time()
                if now - looked_at >= self._how.poll_s:
                    looked_at = now
                    await self._collect()
                await asyncio.sleep(min(1.0, self._how.poll_s, self._how.gather_s) / 2)
        except Exception as err:  # noqa: BLE001 - it is raised by every request
            self._end = err
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_exception(err)
                    asked.exception()
            self._asked.clear()

    async def _submit_gathered(self) -> None:
        while self._gathered:
            is_quiet = self._loop.time() - self._gathered_at >= self._how.gather_s
            requests = self._cut(list(self._gathered.values()))
            if not is_quiet and len(requests) == len(self._gathered) and len(requests) < self._how.most_requests:
                return  # there is room, and more may come
            tokens = self._tokens_of(requests)
            if self._enqueued and self._most_enqueued and tokens + sum(self._enqueued.values()) > self._most_enqueued:
                return  # until others are answered
            if not await self._submit(requests):
                return

    def _cut(self, requests: Sequence[Prepared]) -> Sequence[Prepared]:
        """The first of these that one batch can hold; one at least."""
        size = tokens = 0
        for count, request in enumerate(requests):
            size += len(request.body) + 120
            tokens += request.likely_input(self._endpoint.picture_tokens)
            is_too_long = size > self._how.most_bytes or count == self._how.most_requests
            if count and (is_too_long or (self._most_enqueued and tokens > self._most_enqueued)):
                return requests[:count]
        return requests

    async def _submit(self, requests: Sequence[Prepared]) -> bool:
        """Plan and send a batch of as many as the budget allows; false where others must give back first."""
        name = secrets.token_hex(12)
        while not self._book.plan(name, [self._as_asked(one) for one in requests], self._limits):
            if len(requests) == 1:
                if not self._on_their_way:
                    raise BudgetError.of(self._store.account(self._account).spent)
                return False
            requests = requests[: len(requests) // 2]
        with tempfile.TemporaryDirectory(prefix="curate-batch-") as folder:
            path = Path(folder) / _file_name(name)
            with path.open("wb") as out:
                for number, request in enumerate(requests):
                    head = json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions"})
                    out.write(head[:-1].encode() + b', "body": ' + request.body + b"}\n")
            batch_id = await self._client.submit(path, name)
        self._book.submitted(name, batch_id)
        self._enqueued[name] = self._tokens_of(requests)
        for request in requests:
            self._on_their_way[request.key, request.max_tokens] = name
            self._gathered.pop((request.key, request.max_tokens), None)
        return True

    async def _collect(self) -> None:
        """Keep what came of batches that are over."""
        for planned in self._book.open():
            assert planned.batch_id is not None
            batch = await self._client.look(planned.batch_id)
            if batch.status not in _OVER:
                continue
            # Whoever waits for its answers may end the run as soon as they are there: it is collected to its end.
            self._collecting = self._loop.create_task(self._collect_one(planned, batch))
            await asyncio.shield(self._collecting)
            if self._end is not None:
                raise self._end

    async def _collect_one(self, planned: Planned, batch: Any) -> None:
        """Keep what came of a batch that is over, and delete its files."""
        if batch.status == "failed":
            self._check_failed(planned, batch)
        files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
        for file_id in files:
            await self._keep_file(planned, file_id)
        self._forget(planned, was_whole=batch.status == "completed")
        for file_id in (batch.input_file_id, *files):
            await self._client.delete(file_id)

    async def _keep_file(self, planned: Planned, file_id: str) -> None:
        asked = self._book.requests(planned.name)
        with tempfile.TemporaryDirectory(prefix="curate-batch-") as folder:
            path = Path(folder) / "results.jsonl"
            await self._client.download(file_id, path)
            with path.open("rb") as file:
                while lines := list(islice(file, ROWS)):
                    self._keep(planned, asked, lines)
                    await asyncio.sleep(0)

    def _keep(self, planned: Planned, asked: Mapping[int, AskedInBatch], lines: Sequence[bytes]) -> None:
        """Keep what some lines of results say, then tell those who wait for it."""
        found = {number: outcome for number, outcome in self._outcomes(lines) if number in asked}
        over = {number: outcome for number, outcome in found.items() if isinstance(outcome, (Answered, AtFault))}
        self._book.end(planned, asked, [self._ended(asked[number], number, one) for number, one in over.items()])
        for number, outcome in found.items():
            if isinstance(outcome, Ends):  # when all that was answered is kept
                self._end = self._end or outcome.error
            else:
                self._tell((asked[number].key, asked[number].max_tokens), outcome)

    def _outcomes(self, lines: Sequence[bytes]) -> Iterator[tuple[int, Outcome]]:
        """By a request's number, what came of it."""
        for line in lines:
            try:
                said = json.loads(line)
                number, reply = int(said["custom_id"]), said.get("response")
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                continue  # what is missing is asked for again
            if isinstance(reply, dict) and isinstance(reply.get("status_code"), int):
                body = json.dumps(reply.get("body")).encode()
                yield number, judge(self._endpoint, reply["status_code"], {}, body)
            else:
                yield number, _not_answered(said.get("error"))

    def _ended(self, asked: AskedInBatch, number: int, outcome: Answered | AtFault) -> Ended:
        usage = outcome.usage
        cost = Sum(1, usage.sum, self._price.of(*usage)) if usage else Sum(1, 0, 0)
        if not isinstance(outcome, Answered):
            return Ended(number, cost)
        cost = cost if usage else asked.most
        answer = outcome.paid(cost.nano_usd, 0.0)
        return Ended(number, cost, Kept(asked.key, answer, asked.max_tokens), usage is None)

    def _forget(self, planned: Planned, was_whole: bool) -> None:
        """Close a batch; requests of which nothing came are asked for again."""
        self._book.close(planned)
        self._enqueued.pop(planned.name, None)
        left = [name for name, batch in self._on_their_way.items() if batch == planned.name]
        missing = Again(Failure("not_answered", "the batch was completed without it"))
        for name in left:
            self._tell(name, missing if was_whole else TooFast("the batch ended without it", None))

    def _tell(self, name: Name, outcome: Outcome) -> None:
        """Tell those who wait for a request, if anybody does; where it has not ended they ask again."""
        self._on_their_way.pop(name, None)
        asked = self._asked.pop(name, None)
        if asked is not None and not asked.done():
            asked.set_result(outcome)

    def _check_failed(self, planned: Planned, batch: Any) -> None:
        """Take a batch that was refused as too much at once for later; raise EndpointError where that is not why."""
        errors = (batch.errors.data if batch.errors else None) or []
        codes, words = {error.code for error in errors}, "; ".join(str(error.message) for error in errors[:3])
        waiting = sum(self._enqueued.values())
        if "token_limit_exceeded" in codes and len(self._book.requests(planned.name)) > 1:
            self._most_enqueued = max(1, waiting // 2) if waiting else self._most_enqueued
            return
        raise EndpointError(f"{self._endpoint.url} refused batch {batch.id}: {words or 'no words'}")

    def _tokens_of(self, requests: Sequence[Prepared]) -> int:
        return sum(request.likely_input(self._endpoint.picture_tokens) for request in requests)

    def _as_asked(self, request: Prepared) -> AskedInBatch:
        return AskedInBatch(request.key, request.max_tokens, most_of(request, self._endpoint, self._price))


def _not_answered(error: Any) -> Outcome:
    """What came of a request that the batch ended without: what was not in time is nobody's fault."""
    code = str(error.get("code")) if isinstance(error, dict) else ""
    if code in ("batch_expired", "batch_cancelled"):
        return TooFast(code, None)
    return Again(Failure("not_answered", f"the batch ended without it: {str(error)[:200]}"))


def _file_name(name: str) -> str:
    return f"curate-{name}.jsonl"
