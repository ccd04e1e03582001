"""A recipe names its chat models; its steps ask them through one gateway, and what came of it is told and counted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from chat_server import Reply, completion, error, serving
from conftest import Workplace

from curate.shards import ShardReader

OPS = '''
import pyarrow as pa
from curate.llm.chat import ChatRequest, Failure
from curate.llm.model import ChatModel
from curate.llm.prompts import load_prompt
from curate.llm.provenance import WRITTEN, written_by
from curate.ops import op
from curate.ops.spec import Failed

@op(reads="text", writes={"said": pa.string(), "said_by": WRITTEN, "mood": pa.string()}, version=1, batch_size=256,
    timeout_s=0, tally=("mood",))
class said:
    """What a model says of a text."""

    def __init__(self, *, chat: ChatModel, llm: str | None = None, prompt: str) -> None:
        self._chat, self._prompt = chat.connect(), load_prompt(prompt)

    def __call__(self, texts):
        asked = [ChatRequest(self._prompt.messages({"text": text}), 20, {"temperature": 0}) for text in texts]
        found = self._chat.ask(asked)
        failed = [Failed(a.error, a.detail) if isinstance(a, Failure) else None for a in found]
        return {
            "said": [bad or a.text for bad, a in zip(failed, found)],
            "said_by": [bad or written_by(self._prompt, {"temperature": 0}, a) for bad, a in zip(failed, found)],
            "mood": ["good" if len(text) % 2 else "bad" for text in texts],
        }
'''
PROMPT = "source: a test\nwording: ours\nuser: |\n  Say it again: {{text}}\n"
KEY = "sk-marked-4711"


def echo(number: int, body: dict[str, Any]) -> Any:
    return Reply(body=completion("again " + body["messages"][-1]["content"], tokens=(20, 6)))


def steps(place: Workplace) -> dict[str, Any]:
    """The funnel of the finished run, by step."""
    said = json.loads((place.out / "funnel.json").read_text(encoding="utf-8"))
    return {count["step"]: count for count in said["funnel"]}


def texts(place: Workplace, count: int) -> dict[str, Any]:
    path = place.root / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"text number {n}"}) + "\n" for n in range(count)), encoding="utf-8")
    return {"type": "text", "path": str(path)}


def recipe(place: Workplace, url: str, count: int = 30, **more: Any) -> Path:
    place.write_module("chat_ops", OPS)
    (place.root / "again.yaml").write_text(PROMPT, encoding="utf-8")
    step = {"op": "chat_ops:said", "with": {"prompt": str(place.root / "again.yaml")}}
    price = {"input": 1.0, "output": 2.0}
    llm = {"writer": {"url": url, "model": "small", "key": None, "price": price, **more}}
    return place.recipe(
        kind="text",
        source=texts(place, count),
        shard_samples=8,
        steps=[step],
        llm=llm,
        publish={"columns": ["said", "said_by"]},
    )


def test_a_run_asks_once_and_tells_what_it_spent_by_model(place: Workplace) -> None:
    with serving(echo) as server:
        found = place.run(recipe(place, server.url))
        assert found.code == 0 and server.requests == 30
        summary = found.json
        assert summary["llm"] == [
            {"name": "writer", "model": "small", "requests": 30, "tokens": 780, "usd": 0.00096,
             "usd_per_1000_kept": 0.032, "unsaid": 0, "in_doubt": 0}
        ]  # fmt: skip
        with ShardReader(place.dataset / "00000.tar") as shard:
            written = [json.loads(shard.read(n)["json"]) for n in range(3)]
        assert {(one["said"][:6], one["said_by"]["model"], one["said_by"]["nano_usd"]) for one in written} == {
            ("again ", "small", 32_000)
        }
        assert summary["written"] == {"said_by": {"small": 30}}
        assert steps(place)["said"]["tallies"] == {"mood": {"bad": 20, "good": 10}}
        report = (place.out / "report.html").read_text(encoding="utf-8")
        assert "Chat models" in report and "bad 20 (66.7 %)" in report
        assert "| `said_by` | small | 30 | 100 % |" in (place.out / "data_card.md").read_text(encoding="utf-8")


def test_what_was_answered_is_not_asked_for_again_whatever_is_cut_or_thrown_away(place: Workplace) -> None:
    with serving(echo) as server:
        place.run(recipe(place, server.url))
        for pool in place.out.glob("pool-*"):
            for path in pool.rglob("columns/**/*.parquet"):
                path.unlink()
        again = place.run(recipe(place, server.url, 33), "--set", "shard_samples=3")
        assert again.code == 0 and server.requests == 33
        assert again.json["llm"][0]["requests"] == 33


def test_a_request_that_is_refused_fails_its_own_row_by_name(place: Workplace) -> None:
    def script(number: int, body: dict[str, Any]) -> Any:
        if body["messages"][-1]["content"].endswith("number 7"):
            return Reply(400, error("Invalid value"))
        return echo(number, body)

    with serving(script) as server:
        found = place.run(recipe(place, server.url))
        assert found.code == 0
        assert steps(place)["said"]["failed"] == {"request_refused": 1}


def test_the_key_stands_in_no_file_that_a_run_writes_even_if_the_model_says_it(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with serving(lambda number, body: f"your key is {KEY}") as server:
        found = place.run(recipe(place, server.url, key="MY_KEY"))
        assert found.code == 0 and {h["Authorization"] for h in server.headers} == {f"Bearer {KEY}"}
    files = [path for path in place.out.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in found.stdout + found.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"llm": {}}, r"steps\.0\.op: op 'said' asks a chat model; name one in the recipe"),
        (
            {"llm": {"a": {"url": "http://x/v1", "model": "m"}, "b": {"url": "http://x/v1", "model": "m"}}},
            r"steps\.0\.with\.llm: missing; the recipe names several chat models: a, b",
        ),
        ({"llm": {"a": {"url": "x", "model": "m"}}}, "expected the base URL of an endpoint"),
        ({"llm": {"a": {"url": f"https://me:{KEY}@x/v1", "model": "m"}}}, "no password belongs into the URL"),
    ],
)
def test_a_recipe_that_names_no_model_to_ask_is_refused(place: Workplace, change: dict[str, Any], words: str) -> None:
    path = recipe(place, "http://127.0.0.1:9/v1")
    found = place.curate("run", place.recipe(**json.loads(path.read_text(encoding="utf-8")) | change), "--dry-run")
    assert found.code == 2 and re.search(words, found.stderr) and KEY not in found.stderr, found.stderr


def test_a_key_that_is_missing_is_told_by_a_dry_run_and_ends_a_run_before_it_begins(place: Workplace) -> None:
    path = recipe(place, "http://127.0.0.1:9/v1", key="NO_SUCH_KEY")
    dry = place.curate("run", path, "--dry-run")
    assert dry.code == 0 and "set the environment variable NO_SUCH_KEY" in dry.stderr
    found = place.run(path)
    assert found.code == 1 and "set the environment variable NO_SUCH_KEY" in found.stderr
    assert not list(place.out.glob("pool-*/rows/*"))


def test_a_budget_ends_a_run_and_a_raised_one_goes_on(place: Workplace) -> None:
    with serving(echo) as server:
        short = place.run(recipe(place, server.url, budget={"requests": 12}))
        assert short.code == 1 and "the budget is spent" in short.stderr and server.requests == 12
        longer = place.run(recipe(place, server.url, budget={"requests": 30}))
        assert longer.code == 0 and server.requests == 30


def test_a_probe_tells_what_all_rows_would_cost_and_what_it_asked_is_not_asked_for_again(place: Workplace) -> None:
    def longer(number: int, body: dict[str, Any]) -> Reply:
        asked = body["messages"][-1]["content"]
        return Reply(body=completion("again", tokens=(20, 6 + int(asked[-1]))))

    with serving(longer) as server:
        path = recipe(place, server.url, 200)
        dry = place.curate("run", path, "--dry-run", "--probe", "40", "--json")
        (found,) = json.loads(dry.stdout)["estimates"]
        assert (found["probed"], found["rows"], server.requests) == (40, 200, 40)
        assert found["requests"] == {"mean": 200, "low": 200, "high": 200}
        truth = sum(26 + n % 10 for n in range(200))
        assert found["tokens"]["low"] <= truth <= found["tokens"]["high"] < 1.2 * truth
        assert found["usd"]["mean"] == pytest.approx((200 * 20 + 2 * (found["tokens"]["mean"] - 4000)) / 1e6)
        again = json.loads(place.curate("run", path, "--dry-run", "--probe", "40", "--json").stdout)["estimates"]
        assert again == [found] and server.requests == 40
        assert place.run(path).code == 0 and server.requests == 200
        words = place.curate("run", path, "--dry-run", "--probe", "40").stdout
        assert "by a probe of 40 rows, for 200 rows: 200 (200 to 200) requests" in words
    assert place.curate("run", path, "--probe", "4").code == 2


@pytest.mark.slow
def test_workers_on_ray_ask_through_one_gateway(place: Workplace) -> None:
    with serving(echo) as server:
        found = place.command("run", recipe(place, server.url, concurrency=5), "--workers", "2", "--json")
        assert found.code == 0, found.stderr
        assert server.requests == 30 and server.most_at_once <= 5
