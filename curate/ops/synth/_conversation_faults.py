"""Find what is wrong with a conversation that a model wrote of a picture which it was told of, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from curate.text.words import plain_words

Turns = Sequence[tuple[str, str]]
"""Questions and answers."""

_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)"
    r"|i (?:can(?:no|')t|do not|don't) (?:see|view|access|help|answer|describe)"
    r"|as an ai\b|language model|i apologi[sz]e)",
    re.IGNORECASE,
)
_SOURCE = re.compile(
    r"\b(?:captions?|bounding box(?:es)?|coordinates?|annotations?|metadata|json)\b"
    r"|\b(?:the|this|your|given|provided) (?:description|context|information|text provided|input|data)\b"
    r"|\blist of objects\b"
    r"|\bwhat is known\b|\b(?:not|isn't|n't) (?:mentioned|specified|provided|stated)\b|\d\.\d\d"
    r"|\bit holds\b|\bof middle size\b",
    re.IGNORECASE,
)
_COLOURS = {"red", "orange", "yellow", "green", "blue", "purple", "violet", "pink", "brown", "black", "white", "grey"}
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
MIN_DESCRIPTION = 15
"""A detailed description has at least so many words."""
MAX_SHORT = 4
"""A short answer has at most so many words: LLaVA's and others' "word or phrase"."""


def find_conversation_fault(turns: Turns, context: str, wanted: int) -> str | None:
    """The first fault of turns about a picture of which `context` was told: refusal, names_its_source, too_few_turns,
    empty_turn, no_question, repeated_question, answer_repeats_question, invented_number, invented_colour."""
    if len(turns) < min(wanted, 2):
        return "too_few_turns"
    said = " ".join(part for turn in turns for part in turn)
    if _REFUSAL.search(said):
        return "refusal"
    if _SOURCE.search(said):
        return "names_its_source"
    return _find_turn_fault(turns) or _find_invention(turns, context)


def find_description_fault(text: str, context: str) -> str | None:
    """The first fault of a detailed description: refusal, names_its_source, too_short, invented_number,
    invented_colour."""
    if _REFUSAL.search(text):
        return "refusal"
    if _SOURCE.search(text):
        return "names_its_source"
    if len(text.split()) < MIN_DESCRIPTION:
        return "too_short"
    return _find_invention([("", text)], context)


def find_long_answer(turns: Turns) -> str | None:
    """Tell of an answer that is more than a word or a phrase: long_answer."""
    return "long_answer" if any(len(answer.split()) > MAX_SHORT for _, answer in turns) else None


def _find_turn_fault(turns: Turns) -> str | None:
    seen: set[tuple[str, ...]] = set()
    for question, answer in turns:
        asked, answered = (tuple(plain_words(text).tokens) for text in (question, answer))
        if not asked or not answered:
            return "empty_turn"
        if "?" not in question:
            return "no_question"
        if asked in seen:
            return "repeated_question"
        if asked == answered:
            return "answer_repeats_question"
        seen.add(asked)
    return None


def _find_invention(turns: Turns, context: str) -> str | None:
    """Numbers in figures, and colours, in answers, that were not told."""
    said = " ".join(answer for _, answer in turns)
    if set(_NUMBER.findall(said)) - set(_NUMBER.findall(context)):
        return "invented_number"
    colours = _COLOURS & set(plain_words(said).tokens)
    return "invented_colour" if colours - set(plain_words(context).tokens) else None
