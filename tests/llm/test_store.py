"""What was paid for is kept through kills, and a file that cannot be used is told with what to do."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from chat_server import Reply, completion, serving

from curate.llm.chat import Answer
from curate.llm.store import FILE, AnswerStore, Hold, Kept, Limits, Settled, StoreError, Sum

ASKING = """
import json, sys
from pathlib import Path
from curate.llm.chat import ChatRequest, Message
from curate.llm.service import GatewayService
from curate.llm.settings import Endpoint

url, folder, budget = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
endpoint = Endpoint(url=url, model="small", key=None, concurrency=8, price={"input": 1, "output": 2}, budget=budget)
with GatewayService(endpoint, folder, "run") as service:
    asked = [ChatRequest((Message("user", (f"text {n}",)),), 30) for n in range(200)]
    print(json.dumps([answer.text for answer in service.ask(asked)]))
"""


def kill_while_asking(tmp_path: Path, times: int, seed: int) -> None:
    """Kill a process that asks 200 things again and again, then let it end; compare its account with the server's."""
    chance, in_flight, budget = random.Random(seed), 8, {"requests": 200 + 8 * times}

    def script(number: int, body: dict[str, Any]) -> Reply:
        return Reply(body=completion(f"of {body['messages'][0]['content']}"), after_s=0.02)

    with serving(script) as server:
        command = [sys.executable, "-c", ASKING, server.url, str(tmp_path), json.dumps(budget)]
        for _ in range(times):
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            began = server.requests
            while server.requests == began and process.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.25))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [f"of text {n}" for n in range(200)]
        assert 200 <= server.requests <= 200 + in_flight * times
    store = AnswerStore(tmp_path)
    found = store.account("run")
    store.close()
    assert found.held == (0, 0, 0)
    # What was on its way at a kill is counted, whether or not it arrived; of all else both counts are the same.
    assert server.requests <= found.spent.requests <= budget["requests"]
    assert found.spent.requests - found.in_doubt == 200
    certain = 200 * (10 + 5)
    assert server.tokens >= certain
    of_texts = found.spent.tokens - certain - 30 * found.in_doubt  # 6 to 8 bytes each
    assert 6 * found.in_doubt <= of_texts <= 8 * found.in_doubt


@pytest.mark.slow
def test_a_killed_run_sends_again_at_most_what_was_on_its_way(tmp_path: Path) -> None:
    kill_while_asking(tmp_path, times=5, seed=1)


@pytest.mark.robust
def test_sixty_kills_cost_at_most_what_was_on_its_way(tmp_path: Path) -> None:
    for seed in range(10):
        kill_while_asking(tmp_path / str(seed), times=6, seed=seed)


def test_a_file_of_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    AnswerStore(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(StoreError, match=r"version 7 .* name another folder as `cache`"):
        AnswerStore(tmp_path)


def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to be taken for one" * 100)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(StoreError, match="damaged"):
        AnswerStore(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_file_that_another_process_holds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    AnswerStore(tmp_path).close()
    monkeypatch.setattr("curate.llm.store.BUSY_SECONDS", 0.1)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked by another process"):
        AnswerStore(tmp_path)
    other.close()


def test_a_folder_without_room_is_told_and_what_was_kept_is_there(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    store.open_account("run")
    answer = Answer("x" * 5000, "stop", "small", 1, 1)
    store.db.execute("PRAGMA max_page_count = 30")  # SQLite's own full disk

    def keep(number: int) -> None:
        hold = Hold(number, Sum(1, 1, 1))
        with store.transaction():
            assert store.hold("run", [hold], Limits())
            store.settle("run", [Settled(hold, hold.most, Kept(number.to_bytes(32), answer, 10))])

    def keep_many() -> None:
        for number in range(100):
            keep(number)

    with pytest.raises(StoreError, match="make room, then run again"):
        keep_many()
    kept = store.account("run").spent.requests
    assert 0 < kept < 100
    assert [store.find(n.to_bytes(32), 10) is not None for n in range(kept + 1)] == [True] * kept + [False]
    store.close()


def test_two_accounts_in_one_file_are_counted_apart(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    for name in ("one", "two"):
        store.open_account(name)
        hold = Hold(len(name) + ord(name[0]), Sum(1, 10, 10))
        with store.transaction():
            assert store.hold(name, [hold], Limits(requests=1))
        with store.transaction():
            store.settle(name, [Settled(hold, Sum(1, 7, 7))])
    assert store.account("one").spent == store.account("two").spent == (1, 7, 7)
    store.close()
