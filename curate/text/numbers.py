"""Find the numbers of a text: in digits of any script, in words, in Roman numerals.

A number has several readings: `1,500` is 1500 and 1.5, `90s` is 90 and 1990. Two numbers agree where a reading does.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from curate.text.file_names import is_file_name_like

_SUPERSCRIPTS = str.maketrans("", "", "⁰¹²³⁴⁵⁶⁷⁸⁹")
"""A square metre is no number two."""
_SIGNS = str.maketrans({"٫": ".", "٬": ",", "’": "'", "⁄": "/"})
_ADDRESS = re.compile(
    r"(?:https?://|www\.)\S{1,2048}|[\w.+-]{1,64}@[\w-]{1,64}\.\S{1,255}|\b0x[0-9a-f]+\b", re.IGNORECASE
)
_ENTITY = re.compile(r"&#x?[0-9a-f]{1,6};", re.IGNORECASE)
_DIGITS = re.compile(r"\d+(?:[.,']\d+)*(?:s\b)?|(?<![\w.])\.\d+")
_GROUPED = re.compile(r"(?<!\d)\d{1,3}(?:[\s\u202f]\d{3})+(?!\d)")
_WORD = re.compile(r"[^\W\d_]+")
_ROMAN = re.compile(r"\b(?=[IVX]{2,7}\b)(X{0,3})(IX|IV|V?I{0,3})\b")
_NO_ROMAN = frozenset({"XX", "XXX"})
_MOST_DIGITS = 8
"""A longer run of digits alone is a file's or an article's, and no fact."""

_UNIT_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_TEN_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINAL_WORDS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth"
    " fifteenth sixteenth seventeenth eighteenth nineteenth"
)
_MONTH_WORDS = "january february march april may june july august september october november december"
_UNITS, _TENS, _ORDINALS = _UNIT_WORDS.split(), _TEN_WORDS.split(), _ORDINAL_WORDS.split()
_VALUES = (
    {word: n for n, word in enumerate(_UNITS)}
    | {word: n for n, word in enumerate(_ORDINALS)}
    | {word: 10 * n for n, word in enumerate(_TENS, start=2)}
    | {f"{word[:-1]}ieth": 10 * n for n, word in enumerate(_TENS, start=2)}
)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000, "dozen": 12}
_VAGUE = frozenset({"zero", "zeroth", "one", "first", "second"})
"""Words of numbers that mostly count nothing: one of them, at first, a second."""
_MEANT = {
    "pair": 2, "couple": 2, "both": 2, "twin": 2, "twins": 2, "double": 2, "duo": 2, "single": 1, "trio": 3,
    "triple": 3, "triplets": 3, "quartet": 4, "half": 2, "quarter": 4, "once": 1, "twice": 2, "dozen": 12,
    "hundred": 100,
    "thousand": 1000,
}  # fmt: skip
"""Words that may stand for a number, and say none by themselves."""
_FOREIGN = (
    "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "deux trois quatre cinq six sept huit neuf dix onze douze",
    "dos tres cuatro cinco seis siete ocho nueve diez once doce",
    "due tre quattro cinque sei sette otto nove dieci undici dodici",
    "dois três quatro cinco seis sete oito nove dez onze doze",
    "twee drie vier vijf zes zeven acht negen tien elf twaalf",
    "två tre fyra fem sex sju åtta nio tio elva tolv",
    "dwa trzy cztery pięć sześć siedem osiem dziewięć dziesięć jedenaście dwanaście",
    "dva tři čtyři pět šest sedm osm devět deset jedenáct dvanáct",
    "два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать",
    "две",
    "iki üç dört beş altı yedi sekiz dokuz on onbir oniki",
    "dua tiga empat lima enam tujuh delapan sembilan sepuluh sebelas duabelas",
)
_HAN = {han: str(n) for n, han in enumerate("〇一二三四五六七八九十")} | {"两": "2", "兩": "2"}


@dataclass(frozen=True)
class Number:
    """A number as it stands in a text, its readings, and the numbers that it is made of where it is several."""

    written: str
    readings: frozenset[str]
    parts: tuple[str, ...] = ()

    def is_among(self, known: frozenset[str]) -> bool:
        """Whether one of its readings, or each of its parts, is known."""
        return not self.readings.isdisjoint(known) or (len(self.parts) > 1 and known.issuperset(self.parts))


def numbers_in(text: str) -> list[Number]:
    """The numbers that a text says: digits, English words from `two` on, and Roman numerals from II to XXXIX.

    Names of files, addresses and longer digits without a sign are none, nor are exponents.
    """
    plain = _without_names(_plain(text))
    found = [_grouped(match[0]) for match in _GROUPED.finditer(plain)]
    found += [_number(match[0]) for match in _DIGITS.finditer(_GROUPED.sub(" ", plain))]
    found += [Number(word, frozenset({value})) for word, value in _spelled(plain) if word not in _VAGUE]
    return found + [Number(written, frozenset({value})) for written, value in _romans(plain)]


def known_numbers(text: str) -> frozenset[str]:
    """Every reading of every number that a text may be taken to say, in several languages: to look others up in."""
    plain = _plain(text)
    numbers = [_number(match[0]) for match in _DIGITS.finditer(plain)]
    known = {reading for number in numbers for reading in (*number.readings, *number.parts)}
    known |= {reading for match in _GROUPED.finditer(plain) for reading in _grouped(match[0]).readings}
    known |= {value for _, value in (*_spelled(plain), *_romans(plain))}
    words = _WORD.findall(plain.casefold())
    known |= {str(_MEANT[word]) for word in words if word in _MEANT}
    known |= {value for word in words for value in _elsewhere().get(word, ())}
    return frozenset(known | {_HAN[c] for c in set(plain) & _HAN.keys()})


def _plain(text: str) -> str:
    """The text with digits of all scripts as 0 to 9, and without HTML's entities that were left in it."""
    text = _ENTITY.sub(" ", text) if "&#" in text else text
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text.translate(_SUPERSCRIPTS)).translate(_SIGNS)
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def _without_names(text: str) -> str:
    """The text without what is no number for all its digits."""
    return " ".join(chunk for chunk in _ADDRESS.sub(" ", text).split() if not _is_name(chunk))


def _is_name(chunk: str) -> bool:
    if not any(c.isdigit() for c in chunk[:255]):
        return False
    if chunk.isdecimal():
        return len(chunk) > _MOST_DIGITS
    return is_file_name_like(chunk.strip("()[],;:\"'"))


def _number(written: str) -> Number:
    """Read digits with their signs."""
    decade = written.endswith("s")
    digits = written.removesuffix("s")
    parts = tuple(_stripped(part) for part in re.split(r"[.,']", digits) if part)
    readings = {_stripped(digits)} if digits.isdecimal() else _readings(digits)
    if decade and len(digits) == 2:
        readings |= {f"19{digits}", f"20{digits}"}
    if decade and len(digits) == 4:
        readings.add(digits[2:])
    return Number(written, frozenset(readings), parts)


def _grouped(written: str) -> Number:
    """Read digits parted by spaces: one number of thousands, or several."""
    groups = written.split()
    return Number(written, frozenset({_stripped("".join(groups))}), tuple(map(_stripped, groups)))


def _readings(digits: str) -> set[str]:
    groups = re.split(r"[.,']", digits)
    found = {".".join(groups)}
    if all(len(group) == 3 for group in groups[1:]):
        found.add(_stripped("".join(groups)))
    last = digits[len(digits) - len(groups[-1]) - 1]
    if last in ".," and all(len(group) == 3 for group in groups[1:-1]):
        decimals = groups[-1].rstrip("0")
        whole = _stripped("".join(groups[:-1]))
        found.add(f"{whole}.{decimals}" if decimals else whole)
    return found


def _stripped(digits: str) -> str:
    """Digits without zeros before them."""
    return digits.lstrip("0") or "0"


def _spelled(text: str) -> Iterator[tuple[str, str]]:
    """English words of numbers, as they stand and as digits: `twenty-five`, `two hundred`, `nineteenth`."""
    run: list[str] = []
    end = -1
    for match in _WORD.finditer(text.casefold()):
        word = match[0]
        joined = run and match.start() - end == 1  # by a hyphen or a space
        if word in _VALUES or (word in _SCALES and joined):
            if not (joined and _continues(run[-1], word)):
                yield from _told(run)
                run = []
            run.append(word)
        else:
            yield from _told(run)
            run = []
        end = match.end()
    yield from _told(run)


def _continues(before: str, word: str) -> bool:
    """Whether a word goes on with the number that another began."""
    if word in _SCALES:
        return True
    return before in _SCALES or (before in _TENS and 0 < _VALUES[word] < 10)


def _told(run: list[str]) -> Iterator[tuple[str, str]]:
    if not run:
        return
    total, part = 0, 0
    for word in run:
        if word not in _SCALES:
            part += _VALUES[word]
        elif _SCALES[word] > 100:
            total, part = total + part * _SCALES[word], 0
        else:
            part *= _SCALES[word]
    yield " ".join(run), str(total + part)


def _romans(text: str) -> Iterator[tuple[str, str]]:
    """Roman numerals in capitals, of at least two letters, among other letters than capitals alone."""
    if not any(map(str.islower, text)):
        return
    for match in _ROMAN.finditer(text):
        if match[0] not in _NO_ROMAN:
            ones = {"": 0, "I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9}
            yield match[0], str(10 * len(match[1]) + ones[match[2]])


@functools.cache
def _elsewhere() -> dict[str, frozenset[str]]:
    """Words of numbers of other languages, and months, by what they may stand for."""
    found: dict[str, set[str]] = {}
    for line in _FOREIGN:
        for value, word in enumerate(line.split(), start=2):
            found.setdefault(word, set()).add(str(value))
    for value, month in enumerate(_MONTH_WORDS.split(), start=1):
        for name in (month, month[:3]):
            found.setdefault(name, set()).add(str(value))
    return {word: frozenset(values) for word, values in found.items()}
