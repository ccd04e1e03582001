"""Judge texts: by a chat model against a rubric, and by the words that they share with the alt text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from curate.llm.chat import ChatRequest
from curate.llm.model import ChatModel
from curate.llm.prompts import load_prompt
from curate.llm.provenance import WRITTEN, written_by
from curate.ops._segments import columns_of
from curate.ops.spec import Columns, Count, Failed, Knobs, Natural, Temperature, TextColumn, op
from curate.ops.synth._asking import SoundReply, ask_sound
from curate.ops.synth._content_words import content_words
from curate.ops.synth._tries import SOUND

NO_TEXT = "no_text"


class _Judgement(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    reason: str
    score: Annotated[int, Field(ge=1, le=5)]


@op(
    reads="text",
    writes={
        "judged_score": pa.float32(),
        "judged_reason": pa.string(),
        "judged_fault": pa.string(),
        "judged_by": WRITTEN,
    },
    version=1,
    batch_size=256,
    timeout_s=0,  # every request has its own
    tally=("judged_fault",),
)
class judge_agreement:  # noqa: N801 - ops are named as recipes name them
    """Let a chat model score from 1 to 5 how well a text, of the column `judged`, agrees with the row's alt text.

    `prompt`: the rubric, one of ours by name, or a file of yours with places for `alt` and `text`. The answer is JSON
    by a schema, a reason before the score; at fault, it is asked for again, `tries` times in all, and the score is null
    where every try was. `judged_fault`: the last one's (`none` for none, `no_text` where there is nothing to judge). A
    column, no rule: docs/synthesis.md says how far to trust it. Errors: those of the gateway.
    """

    def __init__(  # noqa: PLR0913 - each is a knob
        self,
        *,
        chat: ChatModel,
        llm: str | None = None,
        judged: TextColumn = "caption",
        prompt: str = "judge-agreement",
        tries: Count = 2,
        max_tokens: Count = 160,
        temperature: Temperature = 0.0,
        seed: Natural = 0,
    ) -> None:
        self._chat, self._prompt, self._tries = chat.connect(), load_prompt(prompt), tries
        self._max_tokens, self._parameters = max_tokens, {"temperature": temperature, "seed": seed}

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the rubric's words."""
        return load_prompt(knobs["prompt"]).digest

    def __call__(self, alts: Sequence[str], judged: Sequence[str | None]) -> Columns:
        """A judgement a row; all of a batch are asked for at once."""
        there = [
            n for n, (alt, text) in enumerate(zip(alts, judged, strict=True)) if alt.strip() and (text or "").strip()
        ]
        requests = [self._request(alts[n], judged[n] or "") for n in there]
        replies = ask_sound(self._chat, requests, _Judgement, lambda n, said: (said, SOUND), self._tries)
        nothing: dict[str, Any] = {"judged_score": None, "judged_reason": None, "judged_by": None}
        found: list[Failed | dict[str, Any]] = [nothing | {"judged_fault": NO_TEXT} for _ in alts]
        for n, reply in zip(there, replies, strict=True):
            found[n] = reply if isinstance(reply, Failed) else self._row(reply)
        return columns_of(found, judge_agreement)

    def _request(self, alt: str, text: str) -> ChatRequest:
        messages = self._prompt.messages({"alt": alt, "text": text})
        return ChatRequest(messages, self._max_tokens, self._parameters)

    def _row(self, reply: SoundReply[_Judgement]) -> dict[str, Any]:
        parameters = self._parameters | {"max_tokens": self._max_tokens}
        return {
            "judged_score": reply.value and float(reply.value.score),
            "judged_reason": reply.value and reply.value.reason,
            "judged_fault": reply.fault,
            "judged_by": reply.answer and written_by(self._prompt, parameters, reply.answer),
        }


@op(
    reads="text",
    writes={"alt_words_found": pa.float32(), "words_from_alt": pa.float32()},
    version=1,
    batch_size=1024,
)
def alt_agreement(alts: Sequence[str], judged: Sequence[str | None], *, column: TextColumn = "caption") -> Columns:
    """Shares of words that a text, of the column `column`, and the row's alt text have in common; no model.

    `alt_words_found`: of the alt text's words, those that the text has; `words_from_alt`: of the text's, those that the
    alt text has. Words are runs of letters and digits in lower case, without English function words and a plural's s.
    Null where a text has none.
    """
    sets = [(content_words(alt), content_words(text or "")) for alt, text in zip(alts, judged, strict=True)]
    both = [len(alt & text) for alt, text in sets]
    return {
        "alt_words_found": [n / len(a) if a and t else None for n, (a, t) in zip(both, sets, strict=True)],
        "words_from_alt": [n / len(t) if a and t else None for n, (a, t) in zip(both, sets, strict=True)],
    }
