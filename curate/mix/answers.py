"""Answers of conversations: how short they are, and the prompts that tell a model to be short.

Trained on bare one-word answers, a model answers everything in a word (Cambrian-1, Tong et al. 2406.16860, 5.3, calls
it the answer machine). Its remedy is a format prompt a data set, which stands here as published.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHORT_WORDS = 3
"""An answer of at most so many words is a short one."""

FORMAT_PROMPTS: Mapping[int, str] = {
    1: "Answer the question using a single word or phrase.",
    2: "Answer the question using a single number or phrase.",
    3: "Answer with the option's letter from the given choices directly.",
    4: "Give the short answer directly.",
    5: "Answer the question using a single word or phrase.",
    6: "When the provided information is insufficient, respond with <no answer>.",
    7: "Directly provide the HTML code.",
    8: "First show your reasoning process and then give the final answer.",
    9: "When the provided information is insufficient, respond with 'Unanswerable'."
    " Answer the question using a single word or phrase.",
    10: "Answer with the letter.",
}
"""The ten of Cambrian-1's appendix, verbatim, by its numbers; its fifth is its first."""

DATASET_PROMPTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("sketchyvqa", "oodvqa", "dvqa", "ai2d", "clevr", "tallyqa", "pathvqa"), (1,)),
    **dict.fromkeys(("hitab", "wtq", "wikisql", "raven"), (1,)),
    **{"vizwiz": (9,), "chartqa": (2,), "docvqa": (4,), "qinstruct": (1, 3), "screenqa": (6, 1), "iconqa": (1, 10)},
    **{"intergps": (10,), "tqa": (10,), "visual7w": (3,), "mathinstruct": (8,), "design2code": (7,)},
}
"""The prompts that Cambrian-1 gives each of its data sets. Of two, which are for letters goes to answers that are."""

_OF_LETTERS = (3, 10)
_CUE = re.compile(
    r"\b(?:in|with|using|by|give|only|just) (?:(?:a|an|one|only|just|your|its|the) )*(?:single )?"
    r"(?:word|number|letter|phrase)s?\b"
    r"|\b(?:word|number|name) or (?:short )?phrase\b|\bshort(?:est)? (?:answer|reply|phrase|response)"
    r"|\b(?:shortly|briefly|concisely|tersely)\b|\b(?:be|answer|it|reply) (?:brief|short|concise|terse)\b"
    r"|\bin (?:short|brief)\b"
    r"|\boption'?s? letter|\bletter of (?:the|your)\b|\byes or no\b|\btrue or false\b|\banswer directly\b"
    r"|\bonly (?:the|a) (?:answer|name|word|number|letter)\b|\bunanswerable\b|<no answer>"
)
_LETTER = re.compile(r"\(?[A-Za-z]\)?[.:]?")
_NUMBER = re.compile(r"[-+$€£]?\d[\d.,]*\s?%?")


@dataclass(frozen=True)
class Answers:
    """Counts of a conversation's answers: all of them, the short ones, letters, numbers.

    `words`: of all short ones. `longest`: the words of the longest answer. `prompted`: whether its
    questions, or what its system is told, ask for short ones.
    """

    count: int = 0
    short: int = 0
    words: int = 0
    longest: int = 0
    letters: int = 0
    numbers: int = 0
    unanswerable: int = 0
    prompted: bool = False

    @property
    def bare(self) -> bool:
        """Whether most answers are short, and nothing says why."""
        return 2 * self.short > self.count and not self.prompted


def measure_answers(segments: Iterable[Mapping[str, Any]], short_words: int = SHORT_WORDS) -> Answers:
    """Measure the answers of a conversation's segments (curate.document.segments, or a published sample's)."""
    turns: list[tuple[str, str]] = []
    for segment in segments:
        if segment.get("type") == "text":
            block, text = str(segment.get("block")), str(segment.get("text"))
            if turns and turns[-1][0] == block:
                text = f"{turns.pop()[1]} {text}"
            turns.append((block, text))
    answers = [text.strip() for block, text in turns if block == "answer"]
    words = [len(text.split()) for text in answers]
    return Answers(
        len(answers),
        sum(n <= short_words for n in words),
        sum(n for n in words if n <= short_words),
        max(words, default=0),
        sum(_LETTER.fullmatch(text) is not None for text in answers),
        sum(_NUMBER.fullmatch(text) is not None for text in answers),
        sum(text.casefold().strip(".<>") in ("unanswerable", "no answer") for text in answers),
        any(asks_for_short(text) for block, text in turns if block in ("question", "system")),
    )


def asks_for_short(text: str) -> bool:
    """Whether a text says that an answer shall be short, or in which form: one of the ten prompts, or words like it."""
    lower = text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return _CUE.search(lower) is not None or any(prompt.casefold() in lower for prompt in FORMAT_PROMPTS.values())


def pool_answers(found: Sequence[Answers]) -> Answers:
    """Those of several conversations together; they are prompted where all of them are."""
    return Answers(
        sum(each.count for each in found),
        sum(each.short for each in found),
        sum(each.words for each in found),
        max((each.longest for each in found), default=0),
        sum(each.letters for each in found),
        sum(each.numbers for each in found),
        sum(each.unanswerable for each in found),
        all(each.prompted for each in found),
    )


def format_prompt(answers: Answers, dataset: str = "") -> str:
    """The prompt for a source of such answers: that of the data set of this name, where Cambrian-1 names it.

    Else by what most answers are: letters, numbers, or words; another where some say that there is no answer, or where
    short answers have more than two words on average.
    """
    letters = 2 * answers.letters > answers.count
    listed = published_prompts(dataset)
    fitting = [n for n in listed if (n in _OF_LETTERS) == letters] or listed
    if not fitting:
        fitting = [_by_kind(answers, letters)]
    return " ".join(FORMAT_PROMPTS[n] for n in fitting)


def published_prompts(dataset: str) -> tuple[int, ...]:
    """The numbers of the prompts that Cambrian-1 gives a data set; none where it names none of that name."""
    return DATASET_PROMPTS.get(re.sub(r"[^a-z0-9]", "", dataset.casefold()), ())


def _by_kind(answers: Answers, letters: bool) -> int:
    if letters:
        return 3
    if answers.unanswerable:
        return 9
    if 2 * answers.numbers > answers.count:
        return 2
    return 4 if answers.words > 2 * answers.short else 1
