"""Texts that a chat model writes after three of one structure, in waves (TOMGPT; Self-Instruct 2212.10560).

The requests of a wave go out together. They depend on the choices, the seed and the answers of earlier waves alone,
and answers are judged in the order of the requests: the same answers make the same texts, whichever came first.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

from curate.llm.chat import Answer, ChatRequest, Failure, Message
from curate.llm.model import ChatModel
from curate.llm.prompts import PromptTemplate
from curate.llm.structure import Fault, Parts, Structure
from curate.mix.schedule import apportion
from curate.recipe.source import Written
from curate.sample import uid_of
from curate.text.rouge import RougeIndex

SHOWN = 3
"""Examples in a request; of these and what is written after them three are drawn next."""

NO_TOPIC = "any"


@dataclass(frozen=True)
class Demonstration:
    """A text that others are written after: one of the recipe's by its number, or a written one by its uid."""

    name: str
    topic: str | None
    parts: Parts


@dataclass(frozen=True)
class Draft:
    """A text that was asked for, and what came: `parts`, or the fault for which it was rejected.

    `origin`: the model, and the key of the request; `text`: as the model wrote it, where it is at fault.
    """

    uid: str
    origin: str
    text: str
    topic: str | None
    examples: tuple[Demonstration, ...]
    request: ChatRequest
    answer: Answer | Failure
    parts: Parts | None
    fault: Fault | None


class Demonstrations(Protocol):
    """The texts that are drawn from; `place`: the request's in its wave."""

    def draw(self, place: int) -> tuple[Demonstration, ...]:
        """Draw three texts to write another after."""

    def add(self, place: int, drawn: Sequence[Demonstration], written: Demonstration) -> None:
        """Add what was written after the drawn ones."""


class Windows:
    """A window for each place of a wave: the three texts that were shown last and the one that was written after them.

    A window begins with three of the recipe's examples; a rejected text leaves it as it is.
    """

    def __init__(self, examples: Sequence[Demonstration], seed: int) -> None:
        self._examples, self._seed = examples, seed
        self._windows: dict[int, Sequence[Demonstration]] = {}
        self._drawn = Counter[int]()

    def draw(self, place: int) -> tuple[Demonstration, ...]:
        """See `Demonstrations`."""
        self._drawn[place] += 1
        return _draw(self._windows.get(place, self._examples), [self._seed, place, self._drawn[place]])

    def add(self, place: int, drawn: Sequence[Demonstration], written: Demonstration) -> None:
        """See `Demonstrations`."""
        self._windows[place] = (*drawn, written)


class GrowingPool:
    """One pool for all: the recipe's examples and every text that was accepted in earlier waves."""

    def __init__(self, examples: Sequence[Demonstration], seed: int) -> None:
        self._pool, self._seed, self._drawn = list(examples), seed, 0

    def draw(self, place: int) -> tuple[Demonstration, ...]:
        """See `Demonstrations`."""
        self._drawn += 1
        return _draw(self._pool, [self._seed, self._drawn])

    def add(self, place: int, drawn: Sequence[Demonstration], written: Demonstration) -> None:
        """See `Demonstrations`."""
        self._pool.append(written)


def _draw(texts: Sequence[Demonstration], named: Sequence[int]) -> tuple[Demonstration, ...]:
    """Three different texts, by a digest of the numbers that name this draw."""
    chosen: dict[int, Demonstration] = {}
    for number in itertools.count():
        digest = hashlib.blake2b(json.dumps([*named, number]).encode(), digest_size=8).digest()
        at = int.from_bytes(digest, "big") % len(texts)
        chosen.setdefault(at, texts[at])
        if len(chosen) == SHOWN:
            return tuple(chosen.values())
    raise AssertionError


class Quotas:
    """Equal numbers of texts for all topics; None is the topic where none is named.

    The writing is given up when of a topic more than `tries` attempts were rejected for each accepted one and one more:
    at once, so that nothing is paid for which another number of tries would not ask for again.
    """

    def __init__(self, topics: Sequence[str | None], count: int, tries: int) -> None:
        shares = apportion([Fraction(1)] * len(topics), count)
        self._wanted, self._tries = dict(zip(topics, shares, strict=True)), tries
        self.accepted, self.rejected = Counter[str | None](), Counter[str | None]()

    def choose(self, most: int) -> list[str | None]:
        """Choose the topics of the next requests, at most so many: each time the one with the fewest texts."""
        chosen = Counter(self.accepted)
        order: list[str | None] = []
        while len(order) < most and self.given_up is None:
            left = [t for t, wanted in self._wanted.items() if chosen[t] < wanted]
            if not left:
                break
            order.append(min(left, key=chosen.__getitem__))
            chosen[order[-1]] += 1
        return order

    @property
    def given_up(self) -> tuple[str | None, int] | None:
        """The first topic for which the writing is given up, and how many texts were wanted of it."""
        for topic, wanted in self._wanted.items():
            most = self._tries * (self.accepted[topic] + 1)
            if self.accepted[topic] < wanted and self.rejected[topic] > most:
                return topic, wanted
        return None


class Writer:
    """Writes texts after examples until every topic has its number, or one is given up: see `quotas` then."""

    def __init__(self, choices: Written, seed: int, prompt: PromptTemplate, model: ChatModel) -> None:
        self._choices, self._prompt, self._chat = choices, prompt, model.connect()
        self._name, self._known = model.endpoint.name, model.identity()
        given = [_given(number, said) for number, said in enumerate(choices.examples, 1)]
        self._structure = Structure.of([example.parts for example in given])
        self._examples: Demonstrations = (Windows if choices.draw_from == "window" else GrowingPool)(given, seed)
        self._index, self._names = RougeIndex(), list[str]()
        for example in given:
            self._remember(example)
        self._asked = Counter[bytes]()
        self.quotas = Quotas(choices.topics or (None,), choices.count, choices.tries)

    def attempts(self) -> Iterator[Draft]:
        """Every text that was asked for, in order, accepted or not. Raises MachineError where the run ends."""
        while topics := self.quotas.choose(self._choices.at_once):
            drawn = [self._examples.draw(place) for place in range(len(topics))]
            requests = [self._request(three, topic) for three, topic in zip(drawn, topics, strict=True)]
            answers = self._chat.ask(requests)
            for place, (three, topic, request, answer) in enumerate(zip(drawn, topics, requests, answers, strict=True)):
                attempt = self._judge(three, topic, request, answer)
                (self.quotas.accepted if attempt.fault is None else self.quotas.rejected)[topic] += 1
                if attempt.parts is not None:
                    written = Demonstration(attempt.uid, topic, attempt.parts)
                    self._examples.add(place, three, written)
                    self._remember(written)
                yield attempt

    def _request(self, three: Sequence[Demonstration], topic: str | None) -> ChatRequest:
        """The request for one more text; the same words asked again want another answer.

        The examples are turns of the talk, as if the model had written them: the smallest model keeps their structure.
        """
        *system, ask = self._wish(topic)
        turns = [(self._wish(one.topic)[-1], Message("assistant", (self._structure.show(one.parts),))) for one in three]
        messages = (*system, *itertools.chain.from_iterable(turns), ask)
        request = ChatRequest(messages, self._choices.max_tokens, {"temperature": self._choices.temperature})
        said = self._key(request)
        self._asked[said] += 1
        return replace(request, draw=self._asked[said] - 1)

    def _wish(self, topic: str | None) -> tuple[Message, ...]:
        return self._prompt.messages({"topic": topic or NO_TOPIC})

    def _judge(
        self, three: tuple[Demonstration, ...], topic: str | None, request: ChatRequest, answer: Answer | Failure
    ) -> Draft:
        parts = self._read(answer)
        said = "" if isinstance(answer, Failure) else answer.text
        text = said if isinstance(parts, Fault) else self._structure.show(parts)
        origin = f"{self._name}#{self._key(request).hex()[:32]}"
        fault = parts if isinstance(parts, Fault) else None
        found = None if isinstance(parts, Fault) else parts
        return Draft(uid_of("text", origin, text), origin, text, topic, three, request, answer, found, fault)

    def _read(self, answer: Answer | Failure) -> Parts | Fault:
        """A new text's parts, or why there is none: the request's own failure, cut_by_length, near_duplicate, or a
        fault of its structure."""
        if isinstance(answer, Failure):
            return Fault(answer.error, answer.detail)
        if answer.finish == "length":
            return Fault("cut_by_length", f"more than max_tokens: {self._choices.max_tokens}")
        parts = self._structure.read(answer.text)
        if isinstance(parts, Fault):
            return parts
        likest = self._index.likest(_words_of(parts), self._choices.max_rouge_l)
        if likest is None:
            return parts
        return Fault("near_duplicate", f"ROUGE-L {likest[1]:.2f} with {self._names[likest[0]]}")

    def _remember(self, example: Demonstration) -> None:
        self._index.add(_words_of(example.parts))
        self._names.append(example.name)

    def _key(self, request: ChatRequest) -> bytes:
        return request.key(self._known["url"], self._known["model"])


def _given(number: int, said: Parts) -> Demonstration:
    """An example of the recipe's; its `topic`, if it has one, is no part of its text."""
    return Demonstration(
        f"example {number}", said.get("topic"), {name: t for name, t in said.items() if name != "topic"}
    )


def _words_of(parts: Parts) -> str:
    return "\n".join(parts.values())
