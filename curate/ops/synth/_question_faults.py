"""Faults of a question and its answer that a text shows, told without asking a model."""

from __future__ import annotations

import re

from curate.ops.synth._tries import SOUND
from curate.text.words import plain_words

LEAST_GROUNDED = 0.7
"""Of the longer words of an answer, the share that must stand in the text or in the question."""

_OF_TEXT = re.compile(r"\b(?:the|this) (?:text|passage|page|article|section|caption)\b|\baccording to\b", re.IGNORECASE)
_LONG = 4
"""Letters of a word that says something; shorter ones are mostly grammar."""


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
