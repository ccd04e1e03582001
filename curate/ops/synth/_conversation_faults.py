"""Find what is wrong with a conversation that a model wrote of a picture which it was told of, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from curate.ops.synth._content_words import content_words
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
    r"|\bdescribed so\b|\bin it are\b",
    re.IGNORECASE,
)
_COLOURS = {"red", "orange", "yellow", "green", "blue", "purple", "violet", "pink", "brown", "black", "white", "grey"}
_BARE = {"picture", "image", "photo"}
_YES_OR_NO = re.compile(r"(?:yes|no)\b", re.IGNORECASE)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")
"""A capital within a sentence: in an answer of a model's own, mostly a name."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
MIN_DESCRIPTION = 15
"""A detailed description has at least so many words."""
COPIED_WORDS = 6
"""So many words in a row are no chance."""
MAX_SHORT = 4
"""A short answer has at most so many words: LLaVA's and others' "word or phrase"."""


def find_conversation_fault(turns: Turns, context: str, wanted: int) -> str | None:
    """The first fault of turns about a picture of which `context` was told: refusal, names_its_source, too_few_turns,
    empty_turn, no_question, repeated_question, says_nothing, invented_number, invented_colour, invented_name."""
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
    invented_colour, invented_name."""
    if _REFUSAL.search(text):
        return "refusal"
    if _SOURCE.search(text):
        return "names_its_source"
    if len(text.split()) < MIN_DESCRIPTION:
        return "too_short"
    return _find_invention([("", text)], context)


def find_copy(text: str, prompt: str) -> str | None:
    """Tell of a text that repeats words of the prompt, its example's mostly: copies_prompt."""
    said, known = plain_words(text).tokens, plain_words(prompt).tokens
    runs = {tuple(known[n : n + COPIED_WORDS]) for n in range(len(known) - COPIED_WORDS + 1)}
    copied = any(tuple(said[n : n + COPIED_WORDS]) in runs for n in range(len(said) - COPIED_WORDS + 1))
    return "copies_prompt" if copied else None


def find_long_answer(turns: Turns) -> str | None:
    """Tell of an answer that is more than a word or a phrase: long_answer."""
    return "long_answer" if any(len(answer.split()) > MAX_SHORT for _, answer in turns) else None


def _find_turn_fault(turns: Turns) -> str | None:
    seen: set[tuple[str, ...]] = set()
    for question, answer in turns:
        asked = tuple(plain_words(question).tokens)
        if not asked or not plain_words(answer).tokens:
            return "empty_turn"
        if "?" not in question:
            return "no_question"
        if asked in seen:
            return "repeated_question"
        if not (_YES_OR_NO.match(answer) or content_words(answer) - content_words(question) - _BARE):
            return "says_nothing"
        seen.add(asked)
    return None


def _find_invention(turns: Turns, context: str) -> str | None:
    """Numbers in figures, and colours, in answers, that were not told."""
    said = " ".join(answer for _, answer in turns)
    if set(_NUMBER.findall(said)) - set(_NUMBER.findall(context)):
        return "invented_number"
    colours = _COLOURS & set(plain_words(said).tokens)
    told = set(plain_words(f"{context} {' '.join(question for question, _ in turns)}").tokens)
    if colours - set(plain_words(context).tokens):
        return "invented_colour"
    return "invented_name" if {name.lower() for name in _NAME.findall(said)} - told else None


def grounded_share(turns: Turns, context: str) -> float | None:
    """The share of the answers' content words that were told, or stand in their questions; None without any."""
    shares = [(content_words(answer), content_words(f"{context} {question}")) for question, answer in turns]
    said = sum(len(words) for words, _ in shares)
    return sum(len(words & told) for words, told in shares) / said if said else None
