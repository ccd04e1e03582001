"""Name what is wrong with a fusion, the sentence that a model made of an alt text and a caption.

Pure functions of the three texts, in time that grows with their length. A fault is one of FAULTS, which are in the
order in which they are looked for: a refusal has lost every name, too, and is a refusal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from curate.text.characters import codes_of, script_of
from curate.text.english import english_share
from curate.text.function_words import FUNCTION_WORDS
from curate.text.model_talk import declines_in, find_meta_talk, find_refusal
from curate.text.names import SpokenWords, names_in
from curate.text.numbers import known_numbers, numbers_in
from curate.text.orders import PartedOrders, has_orders, part_orders
from curate.text.words import plain_words

LabelLanguage = Callable[[str], tuple[str | None, float | None]]
"""Tells a text's language (ISO 639) and its probability; neither without a letter."""

MOST_CHARACTERS = 20_000
"""A longer answer is too long, and nothing else is looked for; of a longer alt text or caption the rest is not read."""

_ARTICLES = frozenset({"a", "an", "the", "this", "that", "of"})
_JOINS = frozenset({"and", "also", "plus", "or", "then", "und", "et", "y", "e", "en", "i", "и"})
_FRAME = frozenset(
    {"photo", "photograph", "image", "picture", "drawing", "illustration", "showing", "shows", "depicting", "depicts"}
)
"""What names no thing that is seen: `a photo of`."""
_HAN = frozenset({"Hani", "Jpan"})
_LIKE = 0.85
_NEAR = 0.9
_GROUNDED = 0.5
_HEADING, _HEADING_WORDS = 60, 5
_SURE, _SURER = 0.5, 0.9
"""Probabilities from which a label counts; other scripts have told most of it already, and few words the rest."""
_ENOUGH_WORDS = 3
_ENGLISH = 0.4
_ALWAYS, _SPARE_WORDS = 16, 6
_GROWTH = 1.25
_SHRINKAGE = 0.5
_SHORT = 6


@dataclass(frozen=True)
class WordBounds:
    """Words that a fusion has at least and at most."""

    min_words: int = 3
    max_words: int = 60


class Fusion:
    """An alt text, a caption, and what was made of both: read once, for all faults."""

    def __init__(self, alt: str, caption: str, text: str, label: LabelLanguage, lengths: WordBounds) -> None:
        self.alt, self.caption, self.text = alt[:MOST_CHARACTERS], caption[:MOST_CHARACTERS], text[:MOST_CHARACTERS]
        self.is_endless = len(text) > MOST_CHARACTERS
        self.label, self.lengths = label, lengths

    @cached_property
    def orders(self) -> PartedOrders:
        """The alt text, parted into what it says and what it orders."""
        return part_orders(self.alt)

    @cached_property
    def words(self) -> list[str]:
        """The fusion's words."""
        return plain_words(self.text).tokens

    @cached_property
    def alt_words(self) -> list[str]:
        """The words of what the alt text says."""
        return plain_words(self.orders.content).tokens

    @cached_property
    def caption_words(self) -> list[str]:
        """The caption's words."""
        return plain_words(self.caption).tokens


def find_faults(
    alt: str,
    caption: str,
    text: str,
    label: LabelLanguage,
    lengths: WordBounds = WordBounds(),
) -> list[str]:
    """Every fault of a fusion, in the order of FAULTS."""
    fusion = Fusion(alt, caption, text, label, lengths)
    if fusion.is_endless:
        return ["too_long"]
    return [name for name, is_at_fault in FAULTS.items() if is_at_fault(fusion)]


def find_fault(
    alt: str,
    caption: str,
    text: str,
    label: LabelLanguage,
    lengths: WordBounds = WordBounds(),
) -> str | None:
    """The first fault of a fusion, or None."""
    fusion = Fusion(alt, caption, text, label, lengths)
    if fusion.is_endless:
        return "too_long"
    return next((name for name, is_at_fault in FAULTS.items() if is_at_fault(fusion)), None)


def _is_obeyed(fusion: Fusion) -> bool:
    """The alt text gives an order, and the answer says what it asked for, or what neither text says."""
    if not fusion.orders.orders or has_orders(fusion.text):
        return False
    said, known = _stems(fusion.words), _stems([*fusion.alt_words, *fusion.caption_words])
    if any((asked := _stems(plain_words(one).tokens) - known) and asked <= said for one in fusion.orders.asked):
        return True
    return _grounded(fusion) < _GROUNDED


def _is_refusal(fusion: Fusion) -> bool:
    """Words of a refusal; or a no, or an I, in an answer that says hardly anything of either text."""
    if find_refusal(fusion.text, (fusion.alt, fusion.caption)) is not None:
        return True
    given = {*fusion.alt_words, *fusion.caption_words}
    declines = declines_in([word for word in fusion.words if word not in given])
    return declines and _grounded(fusion) < _GROUNDED and not _is_too_long(fusion)


def _is_meta_talk(fusion: Fusion) -> bool:
    """Words about the task; or a heading before a colon of which neither text has a word."""
    if find_meta_talk(fusion.text, (fusion.alt, fusion.caption)) is not None:
        return True
    heading, colon, _ = fusion.text[:_HEADING].partition(":")
    words = plain_words(heading).tokens
    known = {*fusion.alt_words, *fusion.caption_words}
    return bool(colon and words) and known.isdisjoint(words) and len(words) <= _HEADING_WORDS


def _grounded(fusion: Fusion) -> float:
    """Share of what the answer says that the alt text or the caption says."""
    said = _stems(fusion.words)
    known = _stems([*fusion.alt_words, *fusion.caption_words])
    return len(said & known) / len(said) if said else 0.0


def _is_wrong_language(fusion: Fusion) -> bool:
    """The answer is in another language than the caption, and than the alt text if the caption's cannot be told."""
    if _other_script(fusion):
        return True
    own = _language(fusion.text, fusion.words, fusion.label)
    given = _language(fusion.caption, fusion.caption_words, fusion.label)
    if given is None and script_of(codes_of(fusion.text)) == "Latn":
        given = _language(fusion.alt, fusion.alt_words, fusion.label)
    if given == "en" and own in (None, "en"):
        return _has_no_english(fusion)
    return None not in (own, given) and own != given


def _has_no_english(fusion: Fusion) -> bool:
    """Whether of what the answer does not have from the alt text hardly a word is English: a rare language."""
    taken = set(fusion.alt_words)
    new = [word for word in fusion.words if word not in taken and not word.isdigit()]
    return len(new) >= _ENOUGH_WORDS and english_share(new) < _ENGLISH


def _other_script(fusion: Fusion) -> bool:
    """Whether what the answer does not have from the alt text is in another script than the caption."""
    taken = set(fusion.alt_words)
    script = script_of(codes_of(" ".join(word for word in fusion.words if word not in taken)))
    wanted = script_of(codes_of(fusion.caption or fusion.alt))
    return None not in (script, wanted) and script != wanted and not {script, wanted} <= _HAN


def _is_copied(fusion: Fusion) -> bool:
    """The answer is the alt text or the caption, but for articles, signs and case; or nearly, where the other text had
    something to add."""
    for given, other in ((fusion.alt_words, fusion.caption_words), (fusion.caption_words, fusion.alt_words)):
        own, words = _without(fusion.words, _ARTICLES), _without(given, _ARTICLES)
        if own and own == words:
            return True
        said, missing = _content(fusion.words), _stems(other) - _stems(fusion.words)
        added = (_stems(fusion.words) - _stems(given)) & _stems(other)
        if said and missing and not added and _is_near(said, _content(given)):
            return True
    return False


def _is_concatenation(fusion: Fusion) -> bool:
    """The answer is one text behind the other, with a sign or an `and` between them."""
    own, alt, caption = (_without(some, _ARTICLES) for some in (fusion.words, fusion.alt_words, fusion.caption_words))
    if not alt or not caption:
        return False
    return _is_joined(own, alt, caption) or _is_joined(own, caption, alt)


def _is_joined(own: list[str], first: list[str], second: list[str]) -> bool:
    """Whether `own` is `first` and `second` in turn, a word of ten left out or changed; a word more joins them."""
    for cut in range(max(1, len(first) - 1), len(first) + 1):
        rest = own[cut:]
        while rest and rest[0] in _JOINS and rest[0] != second[0]:
            rest = rest[1:]
        whole = 0 <= len(second) - len(rest) <= 1
        if whole and _overlap(own[:cut], first) >= _LIKE and _overlap(rest, second) >= _LIKE:
            return True
    return False


def _is_too_long(fusion: Fusion) -> bool:
    given = len(fusion.alt_words) + len(fusion.caption_words)
    most = max(_ALWAYS, _GROWTH * given + _SPARE_WORDS)
    return len(fusion.words) > min(fusion.lengths.max_words, most)


def _is_too_short(fusion: Fusion) -> bool:
    longer = max(len(fusion.alt_words), len(fusion.caption_words))
    return len(fusion.words) < max(fusion.lengths.min_words, min(_SHORT, _SHRINKAGE * longer))


def _has_invented_numbers(fusion: Fusion) -> bool:
    known = known_numbers(fusion.alt) | known_numbers(fusion.caption)
    if _lists_things(fusion.alt) or _lists_things(fusion.caption):
        known |= {"2"}  # a dog and a cat are two animals
    return any(not number.is_among(known) for number in numbers_in(fusion.text))


def _has_lost_numbers(fusion: Fusion) -> bool:
    known = known_numbers(fusion.text)
    return any(not number.is_among(known) for number in numbers_in(fusion.orders.content))


def _has_lost_names(fusion: Fusion) -> bool:
    spoken = SpokenWords(fusion.text)
    return any(not spoken.have(name) for name in names_in(fusion.orders.content))


FAULTS: dict[str, Callable[[Fusion], bool]] = {
    "order_obeyed": _is_obeyed,
    "refusal": _is_refusal,
    "meta_talk": _is_meta_talk,
    "wrong_language": _is_wrong_language,
    "copied_unchanged": _is_copied,
    "mere_concatenation": _is_concatenation,
    "too_long": _is_too_long,
    "too_short": _is_too_short,
    "lost_numbers": _has_lost_numbers,
    "invented_numbers": _has_invented_numbers,
    "lost_names": _has_lost_names,
}
"""The faults, in the order in which they are looked for."""


def _language(text: str, words: Sequence[str], label: LabelLanguage) -> str | None:
    """The language of a short text, where its function words, or else the model, are clear about it."""
    counts = Counter({name: sum(word in known for word in words) for name, known in FUNCTION_WORDS.items()})
    (best, most), (_, next_most) = counts.most_common(2)
    name, share = label(text)
    if most and (most > next_most or name == best):
        return best if most > 1 or name == best or (share or 0) < _SURE else None
    sure = _SURE if script_of(codes_of(text)) == "Latn" else _SURER
    return name if share is not None and share >= sure and len(words) >= _ENOUGH_WORDS else None


def _lists_things(text: str) -> bool:
    return any(sign in text.casefold() for sign in (" and ", "&", ", "))


def _without(words: Sequence[str], some: frozenset[str]) -> list[str]:
    return [word for word in words if word not in some]


def _content(words: Sequence[str]) -> list[str]:
    return [_stem(word) for word in words if word not in FUNCTION_WORDS["en"] and word not in _FRAME]


def _stems(words: Sequence[str]) -> set[str]:
    """The words that are no function words, without the endings of a plural or a verb."""
    return set(_content(words))


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e") if len(word) > 3 else word


def _is_near(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two texts are of the same words, but for one in ten, however often each stands there."""
    return max(_overlap(some, others), _overlap(sorted(set(some)), sorted(set(others)))) >= _NEAR


def _overlap(some: Sequence[str], others: Sequence[str]) -> float:
    """Words in common, counted, of the words of both on average (Dice)."""
    common = sum((Counter(some) & Counter(others)).values())
    return 2 * common / (len(some) + len(others)) if some or others else 0.0
