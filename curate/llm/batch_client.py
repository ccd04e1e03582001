"""An endpoint's interface for files and batches, by the `openai` package; what fails is told as in `outcomes`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from curate.extras import require
from curate.llm.outcomes import Again, AtFault, EndpointError, Ends, TooFast, judge
from curate.llm.settings import Endpoint
from curate.llm.transport import hide_key, key_of

if TYPE_CHECKING:
    from openai.types import Batch as RemoteBatch

MARK = "curate"
"""The key of a batch's metadata under which its name stands: so one that nobody wrote down is found."""

LOOK_BACK_S = 3600.0
"""Clocks may differ by so much: batches that are older than the one that is looked for are not gone through."""

LONGEST_PAUSE_S = 60.0

T = TypeVar("T")


class BatchClient:
    """Files and batches at an endpoint, for the running event loop. Raises EndpointError, from every method."""

    def __init__(self, endpoint: Endpoint) -> None:
        require("batches of a chat model", "openai")
        import openai

        self._endpoint, self._key = endpoint, key_of(endpoint)
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.url, api_key=self._key or "none", max_retries=0, timeout=endpoint.timeout_s
        )

    async def submit(self, path: Path, name: str) -> str:
        """Upload a file of requests and have them answered, once whatever fails; returns the batch's id."""
        planned_at, uploaded = time.time(), list[str]()

        async def submit() -> str:
            if uploaded and (found := await self._find(name, planned_at)) is not None:
                return found  # a reply that was lost
            if not uploaded:
                uploaded.append((await self._client.files.create(file=path, purpose="batch")).id)
            batch = await self._client.batches.create(
                input_file_id=uploaded[0],
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={MARK: name},
            )
            return batch.id

        return await self._tried(submit)

    async def find(self, name: str, planned_at: float) -> str | None:
        """The id of the batch that was submitted under this name, if it was."""
        return await self._tried(lambda: self._find(name, planned_at))

    async def look(self, batch_id: str) -> RemoteBatch:
        """The batch as it stands."""
        return await self._tried(lambda: self._client.batches.retrieve(batch_id))

    async def download(self, file_id: str, path: Path) -> None:
        """Write a file of results, a line each, the key out of it."""

        async def download() -> None:
            async with self._client.files.with_streaming_response.content(file_id) as reply:
                with path.open("wb") as out:
                    async for line in reply.iter_lines():
                        out.write(hide_key(line.encode(), self._key, self._endpoint) + b"\n")

        await self._tried(download)

    async def delete(self, file_id: str) -> None:
        """Delete a file that is of no more use; where that fails it stays."""
        import openai

        with suppress(openai.OpenAIError):
            await self._client.files.delete(file_id)

    async def delete_orphans(self, file_name: str) -> None:
        """Delete the files that were uploaded under this name."""

        async def ids() -> list[str]:
            return [file.id async for file in self._client.files.list(purpose="batch") if file.filename == file_name]

        for file_id in await self._tried(ids):
            await self.delete(file_id)

    async def close(self) -> None:
        """End the connections."""
        await self._client.close()

    async def _find(self, name: str, planned_at: float) -> str | None:
        async for batch in self._client.batches.list(limit=100):  # the newest first
            if (batch.metadata or {}).get(MARK) == name:
                return batch.id
            if batch.created_at < planned_at - LOOK_BACK_S:
                break
        return None

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        """What a call gives, tried again for as long as patience lasts where the endpoint fails."""
        import openai

        began, pause = time.monotonic(), 0.5
        while True:
            try:
                return await call()
            except openai.APIStatusError as err:
                wait_s, said = self._wait(err)
            except openai.APIConnectionError as err:
                wait_s, said = None, f"connection_failed, {err.__cause__ or err}"
            wait_s = min(pause, LONGEST_PAUSE_S) if wait_s is None else wait_s
            if time.monotonic() + wait_s - began > self._endpoint.patience_s:
                raise EndpointError(
                    f"{self._endpoint.url} took no batch, or told nothing of one, for {time.monotonic() - began:.0f} s"
                    f" (last: {said}). Nothing is lost: run the same command to go on"
                )
            await asyncio.sleep(wait_s)
            pause *= 2

    def _wait(self, err: Any) -> tuple[float | None, str]:
        """The pause that the endpoint wants, and what it said. Raises EndpointError where no other try helps."""
        said = hide_key(err.response.content, self._key, self._endpoint)
        outcome = judge(self._endpoint, err.status_code, err.response.headers, said)
        if isinstance(outcome, Ends):
            raise outcome.error
        if isinstance(outcome, TooFast):
            return outcome.wait_s, outcome.said
        if isinstance(outcome, Again):
            return outcome.wait_s, outcome.failure.detail
        detail = outcome.failure.detail if isinstance(outcome, AtFault) else "an answer to no question"
        raise EndpointError(f"{self._endpoint.url} refused a batch: {detail}")
