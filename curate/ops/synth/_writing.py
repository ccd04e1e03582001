"""Ask a chat model for texts, look for faults, and ask again by rule: what captions and fusions share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.llm.chat import Answer, ChatRequest, Failure, Message
from curate.llm.prompts import PromptTemplate
from curate.llm.provenance import written_by
from curate.llm.service import Chat
from curate.ops.spec import Failed
from curate.ops.synth._tries import SOUND, waves

CUT = "too_long"
"""The fault of an answer that was cut at `max_tokens`."""

FindFault = Callable[[str], str | None]


@dataclass(frozen=True)
class TextDraws:
    """Settings of sampling. `n` texts a row, each tried up to `tries` times, every time as another draw.

    `seed`: with the row's uid and the draw's number it is the seed that is sent; none is at a temperature of 0, where
    equal requests are one.
    """

    n: int
    tries: int
    seed: int
    temperature: float
    top_p: float
    max_tokens: int

    def request(self, messages: tuple[Message, ...], uid: str, draw: int) -> ChatRequest:
        """The request of one draw."""
        return ChatRequest(messages, self.max_tokens, self._parameters(uid, draw), draw=draw)

    def said(self) -> dict[str, Any]:
        """The parameters that all requests have, as a column of provenance tells them."""
        return {"max_tokens": self.max_tokens, "n": self.n, "seed": self.seed, **self._sampling()}

    def _parameters(self, uid: str, draw: int) -> Mapping[str, Any]:
        return self._sampling() | ({"seed": seed_of(self.seed, uid, draw)} if self.temperature else {})

    def _sampling(self) -> dict[str, Any]:
        return {"temperature": self.temperature} | ({"top_p": self.top_p} if self.top_p < 1 else {})


@dataclass(frozen=True)
class WantedTexts:
    """A row's texts to be written; `find_fault` names what is wrong with one."""

    messages: tuple[Message, ...]
    uid: str
    find_fault: FindFault


@dataclass
class WrittenTexts:
    """A row's texts without a fault, their answers, the draws that were asked for, and the last fault."""

    texts: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    tries: int = 0
    fault: str = SOUND
    failure: Failure | None = None

    def columns(self, prompt: PromptTemplate, draws: TextDraws) -> tuple[Any, list[str] | None, Any, str | None]:
        """The first text, all, the provenance of the first, and the fault; of a row that failed, its error."""
        if self.failure is not None:
            return Failed(self.failure.error, self.failure.detail), None, None, None
        if not self.texts:
            return None, [], None, self.fault
        return self.texts[0], self.texts, written_by(prompt, draws.said(), self.answers[0]), SOUND


def write(chat: Chat, wanted: Sequence[WantedTexts | None], draws: TextDraws) -> list[WrittenTexts]:
    """Write every row's texts; a row that is None wants none. All rows are asked at once, then those at fault again."""
    found = [WrittenTexts() for _ in wanted]
    taken: set[tuple[int, int]] = set()
    slots = [(row, number, one) for row, one in enumerate(wanted) if one is not None for number in range(draws.n)]

    def is_open(slot: tuple[int, int, WantedTexts]) -> bool:
        return slot[:2] not in taken and found[slot[0]].failure is None

    for wave, left in waves(slots, is_open, draws.tries):
        requests = [draws.request(one.messages, one.uid, number + wave * draws.n) for _, number, one in left]
        for (row, number, one), answer in zip(left, chat.ask(requests), strict=True):
            if _take(found[row], one, answer):
                taken.add((row, number))
    return found


def columns_of_texts(
    name: str, written: Sequence[WrittenTexts], prompt: PromptTemplate, draws: TextDraws
) -> dict[str, list[Any]]:
    """The columns of rows' texts: the first as `name`, all as `names`, `name_by` and `name_fault`."""
    rows = [row.columns(prompt, draws) for row in written]
    names = (name, f"{name}s", f"{name}_by", f"{name}_fault")
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _take(row: WrittenTexts, wanted: WantedTexts, answer: Answer | Failure) -> bool:
    """Take an answer into its row; False where it has a fault and may be asked for again."""
    row.tries += 1
    if isinstance(answer, Failure):
        row.failure = answer
        return True
    text = tidy(answer.text)
    fault = CUT if answer.finish == "length" else wanted.find_fault(text)
    if fault is not None:
        row.fault = fault
        return False
    row.texts.append(" ".join(text.split()))
    row.answers.append(answer)
    return True


def tidy(text: str) -> str:
    """A model's answer without space and quotes around it."""
    text = text.strip()
    for first, last in ('""', "“”", "«»", "「」"):
        if len(text) > 1 and text[0] == first and text[-1] == last and first not in text[1:-1]:
            text = text[1:-1].strip()
    return text


def seed_of(seed: int, uid: str, draw: int) -> int:
    """The seed of one draw, below 2^31, whatever batch, worker or machine asks for it."""
    key = hashlib.blake2b(f"{seed}/{uid}/{draw}".encode(), digest_size=4).digest()
    return int.from_bytes(key, "little") >> 1
