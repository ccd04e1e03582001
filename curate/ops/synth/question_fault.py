"""The op question_fault: what is wrong with a question and its answer by a text, without asking a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from curate.ops.spec import Columns, op
from curate.text.words import plain_words

SOUND = "none"
LEAST_GROUNDED = 0.7
"""Of the longer words of an answer, the share that must stand in the text or in the question."""

_OF_TEXT = re.compile(r"\b(?:the|this) (?:text|passage|page|article|section|caption)\b|\baccording to\b", re.IGNORECASE)
_LONG = 4
"""Letters of a word that says something; shorter ones are mostly grammar."""


@op(
    reads=("context", "question", "text"),
    writes={"question_fault": pa.string()},
    version=1,
    batch_size=1024,
    tally=("question_fault",),
)
def question_fault(contexts: Sequence[str], questions: Sequence[str | None], answers: Sequence[str]) -> Columns:
    """The name of what is wrong with a question and its answer by the context, `none` where nothing is, or no question.

    no_question (it ends without a question mark), asks_of_text, answer_in_question (the answer says nothing that the
    question did not), ungrounded (of the answer's words of four letters and more less than .7 stand in the context or
    the question, or one of its numbers does not). Of languages that part words by spaces.
    """
    rows = zip(contexts, questions, answers, strict=True)
    return {"question_fault": [SOUND if q is None else find_fault(q, a, f"{c}\n{q}") for c, q, a in rows]}


def find_fault(question: str, answer: str, known: str) -> str:
    """The name of what is wrong with a question and its answer by all that is known, or `none`."""
    if not question.rstrip().endswith("?"):
        return "no_question"
    if _OF_TEXT.search(question):
        return "asks_of_text"
    said, asked, told = (set(plain_words(text).tokens) for text in (answer, question, known))
    numbers = {word for word in said if any(sign.isdigit() for sign in word)}
    heavy = {word for word in said if len(word) >= _LONG} | numbers
    if heavy and heavy <= asked:
        return "answer_in_question"
    grounded = len(heavy & told) / len(heavy) if heavy else 1.0
    return SOUND if numbers <= told and grounded >= LEAST_GROUNDED else "ungrounded"
