"""A gateway answers from its store or asks, politely; what fails is told by name, what ends a run ends it at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Reply, completion, error, serving

from curate.lacks import MachineError
from curate.llm.chat import Answer, ChatPicture, ChatRequest, Failure, Message
from curate.llm.ledger import BudgetError
from curate.llm.outcomes import EndpointError
from curate.llm.prices import find_price
from curate.llm.service import GatewayService
from curate.llm.settings import Endpoint
from curate.llm.store import Account, AnswerStore

KEY = "sk-MARKED-0123456789"
Asked = list[Answer | Failure | Exception]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_KEY", KEY)


def request(text: str, max_tokens: int = 50, **more: Any) -> ChatRequest:
    return ChatRequest((Message("user", (text,)),), max_tokens, **more)


def ask(server: ChatServer, folder: Path, requests: Sequence[ChatRequest], **settings: Any) -> Asked:
    """What comes of requests that are asked at once; an error that ends the run in the place of its answer."""
    usual = {"url": server.url, "model": "small", "key": "SMALL_KEY", "timeout_s": 5, "concurrency": 8}
    endpoint = Endpoint.model_validate(usual | settings)

    def ask_one(asked: ChatRequest) -> Answer | Failure | Exception:
        try:
            return service.ask([asked])[0]
        except MachineError as err:
            return err

    with GatewayService(endpoint, folder, "run") as service, ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(ask_one, requests))


def account(folder: Path) -> Account:
    store = AnswerStore(folder)
    found = store.account("run")
    store.close()
    return found


def echo(number: int, body: dict[str, Any]) -> str:
    return f"of {body['messages'][-1]['content']}"


def texts(answers: Asked) -> list[str]:
    assert all(isinstance(a, Answer) for a in answers), answers
    return [a.text for a in answers if isinstance(a, Answer)]


def test_what_was_answered_once_is_never_sent_again(tmp_path: Path) -> None:
    with serving(echo) as server:
        first = ask(server, tmp_path, [request(f"text {n}") for n in range(20)])
        assert server.requests == 20
        again = ask(server, tmp_path, [request(f"text {n}") for n in reversed(range(20))])
        assert server.requests == 20
        assert texts(again) == texts(first)[::-1] == [f"of text {n}" for n in reversed(range(20))]
        assert all(isinstance(a, Answer) and a.cached for a in again)
        ask(server, tmp_path, [request(f"text {n}" if n else "another word") for n in range(20)])
        assert server.requests == 21


def test_a_picture_is_known_by_its_name_and_sent_as_its_bytes(tmp_path: Path) -> None:
    def seen(name: str, data: bytes) -> ChatRequest:
        return ChatRequest((Message("user", (ChatPicture(name, data), "What is it?")),), 20)

    with serving(lambda n, body: "a cat") as server:
        ask(server, tmp_path, [seen("1" * 64, b"\xff\xd8one")])
        ask(server, tmp_path, [seen("1" * 64, b"the same, encoded again"), seen("2" * 64, b"two")])
        assert server.requests == 2
        assert server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"] == "data:image/jpeg;base64,/9hvbmU="


def test_the_same_request_asked_at_once_is_sent_once_and_each_draw_by_itself(tmp_path: Path) -> None:
    with serving(lambda n, body: f"answer {n}") as server:
        same = ask(server, tmp_path, [request("x")] * 5)
        assert server.requests == 1 and set(texts(same)) == {"answer 0"}
        drawn = ask(server, tmp_path, [request("x", draw=n) for n in range(4)])
        assert server.requests == 4 and len(set(texts(drawn))) == 4


def test_more_tokens_send_again_only_what_was_cut_by_length(tmp_path: Path) -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        is_long = body["messages"][0]["content"] == "long" and body["max_tokens"] < 200
        said = completion("so far" if is_long else "whole", finish="length" if is_long else "stop", tokens=(9, 30))
        return Reply(body=said)

    with serving(script) as server:
        cut, whole = ask(server, tmp_path, [request("long"), request("short")])
        assert isinstance(cut, Answer) and isinstance(whole, Answer)
        assert (cut.finish, whole.finish) == ("length", "stop")
        assert texts(ask(server, tmp_path, [request("long", 200), request("short", 200)])) == ["whole", "whole"]
        assert server.requests == 3
        ask(server, tmp_path, [request("short", 20)])  # it took 30
        assert server.requests == 4


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (Reply(400, error("maximum context length is 4096", "context_length_exceeded")), "prompt_too_long"),
        (Reply(400, error("rejected by our safety system", "content_policy_violation")), "content_filtered"),
        (Reply(400, error("Invalid value")), "request_refused"),
        (Reply(413, b"too big"), "request_too_large"),
        (Reply(body=completion("x") | {"choices": []}), "no_choices"),
        (Reply(body=completion(None)), "no_content"),
        (Reply(body=completion("", finish="content_filter")), "content_filtered"),
        (Reply(500, error("boom")), "server_error"),
        (Reply(200, error("upstream is gone") | {"choices": []}), "server_error"),
        (Reply(body=b'{"choices": [{"mess'), "malformed_answer"),
        (Reply(body=completion("x"), cut=40), "connection_broken"),
        (Reply(body=completion("x"), after_s=1.2), "endpoint_timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_request_that_fails_costs_itself_alone_and_is_not_kept(tmp_path: Path, reply: Reply, name: str) -> None:
    def script(number: int, body: dict[str, Any]) -> Any:
        return reply if body["messages"][0]["content"] == "bad" else "well"

    requests = [request("bad"), *(request(f"{n}") for n in range(6))]
    knobs = {"tries": 2, "timeout_s": 0.8}
    with serving(script) as server:
        bad, *others = ask(server, tmp_path, requests, **knobs)
        assert isinstance(bad, Failure) and bad.error == name
        assert set(texts(others)) == {"well"}
        sent = server.requests
        bad, *others = ask(server, tmp_path, [*requests, request("one more")], **knobs)
        assert isinstance(bad, Failure) and bad.error == name
        assert server.requests > sent + 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(429, error("You exceeded your quota", "insufficient_quota", "insufficient_quota")), "no more money"),
        (Reply(401, error(f"Incorrect API key: {KEY}", "invalid_api_key")), "the key in SMALL_KEY is not accepted"),
        (Reply(403, error("no access to this model")), "is not accepted for model 'small'"),
        (Reply(404, error("The model does not exist", "model_not_found")), "no model 'small'"),
        (Reply(200, b"<!doctype html><title>Log in</title>", {"Content-Type": "text/html"}), "a web page"),
        (Reply(307, b"", {"Location": "https://elsewhere.example/v1"}), "leads to https://elsewhere.example/v1"),
        (Reply(body=completion("x", model="large")), "answered as 'large'"),
        (Reply(500, error("image input is not supported - hint: provide the mmproj")), "takes no pictures"),
        (Reply(429, error("slow down"), {"Retry-After": "7200"}), "wants to be left alone for 7200 s"),
    ],
    ids=["quota", "key", "access", "model", "html", "redirect", "other model", "no vision", "pause"],
)  # fmt: skip
def test_what_no_request_can_mend_ends_the_run_within_a_request(tmp_path: Path, reply: Reply, said: str) -> None:
    with serving(lambda n, body: reply) as server:
        asked = ask(server, tmp_path, [request(f"{n}") for n in range(30)], concurrency=1)
        assert all(isinstance(one, EndpointError) and said in str(one) for one in asked)
        assert server.requests == 1
        assert KEY not in str(asked)


def test_an_endpoint_that_refuses_all_it_is_asked_ends_the_run(tmp_path: Path) -> None:
    with serving(lambda n, body: Reply(400, error("Unknown parameter: 'top_k'"))) as server:
        asked = ask(server, tmp_path, [request(f"{n}") for n in range(100)])
        assert any(isinstance(one, EndpointError) and "Unknown parameter" in str(one) for one in asked)
        assert server.requests < 40


def test_nobody_asks_while_one_was_told_to_wait(tmp_path: Path) -> None:
    def script(number: int, body: dict[str, Any]) -> Any:
        return Reply(429, error("slow down"), {"Retry-After": "1"}) if number == 3 else "well"

    with serving(script) as server:
        assert set(texts(ask(server, tmp_path, [request(f"{n}") for n in range(40)]))) == {"well"}
        gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
        assert max(gaps) > 0.9
        assert sum(gap > 0.9 for gap in gaps) == 1


def test_fewer_are_asked_at_once_after_a_429_and_more_again_while_answers_come(tmp_path: Path) -> None:
    def script(number: int, body: dict[str, Any]) -> Any:
        if server.at_once > 10:
            return Reply(429, error("too many at once"), {"Retry-After": "0.05"})
        return Reply(body=completion("well"), after_s=0.02)

    with serving(script) as server:
        asked = ask(server, tmp_path, [request(f"{n}") for n in range(400)], concurrency=64)
        assert set(texts(asked)) == {"well"}
        assert 10 < server.most_at_once < 40
        assert server.requests < 460


def test_an_endpoint_that_says_429_for_ever_ends_the_run_when_patience_ends(tmp_path: Path) -> None:
    with serving(lambda n, body: Reply(429, error("slow down"), {"Retry-After": "0.2"})) as server:
        began = time.monotonic()
        (asked,) = ask(server, tmp_path, [request("x")], patience_s=1)
        assert isinstance(asked, EndpointError) and "answered nothing for" in str(asked)
        assert 1 <= time.monotonic() - began < 5
        assert account(tmp_path).spent.requests == server.requests


def test_an_endpoint_that_is_down_for_a_while_fails_no_request(tmp_path: Path) -> None:
    down_until: list[float] = []

    def script(number: int, body: dict[str, Any]) -> Any:
        if number == 5:
            down_until.append(time.monotonic() + 1.5)
        is_down = down_until and time.monotonic() < down_until[0]
        return Reply(503, error("overloaded")) if is_down else "well"

    with serving(script) as server:
        asked = ask(server, tmp_path, [request(f"{n}") for n in range(30)], tries=2)
        assert set(texts(asked)) == {"well"}


def test_an_endpoint_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with serving(echo) as server:
        pass
    (asked,) = ask(server, tmp_path, [request("x")], patience_s=0.5)
    assert isinstance(asked, EndpointError) and "connection_failed" in str(asked)
    assert account(tmp_path).spent.requests == 0


def test_a_missing_key_is_told_by_the_name_of_its_variable(tmp_path: Path) -> None:
    with serving(echo) as server, pytest.raises(EndpointError, match="set the environment variable NO_KEY_HERE"):
        ask(server, tmp_path, [request("x")], key="NO_KEY_HERE")
    with pytest.raises(ValueError, match="never a key") as refused:
        Endpoint(url="http://x/v1", model="m", key="sk-abc-123")
    assert "sk-abc" not in str(refused.value.errors()[0]["msg"])


def test_a_key_that_the_endpoint_says_again_is_written_nowhere(tmp_path: Path) -> None:
    with serving(lambda n, body: f"your key is {KEY}") as server:
        assert texts(ask(server, tmp_path, [request("x")])) == ["your key is [SMALL_KEY]"]
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_text_with_half_a_character_is_kept_as_files_can_hold_it(tmp_path: Path) -> None:
    broken = completion("x") | {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "a\ud800b"}}]}
    with serving(lambda n, body: Reply(body=broken)) as server:
        assert texts(ask(server, tmp_path, [request("x")])) == ["a\ufffdb"]


class TestBudget:
    """What is spent and held never passes the budget; a larger budget goes on."""

    def spend(self, tmp_path: Path, wanted: Callable[[int], dict[str, Any]]) -> tuple[ChatServer, int]:
        requests = [request(f"text {n:03}", 40) for n in range(60)]
        with serving(lambda n, body: Reply(body=completion("well", tokens=(12, 8)), after_s=0.005)) as server:
            asked = ask(server, tmp_path, requests, **wanted(1))
            ended = [one for one in asked if isinstance(one, BudgetError)]
            assert ended and "All answers are kept" in str(ended[0])
            first = server.requests
            asked = ask(server, tmp_path, requests, **wanted(10))
            assert len(texts(asked)) == 60
            assert server.requests == 60
        return server, first

    def test_of_requests(self, tmp_path: Path) -> None:
        _, first = self.spend(tmp_path, lambda times: {"budget": {"requests": 20 * times}})
        assert first == 20

    def test_of_tokens(self, tmp_path: Path) -> None:
        server, first = self.spend(tmp_path, lambda times: {"budget": {"tokens": 500 * times}})
        # The last that fits may take 8 bytes and 40 tokens; each took 20.
        assert first == (500 - 48) // 20 + 1
        assert account(tmp_path).spent.tokens == server.tokens

    def test_of_dollars(self, tmp_path: Path) -> None:
        price = {"input": 0.15, "output": 0.6}  # 12 in, 8 out: 6,600 billionths; at the most 8 and 40: 25,200
        knobs = lambda times: {"price": price, "budget": {"usd": 0.0001 * times}}  # noqa: E731
        _, first = self.spend(tmp_path, knobs)
        assert first == (100_000 - 25_200) // 6_600 + 1
        assert account(tmp_path).spent.nano_usd == 60 * 6_600

    def test_of_dollars_without_a_price_is_refused_before_anything_is_sent(self, tmp_path: Path) -> None:
        with serving(echo) as server, pytest.raises(ValueError, match="price of model 'small'"):
            ask(server, tmp_path, [request("x")], budget={"usd": 1})
        assert server.requests == 0

    def test_counts_answers_without_usage_at_the_most_and_marks_them(self, tmp_path: Path) -> None:
        said = {name: value for name, value in completion("well").items() if name != "usage"}
        with serving(lambda n, body: Reply(body=said)) as server:
            texts(ask(server, tmp_path, [request("12345678", 40)]))
        found = account(tmp_path)
        assert (found.spent.tokens, found.unsaid) == (48, 1)


def test_the_bundled_table_knows_prices() -> None:
    # OpenAI's price list: .15 dollars for a million tokens in, .60 out.
    price = find_price(Endpoint(url="https://api.openai.com/v1", model="gpt-4o-mini", budget={"usd": 1}))  # type: ignore[arg-type]
    assert price.of(1_000_000, 1_000_000) == 750_000_000
