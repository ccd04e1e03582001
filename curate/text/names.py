"""Find the proper names of a text where capitals tell them, and where they tell nothing.

Nearly half of the web's alt texts are in Title Case, and others in capitals or in none: there a name is what a list of
English words knows as one (SCOWL, by way of Debian's wamerican), or does not know at all among words that it knows.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from curate.text.english import is_ever_name, is_name_alone, is_word, may_be_name
from curate.text.file_names import is_file_name_like
from curate.text.function_words import FUNCTION_WORDS
from curate.text.unspaced import space_out

Style = Literal["sentence", "title", "capitals", "small"]

_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S{1,2048}|[\w.+-]{1,64}@[\w-]{1,64}\.\S{1,255}", re.IGNORECASE)
_BEGINS = re.compile(r"(?:[.!?:;|/\"“”«»()\[\]{}–—•]|\s-)[\s\"'“‘«(\[]*$")
"""What stands before a word that begins a sentence, or what a title has instead of one."""
_LOOK_BACK = 8
_OWNER = re.compile(r"['’]s$")
_LONGEST_FILE_NAME = 255
_TITLE_SHARE = 0.8
_KNOWN_SHARE = 0.5
_FEW = 2
_RARELY_TITLES = frozenset({"CYRILLIC", "GREEK", "ARMENIAN"})
"""Scripts in which a capital within a sentence tells a name, since nobody writes titles with one for every word."""
_CAPITAL_NOUNS = frozenset({"de", ""})
"""Languages that write every noun with a capital, and those that are not known."""

_NOISE_WORDS = """
    b w bw hd uhd fhd hq png svg jpg jpeg gif webp pdf eps psd ai raw rgb cmyk diy tv pc led lcd cd dvd usb ok id xl xxl
    vs nr no vol ed mr mrs ms dr prof sir madam st jr sr inc ltd co corp gmbh llc www com net org html http https
    clipart cliparts wallpaper wallpapers vector vectors stock photo photos photograph image images picture pictures pic
    pics img icon icons logo thumbnail screenshot download downloads free royalty premium sale website online fotolia
    shutterstock istock istockphoto gettyimages getty alamy dreamstime depositphotos freepik pinterest etsy ebay flickr
    openclipart wikimedia wikipedia unsplash pexels pixabay amazon facebook instagram closeup"""
_NOISE = frozenset(_NOISE_WORDS.split())
"""Marks of formats, offers and sites, and titles before a name: a text that leaves them out has lost no name."""

_SAME = (
    ("usa", "us", "u.s", "america", "american", "united"), ("uk", "britain", "british", "united"),
    ("nyc", "ny", "york"), ("la", "los"), ("uae", "emirates"), ("ussr", "soviet"), ("eu", "european", "europe"),
    ("france", "french"), ("spain", "spanish", "spaniard"), ("netherlands", "dutch", "holland"), ("england", "english"),
    ("wales", "welsh"), ("greece", "greek"), ("denmark", "danish", "dane"), ("switzerland", "swiss"),
    ("germany", "german"), ("ireland", "irish"), ("thailand", "thai"), ("turkey", "turkish"), ("poland", "polish"),
    ("norway", "norwegian"), ("portugal", "portuguese"), ("xmas", "christmas"), ("st", "saint"), ("mt", "mount"),
)  # fmt: skip
"""Words that stand for each other."""
_ADJECTIVES = ("n", "an", "ian", "ean", "ese", "ish", "ic", "i", "er", "s", "es", "ns", "ians")
_LEAST_STEM = 4


@dataclass(frozen=True)
class Name:
    """A word of a proper name as it is written, and its neighbours, with which it may be written as one.

    `is_guest`: its script is not the text's, so that it is written alike in every language.
    """

    written: str
    before: str = ""
    after: str = ""
    is_guest: bool = False


@dataclass(frozen=True)
class _Token:
    word: str
    plain: str
    begins: bool

    @property
    def is_capital(self) -> bool:
        return self.word[0].isupper() or self.word[0].istitle()

    @property
    def is_acronym(self) -> bool:
        return len(self.word) > 1 and self.word.isupper()

    @property
    def is_mixed(self) -> bool:
        """Whether it has a capital within, as iPhone and McDonald."""
        return any(map(str.isupper, self.word[1:])) and not self.word.isupper() and "'" not in self.word[:3]


def names_in(text: str) -> list[Name]:
    """The words of proper names in a text, in order. In scripts without capitals none are told."""
    tokens = list(_tokens(unicodedata.normalize("NFKC", _ADDRESS.sub(" ", space_out(text))).strip()))
    if not tokens:
        return []
    scripts = [_script(token.word) for token in tokens]
    home, told = _home(scripts), _told(tokens)
    words = ["", *(token.plain for token in tokens), ""]
    return [
        Name(token.word, words[number], words[number + 2], scripts[number] != home)
        for number, (token, is_name) in enumerate(zip(tokens, told, strict=True))
        if is_name
    ]


class SpokenWords:
    """The words of a text, to look names up in."""

    def __init__(self, text: str) -> None:
        words = [fold(match[0]) for match in _TOKEN.finditer(space_out(unicodedata.normalize("NFKC", text)))]
        self._words = {form for word in words for form in (word, word.rstrip("s"))}
        self._words |= {first + second for first, second in pairwise(words)}
        self._words |= {a + b + c for a, b, c in zip(words, words[1:], words[2:], strict=False)}
        self._stems = {word[:_LEAST_STEM] for word in self._words}
        self._scripts = {_script(word) for word in words if word}

    def have(self, name: Name) -> bool:
        """Whether a name is among the words, whatever its case, accents, ending or spacing; also one whose script the
        text does not use, which cannot be told."""
        word = fold(name.written)
        if not word or (not name.is_guest and _script(word) not in self._scripts):
            return True
        forms = {word, word.rstrip("s"), f"{word}s", f"{fold(name.before)}{word}", f"{word}{fold(name.after)}"}
        return not forms.isdisjoint(self._words) or self._has_kin(word)

    def _has_kin(self, word: str) -> bool:
        """Whether what the name is to its people, its country or its language is said: Italy, Italian."""
        if any(word in same and not self._words.isdisjoint(same) for same in _SAME):
            return True
        if len(word) <= _LEAST_STEM or word[:_LEAST_STEM] not in self._stems:
            return False
        stem = word.rstrip("aeiouy")
        return any(
            f"{root}{end}" in self._words
            for root in (word, stem, stem[:-1])
            for end in _ADJECTIVES
            if len(root) >= _LEAST_STEM
        )


def fold(word: str) -> str:
    """A word in small letters, without accents, apostrophes and what follows them."""
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    return re.sub(r"['’]s?$|['’]", "", word.casefold())


def _tokens(text: str) -> Iterator[_Token]:
    for chunk in re.finditer(r"\S+", text):
        if len(chunk[0]) <= _LONGEST_FILE_NAME and is_file_name_like(chunk[0].strip("()[],;:")):
            continue
        for match in _TOKEN.finditer(text, chunk.start(), chunk.end()):
            before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
            begins = not match.start() or _BEGINS.search(before) is not None
            yield _Token(match[0], _OWNER.sub("", match[0].lower()), begins)


def _style(tokens: Sequence[_Token]) -> Style:
    """How a text uses its capitals, by the words that are no function words."""
    cased = [
        t
        for t in tokens
        if t.word.lower() != t.word.upper() and t.plain not in FUNCTION_WORDS["en"] and len(t.word) > 1
    ]
    capital = sum(token.is_capital for token in cased)
    if not any(token.is_capital for token in cased[1:]) and (len(cased) > 1 or not capital):
        return "small"
    if all(token.is_acronym for token in cased):
        return "capitals"
    small = len(cased) - capital
    return "sentence" if small >= _FEW and capital < _TITLE_SHARE * len(cased) else "title"


def _told(tokens: Sequence[_Token]) -> list[bool]:
    """Whether each word is of a name."""
    home = _home([_script(token.word) for token in tokens])
    style, language = _style(tokens), _language(tokens) if home == "LATIN" else ""
    told = [_by_list(token, style, language) for token in tokens]
    if style != "capitals":
        told = [known or more for known, more in zip(told, _by_capitals(tokens, style, language, home), strict=True)]
    near, by_maker = [False, *told, False], _makers(tokens, style)
    return [
        known or by_maker[number] or (_may_be(token, style) and (near[number] or near[number + 2]))
        for number, (known, token) in enumerate(zip(told, tokens, strict=True))
    ]


def _makers(tokens: Sequence[_Token], style: Style) -> list[bool]:
    """Whether a word is of two that may be names, with a capital each, behind `by`: `By Terry Brown`."""
    told = [False] * len(tokens)
    for number, (by, first, last) in enumerate(zip(tokens, tokens[1:], tokens[2:], strict=False)):
        names = style != "capitals" and all(
            t.is_capital and (is_ever_name(t.plain) or not is_word(t.plain)) for t in (first, last)
        )
        if by.plain == "by" and names:
            told[number + 1] = told[number + 2] = True
    return told


def _by_capitals(tokens: Sequence[_Token], style: Style, language: str, home: str) -> list[bool]:
    """Whether a capital tells a name, word by word, as the text's script and language have it."""
    small = sum(not token.is_capital for token in tokens)
    if home != "LATIN":
        clear = home not in _RARELY_TITLES or small > 0
        return [
            _by_capital(token, True, language) if clear and _script(token.word) == home else _is_guest(token, home)
            for token in tokens
        ]
    if style == "sentence" and language not in _CAPITAL_NOUNS:
        return [_by_capital(token, 2 * small >= len(tokens), language) for token in tokens]
    if style == "title" and language not in ("en", *_CAPITAL_NOUNS):
        return _after_small(tokens, language)
    return [False] * len(tokens)


def _is_guest(token: _Token, home: str) -> bool:
    """Whether a word with a capital is of another script than the text."""
    return token.is_capital and len(token.word) > 1 and token.plain not in _NOISE and _script(token.word) != home


def _after_small(tokens: Sequence[_Token], language: str) -> list[bool]:
    """Whether a word with a capital follows a small one, or one that does: `Dibujo de Ana Gil`."""
    told: list[bool] = []
    for before, token in zip((tokens[0], *tokens), tokens, strict=False):
        follows = bool(told) and (told[-1] or (not before.is_capital and len(before.word) > 1))
        told.append(follows and _by_capital(token, True, language))
    return told


def _by_capital(token: _Token, clear: bool, language: str) -> bool:
    """Whether a capital within a sentence tells a name; of common words only where small letters are `clear` (ly) the
    rule."""
    if token.begins or not token.is_capital or len(token.word) < 2 or token.plain in _NOISE:
        return False
    if token.plain in FUNCTION_WORDS.get(language, FUNCTION_WORDS["en"]):
        return False
    return clear or (language == "en" and not is_word(token.plain))


def _by_list(token: _Token, style: Style, language: str) -> bool:
    """Whether the list of words, or capitals within the word, tell a name."""
    word = token.plain
    if word in _NOISE or word in FUNCTION_WORDS["en"] or len(word) < 2:
        return False
    if token.is_mixed or (is_name_alone(word) and (token.is_capital or language == "en")):
        return True
    if is_word(word) or language != "en" or not token.is_capital:
        return False
    return style != "small" or token.begins or token.is_acronym


def _may_be(token: _Token, style: Style) -> bool:
    """Whether a word beside a name may be part of it: one that is a name, too, and has a capital."""
    return style != "small" and token.is_capital and may_be_name(token.plain) and token.plain not in _NOISE


def _language(tokens: Sequence[_Token]) -> str:
    """The language of a text by its function words (ISO 639); `en` also where most of its words are English, and an
    empty name where it has none of either."""
    words = [token.plain for token in tokens]
    counts = {name: sum(word in known for word in words) for name, known in FUNCTION_WORDS.items()}
    best = max(counts, key=lambda name: (counts[name], name == "en"))
    known = sum(is_word(word) or is_name_alone(word) or word in _NOISE for word in words)
    if best != "en" and (counts[best] > 1 or known < _KNOWN_SHARE * len(words)):
        return best
    return "en" if len(words) <= _FEW or known >= _KNOWN_SHARE * len(words) else ""


def _script(word: str) -> str:
    """The script of a word by its first letter's name: LATIN, CYRILLIC, CJK (kana, too)."""
    name = unicodedata.name(word[0], "").partition(" ")[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA") else name


def _home(scripts: Sequence[str]) -> str:
    """The script of a text that may name things in Latin letters: another one, where it has a third of the words."""
    counts = Counter(scripts)
    latin = counts.pop("LATIN", 0)
    other = max(counts, key=lambda script: counts[script], default="LATIN")
    return other if 2 * counts[other] >= latin else "LATIN"
