"""Texts that a chat model writes after examples: the same answers make the same texts, and every attempt is told of."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from chat_server import ChatServer, Reply, completion, error, serving
from conftest import Outcome, Workplace, errors, kill_group

EXAMPLES = [
    {"text": "A photo of a brown dog that runs along a beach in the evening sun."},
    {"text": "A photo of two red cups beside a book on a wooden table."},
    {"text": "A photo of an old man who reads a newspaper in a park."},
]
ASKED = [
    {"context": "A man rides a horse.", "question": "Who rides?", "answer": "A man."},
    {"context": "Two cats sleep on a sofa.", "question": "Where do they sleep?", "answer": "On a sofa."},
    {"context": "A bus waits in the rain.", "question": "What waits?", "answer": "A bus."},
]
WORDS = [f"{a}{b}" for a in ("stone", "river", "lamp", "tower") for b in ("gate", "light", "side", "path", "mill")]


def new_text(number: int, body: dict[str, Any] | None = None) -> str:
    """A text of the examples' structure, another for each number."""
    digest = hashlib.sha256(str(number).encode()).digest()
    return f"A photo of {' '.join(f'{WORDS[b % 20]}{b // 20}' for b in digest[:10])}."


def shown(body: dict[str, Any]) -> list[str]:
    """The examples of a request: what the model is told that it wrote before."""
    return [message["content"] for message in body["messages"] if message["role"] == "assistant"]


def recipe(place: Workplace, server: ChatServer, **source: Any) -> Path:
    writer = {"url": server.url, "model": "small", "key": None, "cache": str(place.root / "answers")}
    said = {"type": "written", "count": 20, "examples": EXAMPLES, "at_once": 4} | source
    return place.recipe(kind="text", llm={"writer": writer}, source=said, limits={"failed": 0.9})


def rows(place: Workplace) -> list[dict[str, Any]]:
    return [r for p in sorted(place.out.glob("pool-*/rows/*.parquet")) for r in pq.read_table(p).to_pylist()]


def ingest(outcome: Outcome) -> dict[str, Any]:
    return outcome.steps["ingest"]


def test_a_fourth_is_written_after_three_and_three_of_the_four_are_drawn_next(place: Workplace) -> None:
    with serving(new_text) as server:
        assert place.run(recipe(place, server, at_once=1)).code == 0
    first, *others = server.bodies
    wrote = map(new_text, range(20))
    assert sorted(shown(first)) == sorted(one["text"] for one in EXAMPLES)
    window, left = [*shown(first), next(wrote)], Counter[int]()
    for body in others:
        assert len(set(shown(body))) == 3 and set(shown(body)) <= set(window)
        left[next(at for at, text in enumerate(window) if text not in shown(body))] += 1
        window = [*shown(body), next(wrote)]
    assert len(left) > 1, "which one is left out is drawn"


def test_a_growing_pool_draws_from_all_that_came_before(place: Workplace) -> None:
    with serving(new_text) as server:
        assert place.run(recipe(place, server, draw_from="pool", count=60, at_once=2)).code == 0
    wrote = [one["text"] for one in EXAMPLES] + [new_text(number) for number in range(60)]
    ages = [number + 3 - wrote.index(text) for number, body in enumerate(server.bodies) for text in shown(body)]
    assert max(ages) > 30 and min(ages) <= 3


@pytest.mark.slow
def test_texts_are_the_same_with_any_number_of_workers_and_after_a_kill(place: Workplace) -> None:
    slowly: Callable[[int, dict[str, Any]], Reply] = lambda n, body: Reply(  # noqa: E731
        body=completion(new_text(n)), after_s=0.02
    )
    with serving(slowly) as server:
        path = recipe(place, server, count=60)
        killed = place.start("run", path, "--inline")
        until = time.monotonic() + 60
        while server.requests < 24 and time.monotonic() < until:
            time.sleep(0.01)
        kill_group(killed)
        killed.communicate()
        assert 24 <= server.requests < 60 and not list(place.out.glob("pool-*/plans/*/plan.json"))
        found = []
        for number, workers in enumerate((["--inline"], ["--workers", "2"])):
            assert place.command("run", path, *workers, "--set", f"out={place.root}/out{number}").code == 0
            place.out = place.root / f"out{number}"
            found.append(place.published())
        assert found[0] == found[1]
        assert server.requests <= 60 + 4, "what was on its way when it was killed, and nothing else, is sent again"


def test_every_rejected_attempt_is_a_row_with_a_named_error(place: Workplace) -> None:
    bad: dict[int, Any] = {
        3: "I'm sorry, but I cannot write that.",
        4: "Here is the fourth example: A photo of a cat.",
        5: "A photo.",
        6: "A photo of " + "many things " * 40,
        7: EXAMPLES[0]["text"].replace("brown", "black"),
        8: Reply(400, error("Invalid value")),
        9: Reply(body=completion("A photo of", finish="length")),
        10: Reply(body=completion("", finish="stop")),
    }
    with serving(lambda n, body: bad.get(n, new_text(n))) as server:
        done = ingest(place.run(recipe(place, server, at_once=1)))
        named = dict.fromkeys(("refusal", "meta_talk", "too_short", "too_long", "near_duplicate", "request_refused"), 1)
        assert done["in"] == server.requests == done["kept"] + sum(done["failed"].values()) and done["kept"] == 20
        empty = set(done["failed"]) - set(named) - {"cut_by_length"}
        assert done["failed"] == named | {"cut_by_length": 1} | dict.fromkeys(empty, 1) and len(empty) == 1
    told = {row["error"]: row["detail"] for row in rows(place)}
    assert told["near_duplicate"] == "ROUGE-L 0.93 with example 1"
    assert told["too_short"] == "text: 2 words"


def test_questions_and_answers_have_their_parts_or_are_of_another_structure(place: Workplace) -> None:
    def script(number: int, body: dict[str, Any]) -> str:
        assert shown(body)[0].startswith("Context: ") and "\nQuestion: " in shown(body)[0]
        words = new_text(number).split()[3:8]
        if number == 1:
            return "Context: A dog.\nAnswer: A dog."
        if number == 2:
            return f"Context: {' '.join(words)}.\nQuestion: What is it?\nAnswer:"
        return f"```\nContext: {' '.join(words)}.\nQuestion: Where {words[0]}?\nAnswer: There {words[1]}.\n```"

    with serving(script) as server:
        path = recipe(place, server, examples=ASKED, count=6, at_once=3)
        assert ingest(place.run(path))["failed"] == {"wrong_structure": 2}
    kept = next(row for row in rows(place) if row["error"] is None)
    meta = json.loads(kept["meta"])
    assert kept["text"] == "Context: {context}\nQuestion: {question}\nAnswer: {answer}".format(**meta)
    assert meta["text_by"]["model"] == "small" and meta["text_by"]["prompt"] == "tomgpt"
    assert sorted(meta["examples"]) == ["example 1", "example 2", "example 3"]


def test_each_topic_has_its_number_of_texts(place: Workplace) -> None:
    def script(number: int, body: dict[str, Any]) -> str:
        return "No." if number % 3 == 0 else new_text(number)

    with serving(script) as server:
        assert place.run(recipe(place, server, topics=["sea", "bread", "snow"], count=20)).code == 0
    kept = Counter(json.loads(row["meta"])["topic"] for row in rows(place) if row["error"] is None)
    assert kept == {"sea": 7, "bread": 7, "snow": 6}


def test_a_model_that_only_repeats_itself_ends_the_run_and_nothing_is_asked_twice(place: Workplace) -> None:
    snow = itertools.count()

    def script(number: int, body: dict[str, Any]) -> str:
        repeats = "snow" in body["messages"][-1]["content"] and next(snow) < 12
        return EXAMPLES[0]["text"] if repeats else new_text(number)

    with serving(script) as server:
        path = recipe(place, server, topics=["sea", "snow"], tries=5)
        told = place.run(path)
        wanted = (
            "4 of 20 texts came; of topic 'snow' 0 of 10",
            "near_duplicate 8",
            "tries: 5",
            "leave such topics out",
        )
        assert told.code == 1 and all(words in told.stderr for words in wanted), told.stderr
        asked = server.requests
        assert asked < 20
        assert place.run(path).stderr == told.stderr and server.requests == asked
        done = ingest(place.run(path, "--set", "source.tries=20"))
        assert done["kept"] == 20 and done["failed"] == {"near_duplicate": 12}
        assert server.requests == 20 + 12


def test_more_texts_are_written_after_those_that_are_there(place: Workplace) -> None:
    with serving(new_text) as server:
        assert place.run(recipe(place, server, count=20)).code == 0
        few = {row["uid"] for row in rows(place)}
        assert ingest(place.run(recipe(place, server, count=40)))["computed"] == 20
        assert server.requests == 40 and few < {row["uid"] for row in rows(place)}


def test_a_dry_run_asks_nothing_and_says_what_would_be_asked(place: Workplace) -> None:
    with serving(new_text) as server:
        found = place.run(recipe(place, server), "--dry-run")
        assert server.requests == 0
    assert found.code == 0 and "20 texts are to be written by small" in found.json["remarks"][0]


def test_examples_of_two_structures_are_refused_before_anything_is_asked(place: Workplace) -> None:
    with serving(new_text) as server:
        errors(place.run(recipe(place, server, examples=[*EXAMPLES, ASKED[0]])), ["examples.3", "context, question"])
        errors(place.run(recipe(place, server, examples=EXAMPLES[:2])), ["source.examples", "3"])
        errors(place.run(recipe(place, server, llm="reader")), ["source.llm", "reader", "writer"])
        assert server.requests == 0
