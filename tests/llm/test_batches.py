"""By batches everything is asked for once, whenever a run is killed; what is not in time goes again, alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchServer, serving_batches
from chat_server import completion, error

from curate.llm.chat import Answer, ChatRequest, Failure, Message
from curate.llm.ledger import BudgetError
from curate.llm.outcomes import EndpointError
from curate.llm.service import GatewayService
from curate.llm.settings import Endpoint
from curate.llm.store import Account, AnswerStore

COUNT = 12
QUICK = {"gather_s": 0.1, "poll_s": 0.1}


def echo(body: dict[str, Any]) -> str:
    return f"of {body['messages'][-1]['content']}"


def requests(count: int = COUNT) -> list[ChatRequest]:
    return [ChatRequest((Message("user", (f"text {n:02}",)),), 30) for n in range(count)]


def ask(server: BatchServer, folder: Path, count: int = COUNT, **more: Any) -> list[Answer | Failure]:
    batch = QUICK | more.pop("batch", {})
    usual = {"url": server.url, "model": "small", "key": None, "price": {"input": 1, "output": 2}, "batch": batch}
    with GatewayService(Endpoint.model_validate(usual | more), folder, "run") as service:
        return service.ask(requests(count))


def texts(answers: list[Answer | Failure]) -> list[str]:
    assert all(isinstance(a, Answer) for a in answers), answers
    return [a.text for a in answers if isinstance(a, Answer)]


def account(folder: Path) -> Account:
    store = AnswerStore(folder)
    found = store.account("run")
    store.close()
    return found


EXPECTED = [f"of text {n:02}" for n in range(COUNT)]


def test_everything_is_asked_for_in_one_batch_at_its_price_and_then_found(tmp_path: Path) -> None:
    with serving_batches(echo) as server:
        assert texts(ask(server, tmp_path)) == EXPECTED
        assert [len(texts) for texts in server.submitted] == [COUNT]
        assert not server.files, "what is collected is deleted there"
        assert texts(ask(server, tmp_path)) == EXPECTED
        assert server.events["create"] == 1
    found = account(tmp_path)
    assert found.spent == (COUNT, COUNT * 15, COUNT * (10 * 1000 + 5 * 2000) // 2)  # half the price
    assert found.held == (0, 0, 0)


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [
        ({"most_requests": 5}, [5, 5, 2]),
        ({"most_bytes": 1024}, [4, 4, 4]),  # a line has some 220 bytes
        ({"enqueued_tokens": 9}, [4, 4, 4]),  # a text of 7 bytes counts for two
    ],
    ids=["count", "bytes", "tokens"],
)
def test_batches_are_cut_by(tmp_path: Path, batch: dict[str, Any], sizes: list[int]) -> None:
    with serving_batches(echo) as server:
        assert texts(ask(server, tmp_path, batch=batch)) == EXPECTED
        assert [len(texts) for texts in server.submitted] == sizes


def test_what_is_not_in_time_goes_again_alone(tmp_path: Path) -> None:
    seen = set[str]()

    def answering(body: dict[str, Any]) -> str | None:
        text = body["messages"][-1]["content"]
        is_late = text in ("text 03", "text 07") and text not in seen
        seen.add(text)
        return None if is_late else echo(body)

    with serving_batches(answering) as server:
        assert texts(ask(server, tmp_path, tries=1)) == EXPECTED
        assert [len(texts) for texts in server.submitted] == [COUNT, 2]
    assert account(tmp_path).spent.requests == COUNT


def test_an_endpoint_that_takes_less_at_once_is_given_less(tmp_path: Path) -> None:
    with serving_batches(echo, enqueued=5) as server:
        assert texts(ask(server, tmp_path, tries=1)) == EXPECTED
        assert max(len(texts) for texts in server.submitted) <= 5
        assert set(server.texts.values()) == {1}


def test_a_request_at_fault_fails_alone_and_one_that_failed_is_tried_again(tmp_path: Path) -> None:
    failed = set[str]()

    def answering(body: dict[str, Any]) -> Any:
        text = body["messages"][-1]["content"]
        if text == "text 01":
            return 400, error("maximum context length is 4096", "context_length_exceeded")
        if text == "text 02" and text not in failed:
            failed.add(text)
            return 500, error("boom")
        return echo(body)

    with serving_batches(answering) as server:
        answers = ask(server, tmp_path)
        assert isinstance(answers[1], Failure) and answers[1].error == "prompt_too_long"
        assert texts(answers[:1] + answers[2:]) == EXPECTED[:1] + EXPECTED[2:]
        assert [len(texts) for texts in server.submitted] == [COUNT, 1]


def test_what_ends_a_run_does_so_when_what_was_answered_is_kept(tmp_path: Path) -> None:
    def answering(body: dict[str, Any]) -> Any:
        if body["messages"][-1]["content"] > "text 05":
            return 429, error("You exceeded your quota", "insufficient_quota", "insufficient_quota")
        return echo(body)

    with serving_batches(answering) as server:
        with pytest.raises(Exception, match="no more money or quota"):
            ask(server, tmp_path)
        server.answering = echo
        assert texts(ask(server, tmp_path)) == EXPECTED
        assert [len(texts) for texts in server.submitted] == [COUNT, 6]


def test_a_budget_is_reserved_for_the_whole_batch_and_never_passed(tmp_path: Path) -> None:
    with serving_batches(echo) as server:
        # At the most 7 + 30 tokens each, in the end 15: 6 fit first, then 100 are left for 2, ...
        with pytest.raises(BudgetError, match="All answers are kept"):
            ask(server, tmp_path, budget={"tokens": 150})
        assert account(tmp_path).held == (0, 0, 0)
        assert 112 < account(tmp_path).spent.tokens <= 150
        assert texts(ask(server, tmp_path, budget={"tokens": 1000})) == EXPECTED
        assert set(server.texts.values()) == {1}


def test_a_batch_that_is_refused_is_told_in_the_endpoints_words(tmp_path: Path) -> None:
    with serving_batches(echo) as server:

        def refuse(event: str) -> None:
            if event == "create":
                words = {"code": "invalid_model", "message": "no model small", "line": 1}
                for batch in server.batches.values():
                    batch |= {"status": "failed", "errors": {"object": "list", "data": [words]}}

        server.hook = refuse
        with pytest.raises(EndpointError, match="refused batch batch_0: no model small"):
            ask(server, tmp_path)


ASKING = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from curate.llm.chat import ChatRequest, Message
from curate.llm.service import GatewayService
from curate.llm.settings import Endpoint

endpoint = Endpoint(url=sys.argv[1], model="small", key=None, batch={QUICK!r} | {{"most_requests": 5}})
with GatewayService(endpoint, Path(sys.argv[2]), "run") as service:
    asked = [ChatRequest((Message("user", (f"text {{n:02}}",)),), 30) for n in range({COUNT})]
    print(json.dumps([answer.text for answer in service.ask(asked)]))
"""


def kill_at(tmp_path: Path, points: list[tuple[str, int]]) -> None:
    """Kill a process when its n-th request of a kind has been done and not replied to, for each point; let it end."""
    with serving_batches(echo) as server:
        for event, nth in points:
            process = subprocess.Popen(
                [sys.executable, "-c", ASKING, server.url, str(tmp_path)], stdout=subprocess.PIPE
            )
            before = server.events[event]

            def hook(happened: str, event: str = event, until: int = before + nth, pid: int = process.pid) -> None:
                if happened == event and server.events[event] == until:
                    os.kill(pid, signal.SIGKILL)

            server.hook = hook
            process.communicate(timeout=60)
        server.hook = lambda event: None
        done = subprocess.run(
            [sys.executable, "-c", ASKING, server.url, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout) == EXPECTED
        assert set(server.texts.values()) == {1} and len(server.texts) == COUNT, "nothing is submitted twice"
        found = account(tmp_path)
        assert found.spent.requests == COUNT and found.held == (0, 0, 0)
        assert found.spent.tokens == COUNT * completion("x")["usage"]["total_tokens"]


POINTS = [("upload", 1), ("create", 1), ("create", 2), ("look", 1), ("content", 1), ("content", 2), ("delete", 1)]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point[0]} {point[1]}")
def test_a_run_killed_between_any_two_steps_submits_nothing_twice(tmp_path: Path, point: tuple[str, int]) -> None:
    kill_at(tmp_path, [point])


@pytest.mark.robust
def test_a_run_killed_again_and_again_submits_nothing_twice(tmp_path: Path) -> None:
    kill_at(tmp_path, [*POINTS, ("delete", 2), ("upload", 2), ("delete", 3)])
