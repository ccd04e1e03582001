"""An endpoint's interface for files and batches on loopback, which does what a test's script says, and counts."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from chat_server import completion, on_loopback

Answering = Callable[[dict[str, Any]], Any]
"""By a request's body, what comes of it: a text, a pair of status and body, or None where the batch ends before it."""


@dataclass
class BatchServer:
    """What came. `hook`: called with an event's name (upload, create, look, content, delete), before its reply is sent;
    `enqueued`: the most requests that are taken at once."""

    answering: Answering
    hook: Callable[[str], None] = lambda event: None
    enqueued: int = 1 << 30
    most: int = 0
    url: str = ""
    submitted: list[list[str]] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def texts(self) -> Counter[str]:
        """How often each text was submitted."""
        return Counter(text for texts in self.submitted for text in texts)

    async def upload(self, request: web.Request) -> web.Response:
        said = await request.post()
        held = said["file"]
        assert isinstance(held, web.FileField) and said["purpose"] == "batch"
        return self.reply("upload", self._add(held.filename, held.file.read()))

    async def files_of(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"object": "list", "data": [f["said"] for f in self.files.values()], "has_more": False}
        )

    async def content(self, request: web.Request) -> web.Response:
        body = self.files[request.match_info["id"]]["body"]
        self.hear("content")
        return web.Response(body=body)

    async def delete(self, request: web.Request) -> web.Response:
        self.files.pop(request.match_info["id"], None)
        return self.reply("delete", {"id": request.match_info["id"], "object": "file", "deleted": True})

    async def create(self, request: web.Request) -> web.Response:
        said = await request.json()
        lines = [json.loads(line) for line in self.files[said["input_file_id"]]["body"].splitlines()]
        number = f"batch_{len(self.batches)}"
        batch = {
            "id": number, "object": "batch", "endpoint": said["endpoint"], "input_file_id": said["input_file_id"],
            "completion_window": "24h", "created_at": int(time.time()), "metadata": said["metadata"],
            "status": "in_progress",
        }  # fmt: skip
        self.batches[number] = batch
        if len(lines) > self.enqueued:
            words = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [words]}}
        else:
            self.submitted.append([line["body"]["messages"][-1]["content"] for line in lines])
            self._answer(batch, lines)
        return self.reply("create", batch)

    async def batches_of(self, request: web.Request) -> web.Response:
        """Two a page, so that pages are turned."""
        newest = list(self.batches.values())[::-1]
        after = request.query.get("after")
        start = next((n + 1 for n, b in enumerate(newest) if b["id"] == after), 0)
        page = newest[start : start + 2]
        more = start + 2 < len(newest)
        return web.json_response(
            {"object": "list", "data": page, "has_more": more, "last_id": page[-1]["id"] if page else None}
        )

    async def look(self, request: web.Request) -> web.Response:
        return self.reply("look", self.batches[request.match_info["id"]])

    def reply(self, event: str, said: Any) -> web.Response:
        self.hear(event)
        return web.json_response(said)

    def hear(self, event: str) -> None:
        self.events[event] += 1
        self.hook(event)

    def _answer(self, batch: dict[str, Any], lines: list[Any]) -> None:
        """Write the files of results, last things first: their order means nothing."""
        good, bad = [], []
        for line in reversed(lines):
            said = self.answering(line["body"])
            result: dict[str, Any] = {"id": "r", "custom_id": line["custom_id"], "response": None, "error": None}
            if said is None:
                bad.append(result | {"error": {"code": "batch_expired", "message": "not in time"}})
                continue
            status, body = said if isinstance(said, tuple) else (200, completion(said))
            result["response"] = {"status_code": status, "request_id": "q", "body": body}
            (good if status == 200 else bad).append(result)
        expired = any(result["error"] for result in bad)
        batch["status"] = "expired" if expired else "completed"
        for name, results in (("output_file_id", good), ("error_file_id", bad)):
            if results:
                batch[name] = self._add(name, "\n".join(map(json.dumps, results)).encode())["id"]

    def _add(self, name: str, body: bytes) -> dict[str, Any]:
        number = f"file-{self.events['upload']}-{len(self.files)}-{name}"
        said = {"id": number, "object": "file", "bytes": len(body), "created_at": int(time.time()), "filename": name,
                "purpose": "batch", "status": "processed"}  # fmt: skip
        self.files[number] = {"said": said, "body": body}
        return said


@contextmanager
def serving_batches(answering: Answering, **more: Any) -> Iterator[BatchServer]:
    """A server at work in a thread of its own."""
    server = BatchServer(answering, **more)
    app = web.Application(client_max_size=256 << 20)
    app.router.add_post("/v1/files", server.upload)
    app.router.add_get("/v1/files", server.files_of)
    app.router.add_get("/v1/files/{id}/content", server.content)
    app.router.add_delete("/v1/files/{id}", server.delete)
    app.router.add_post("/v1/batches", server.create)
    app.router.add_get("/v1/batches", server.batches_of)
    app.router.add_get("/v1/batches/{id}", server.look)
    with on_loopback(app) as server.url:
        yield server
