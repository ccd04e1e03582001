"""Right answers: fuzzy matching, the accuracy of VQA, multiple choice. Pure functions of texts.

Answers are English, as the published rules are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_CUE = re.compile(r".*\banswer(?: is|:)(?: is)?:?", re.DOTALL)
_MARK = re.compile(r"\(([a-z])\)[.:]?\s*|([a-z])[.):]\s+")
_BARE = re.compile(r"\(?([a-z])\)?[.:]?")
_OPTION = re.compile(r"(?:^|(?<=\s))(?:\(([A-Z])\)|([A-Z])[.)])\s+")
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
_NUMBERS |= {"seven": "7", "eight": "8", "nine": "9", "ten": "10"}
_VOTES = 3
"""So many of the other people who agree make an answer wholly right."""


def answer_words(answer: str) -> tuple[str, ...]:
    """Words of an answer that count: lower case, no punctuation, no articles, numbers as digits.

    The rule of VQA's evaluation (Goyal et al. 1612.00837): there words lose and regain their apostrophes by a list of
    contractions, here they lose them on both sides. Of a number, points and commas between digits stay or go as there.
    """
    text = answer.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("'", "")
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    text = re.sub(r"(?<!\d)\.|\.(?!\d)", "", text)
    words = [_NUMBERS.get(word, word) for word in re.sub(r"[^\w.$%:&#*+]+", " ", text).split()]
    return tuple(word for word in words if word not in _ARTICLES) or tuple(words)


def said_answer(answer: str) -> str:
    """The answer in a model's words, in lower case: what comes behind "the answer is", without the mark of an option.

    "(a) Apple" says "apple". As in the evaluation of Cambrian-1 (Tong et al. 2406.16860), which then takes a first
    letter for an option's; here that is `right_choice`'s work.
    """
    text = _CUE.sub("", answer.strip().lower(), count=1).strip()
    rest = _MARK.sub("", text, count=1) if _MARK.match(text) else text
    return rest or text


def fuzzy_match(answer: str, reference: str) -> bool:
    """Whether an answer says what the reference says: "(a) Apple.", "The answer is: an apple" and "apple" are one."""
    wanted = answer_words(reference)
    return bool(wanted) and wanted in (answer_words(answer), answer_words(said_answer(answer)))


def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """Accuracy of VQA (Antol et al. 1505.00468): of each choice of all people but one, matches over 3, at most 1; mean.

    Of ten people one who agrees makes .3, two .6, three .9, four 1. Answers are compared by `fuzzy_match`.
    """
    assert len(people) > 1, "the rule leaves one out"
    agree = [fuzzy_match(answer, person) for person in people]
    total = sum(agree)
    return sum(min(1.0, (total - mine) / _VOTES) for mine in agree) / len(people)


def shown_options(question: str) -> tuple[str, ...]:
    """Options that a question shows behind letters from A on, as "(A) left (B) right" or a line each; or none.

    Whatever follows the last option stays with it.
    """
    parts = _OPTION.split(question)
    letters = [first or second for first, second in zip(parts[1::3], parts[2::3], strict=True)]
    in_order = len(letters) > 1 and letters == list(LETTERS[: len(letters)])
    return tuple(text.strip() for text in parts[3::3]) if in_order else ()


def right_option(reference: str, options: Sequence[str]) -> int | None:
    """Number of the option that a reference names, by its letter or its text; None where it names none."""
    bare = _BARE.fullmatch(reference.strip().lower())
    texts = [answer_words(option) for option in options]
    if answer_words(reference) in texts:
        return texts.index(answer_words(reference))
    number = LETTERS.index(bare[1].upper()) if bare else len(options)
    return number if number < len(options) else None


def chosen_option(answer: str, options: Sequence[str]) -> int | None:
    """Number of the option that an answer names, by its letter ("B", "(b) right", "the answer is B.") or by its text.

    A text names the one option that begins with it: "right" names "right, of the tree". None where none is named, or
    several are.
    """
    text = _CUE.sub("", answer.strip().lower(), count=1).strip()
    found = _BARE.fullmatch(text) or _MARK.match(text)
    letter = next((group for group in found.groups() if group), "") if found else ""
    if letter and LETTERS.index(letter.upper()) < len(options):
        return LETTERS.index(letter.upper())
    words = answer_words(text)
    texts = [answer_words(option) for option in options]
    exact = [n for n, option in enumerate(texts) if option == words]
    named = exact or [n for n, option in enumerate(texts) if words and option[: len(words)] == words]
    return named[0] if len(named) == 1 else None


def right_choice(answer: str, options: Sequence[str], right: int) -> bool:
    """Whether an answer names the right one of a question's options, by letter or by text."""
    return chosen_option(answer, options) == right
