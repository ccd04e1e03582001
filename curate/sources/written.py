"""Texts that a chat model writes after examples: the rows of a source that is written rather than read.

They are written while the source is planned, by the run's driver: every attempt is a row, one that was rejected with
its named error. Answers are kept as they come, so that a plan that was cut short is made again from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curate import strict_json
from curate.extras import require
from curate.llm.chat import Answer
from curate.llm.model import ChatModel
from curate.llm.prompts import load_prompt
from curate.llm.provenance import written_by
from curate.llm.structure import Fault
from curate.recipe.source import Written
from curate.sources.rows import Row, SourceError
from curate.sources.self_instruct import Draft, Quotas, Writer
from curate.sources.texts import load_rows

__all__ = ["Writing", "identity", "load_rows", "plan_rows"]


@dataclass(frozen=True)
class Writing:
    """A source's choices with what the recipe says beside them: the chat model that writes, and the seed."""

    choices: Written
    chat: ChatModel
    seed: int


def identity(source: Writing) -> Any:
    """The identity of all that could change the texts besides the source's own choices, and how many are wanted."""
    choices = source.choices
    prompt = load_prompt(choices.prompt).digest
    return [choices.count, choices.tries, source.seed, prompt, source.chat.identity()]


def plan_rows(source: Writing) -> Iterator[Row | str]:
    """Plan a row for each attempt. Raises SourceError where the texts that are wanted do not come."""
    require("source.type written", "rapidfuzz")
    prompt = load_prompt(source.choices.prompt)
    faults = Counter[str]()
    writer = Writer(source.choices, source.seed, prompt, source.chat)
    for attempt in writer.attempts():
        faults[attempt.fault.error if attempt.fault else ""] += 1
        yield _row(attempt, prompt)
    if writer.quotas.given_up is not None:
        raise SourceError(_given_up(source.choices, writer.quotas, faults))
    rejected = faults.total() - faults[""]
    yield f"{faults['']} texts were written in {faults.total()} attempts; {rejected} were rejected"


def _row(attempt: Draft, prompt: Any) -> Row:
    fault = attempt.fault or Fault("", "")
    meta: dict[str, Any] = {"topic": attempt.topic} if attempt.topic is not None else {}
    if attempt.parts is not None and len(attempt.parts) > 1:
        meta |= attempt.parts
    meta |= {"examples": [example.name for example in attempt.examples]}
    if isinstance(attempt.answer, Answer):
        parameters = {**attempt.request.parameters, "max_tokens": attempt.request.max_tokens}
        meta |= {"text_by": written_by(prompt, parameters, attempt.answer)}
    row = {"uid": attempt.uid, "origin": attempt.origin, "text": attempt.text, "meta": strict_json.dumps(meta)}
    return row | {"error": fault.error or None, "detail": fault.detail or None}


def _given_up(choices: Written, quotas: Quotas, faults: Counter[str]) -> str:
    """Why texts are missing, and what to do."""
    assert quotas.given_up is not None
    (topic, wanted), accepted, rejected = quotas.given_up, quotas.accepted.total(), quotas.rejected.total()
    why = ", ".join(f"{error} {count}" for error, count in faults.most_common(6) if error)
    of = "" if topic is None else f"; of topic {topic!r} {quotas.accepted[topic]} of {wanted}"
    less = f"take what came (source.count: {accepted})" if topic is None else "leave such topics out"
    return (
        f"source 'written': {accepted} of {choices.count} texts came{of}. {rejected} attempts were rejected ({why}),"
        f" and tries: {choices.tries} allows no more. Every answer is kept, none is asked for again: raise source.tries"
        f" or max_rouge_l, mend the examples or the prompt, take a better model, or {less}"
    )
