"""Workers of a run ask through one gateway: its limits, its answers and its end are theirs together."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from chat_server import Reply, completion, error, serving

from curate.lacks import MachineError
from curate.llm.chat import Answer, ChatPicture, ChatRequest, Failure, Message
from curate.llm.service import GatewayService, RemoteChat
from curate.llm.settings import Endpoint


def requests(count: int, of: str = "text") -> list[ChatRequest]:
    return [ChatRequest((Message("user", (f"{of} {n}",)),), 30) for n in range(count)]


def echo(number: int, body: dict[str, Any]) -> Reply:
    return Reply(body=completion(f"of {body['messages'][-1]['content']}"), after_s=0.01)


def endpoint(url: str, **more: Any) -> Endpoint:
    return Endpoint.model_validate({"url": url, "model": "small", "key": None, **more})


def test_workers_share_answers_and_what_is_asked_at_once(tmp_path: Path) -> None:
    with serving(echo) as server, GatewayService(endpoint(server.url, concurrency=6), tmp_path, "run") as service:

        def work(number: int) -> list[Answer | Failure]:
            worker = RemoteChat(service.address)
            answers = worker.ask(requests(40))
            worker.close()
            return answers

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(work, range(8)))
        assert server.requests == 40 and server.most_at_once <= 6
        expected = [f"of text {n}" for n in range(40)]
        assert [[a.text for a in answers if isinstance(a, Answer)] for answers in found] == [expected] * 8
        assert [a.text for a in service.ask(requests(40)) if isinstance(a, Answer)] == expected
        assert service.account().spent == (40, 40 * 15, 0)


def test_a_worker_sends_a_picture_only_where_no_answer_is_kept(tmp_path: Path) -> None:
    asked = [
        ChatRequest((Message("user", (ChatPicture(str(n), bytes(300_000)), "What is it?")),), 20) for n in range(8)
    ]
    with serving(lambda n, body: "a cat") as server, GatewayService(endpoint(server.url), tmp_path, "run") as service:
        worker = RemoteChat(service.address)
        assert len(worker.ask(asked)) == 8
        known = [ChatRequest((Message("user", (ChatPicture(str(n), b""), "What is it?")),), 20) for n in range(8)]
        assert all(isinstance(a, Answer) and a.cached for a in worker.ask(known))
        worker.close()


def test_a_failure_and_the_end_of_a_run_reach_the_worker_in_their_words(tmp_path: Path) -> None:
    def script(number: int, body: dict[str, Any]) -> Any:
        if body["messages"][0]["content"] == "text 1":
            return Reply(400, error("Invalid value"))
        return Reply(401, error("no such key")) if "end" in body["messages"][0]["content"] else "well"

    with serving(script) as server, GatewayService(endpoint(server.url), tmp_path, "run") as service:
        worker = RemoteChat(service.address)
        first, second, third = worker.ask(requests(3))
        assert isinstance(second, Failure) and second.error == "request_refused"
        assert isinstance(first, Answer) and isinstance(third, Answer)
        with pytest.raises(MachineError, match="it wants a key"):
            worker.ask(requests(1, "end"))
        worker.close()


DYING = """
import os, sys, threading
from curate.llm.chat import ChatRequest, Message
from curate.llm.service import RemoteChat
worker = RemoteChat(sys.argv[1])
threading.Timer(0.5, lambda: os._exit(1)).start()
worker.ask([ChatRequest((Message("user", (f"text {n}",)),), 30) for n in range(4)])
"""


def test_what_a_worker_asked_before_it_died_is_answered_and_kept(tmp_path: Path) -> None:
    slow = lambda n, body: Reply(body=completion("well"), after_s=1.0)  # noqa: E731
    with serving(slow) as server, GatewayService(endpoint(server.url), tmp_path, "run") as service:
        subprocess.run([sys.executable, "-c", DYING, service.address], check=False)
        until = time.monotonic() + 10
        while service.account().spent.requests < 4 and time.monotonic() < until:
            time.sleep(0.05)
        assert all(isinstance(a, Answer) and a.cached for a in service.ask(requests(4)))
        assert server.requests == 4


def test_a_stranger_on_the_port_is_told_nothing(tmp_path: Path) -> None:
    with serving(echo) as server, GatewayService(endpoint(server.url), tmp_path, "run") as service:
        with pytest.raises(MachineError, match="does not answer"):
            RemoteChat("0" * 32 + service.address[service.address.index("@") :])
        assert server.requests == 0
