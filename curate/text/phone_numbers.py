"""Find phone numbers in texts by their form: country codes, national groups, or a word before.

Forms are those of the ITU (E.164, E.123) and of national numbering plans. What has no form of its own, such as nine
digits in groups of three, counts behind a word that announces it, and no number does behind one that says it is
something else (ISBN, part no., version).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_GAP = r"[ .\-/\u00a0\u2009\u202f\u2010\u2011\u2013]"
_RUN = rf"(?:[\d()]|{_GAP}{{1,2}}(?=[\d(])|(?<=\d) / (?=\d))"

_WORDS = (
    r"tel|tele?[fp]h?on[eo]?s?|telefoni|telefonnummern?|telefonnr|rufnummer|fon|phones?|mobiles?|mobil|mobiel|m[oó]vil"
    r"|mobilnummer|handy|handynummer|cell|cel|celular|cellulare|gsm|fax|telefax|hotline|whatsapp|sms|t[eé]l|t[eé]l[eé]phone"
    r"|tel[eé]fono|tlf|tlph|puh|puhelin|telefax|тел|телефон|моб|мобильный|факс|τηλ|טלפון|هاتف"
)
_CJK = r"電話|电话|携帯|手机号码|手机号|手机|전화|휴대폰|핸드폰|传真|傳真"
_VERBS = r"call|dial|ring|text|chiamare|ligue|ligar|soita|bel|llama|appelez|rufen|звоните"
_FILLER = r"(?:(?: ?(?:no|nr|num|number|nummer|n°|№))?[.:：]{0,2} ?(?:is|ist|est|us at|us on|at)? ?)"

_ALONE = r"(?<![\w+./\-,$€£])(?<!\d )(?<!\b[\da-f]{2} )"
"""What no national number stands behind: it would be a part of something longer."""

_FORMS = (
    # What is announced: the number alone is the finding.
    rf"(?<![^\W\d_])(?:(?:{_WORDS})(?![^\W\d_]){_FILLER}|(?:{_CJK})[.:：]? ?)(?P<noun>\(?\d{_RUN}{{5,24}}\d)",
    rf"(?<![^\W\d_])(?:{_VERBS})(?![^\W\d_]) ?(?:us|me|him|her)? ?(?:at|on)? ?(?P<verb>\(?\d{_RUN}{{5,24}}\d)",
    # +49 (0)30 123 45 67, 0049 30 1234567
    rf"(?<![\w+.\-])(?P<abroad>\+[1-9]{_RUN}{{6,28}}\d)",
    rf"{_ALONE}(?P<zeros>00 ?[1-9]{_RUN}{{8,26}}\d)",
    # 030 123 45 67, (030) 1234567, 030/123456-78, 01 99 00 12 34
    rf"{_ALONE}(?P<trunk>(?:\(0[1-9]\d{{0,3}}\)|0[1-9]\d{{0,4}})(?:(?: / |{_GAP}{{0,2}}(?<!\d))\d{{2,9}}(?!\d)){{1,5}}"
    r")",
    # North America's 212-555-0123, with and without its 1
    rf"{_ALONE}(?P<north>(?:1{_GAP})?(?:\([2-9]\d\d\) ?|[2-9]\d\d{_GAP})\d{{3}}{_GAP}\d{{4}})",
    # Groups of their own: Russia's 8 (495) 123-45-67, Brazil's (11) 91234-5678, Colombia's (601) 2345678, Hungary's
    # (06 1) 234 5678, Sweden's 08-12 34 56, China's 138 0013 8000, Spain's 612 34 56 78, Poland's 22 123 45 67,
    # Australia's 1300 975 707
    rf"{_ALONE}(?P<own>8[ \-]?\(?[3489]\d\d\)?[ \-]\d{{3}}[ \-]\d\d[ \-]\d\d|\(\d\d\) ?9?\d{{4}}-\d{{4}}"
    r"|\([2-9]\d\d\) ?\d{7}|\(06 \d\d?\) ?\d{3} \d{3,4}|0\d{1,3}-\d\d\d? \d\d \d\d"
    r"|1[3-9]\d[ \-]\d{4}[ \-]\d{4}|[6-9]\d\d \d\d \d\d \d\d|[1-9]\d \d{3} \d\d \d\d|1[38]00 \d{3} \d{3})",
)
_FORM = re.compile(rf"(?:{'|'.join(_FORMS)})(?: ?(?:x|ext\.?|extension) ?\d{{1,6}})?(?![\w]|[.,:\-/]\d)", re.IGNORECASE)

_DIGITS = re.compile(rf"\d(?:[\d()]|{_GAP}){{4,}}\d")
"""What every number holds: the forms are tried around it alone."""

_OTHERWISE = re.compile(
    r"(?:\b(?:isbn|issn|doi|sku|parts?|items?|serial|model|order|invoice|lots?|ean|upc|gtin|imei|case|cas|pzn|version|build"
    r"|commit|catalogue|catalog|article|artikel|bestellnummer|ticket|patent)\b(?:-1[03])?|§)"
    r"(?: ?(?:no|nr|number|code|id))?[.:#№ ]{0,3}$",
    re.IGNORECASE,
)
_SEEN, _BEHIND = 32, 20
"""Characters before a number in which a word says that it is something else, and after it, for an extension."""

_DATE = re.compile(
    r"(?:19|20)\d\d[./\- ](?:0?[1-9]|1[0-2])[./\- ]\d|(?:[0-3]?\d[./\-]){2}(?:19|20)\d\d\b"
    r"|(?:19|20)\d\d\D{1,3}(?:19|20)\d\d$"
)

_CODES = frozenset(
    str(code)
    for first, last in (
        (1, 1), (7, 7), (20, 20), (27, 27), (30, 34), (36, 36), (39, 41), (43, 49), (51, 58), (60, 66), (81,
        82), (84, 84), (86, 86), (90, 95), (98, 98), (211, 213), (216, 216), (218, 218), (220, 258), (260,
        269), (290, 291), (297, 299), (350, 359), (370, 378), (380, 383), (385, 387), (389, 389), (420, 421),
        (423, 423), (500, 509), (590, 599), (670, 670), (672, 683), (685, 692), (800, 800), (850, 850), (852,
        853), (855, 856), (870, 870), (880, 880), (886, 886), (960, 968), (970, 977), (992, 996), (998, 998),
    )
    for code in range(first, last + 1)
)  # fmt: skip
"""Country codes in use (ITU-T E.164, list of 2024)."""


def find_phone_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Find begin and end of each phone number."""
    at = 0
    for digits in _DIGITS.finditer(text):
        for found in _FORM.finditer(text, max(at, digits.start() - _SEEN), digits.end() + _BEHIND):
            form = found.lastgroup
            assert form is not None
            begin = found.start(form)
            if begin >= digits.end():
                break  # the next digits' own: here they may be cut off
            at = found.end()
            if not _OTHERWISE.search(text, max(0, begin - _SEEN), begin) and _CHECKS[form](found[form]):
                yield begin, found.end()


def _announced(number: str, least: int = 6) -> bool:
    """A number behind a word for one: of up to 15 digits, and no date."""
    return least <= _digits(number) <= 15 and not _DATE.match(number) and _balanced(number)


def _asked_for(number: str) -> bool:
    return _announced(number, 7)


def _abroad(number: str) -> bool:
    """+ and a country's code, which ends where a gap ends it, and the digits that it asks for, up to 15."""
    first = re.match(r"\d+", number[1:])
    plain = re.sub(r"\D", "", number.replace("(0)", ""))
    code = next((plain[:n] for n in (1, 2, 3) if plain[:n] in _CODES), "")
    if first is None or not code or len(first[0]) < len(code) or (len(first[0]) <= 3 and first[0] != code):
        return False
    if code == "1":
        return re.fullmatch(r"1[2-9]\d\d[2-9]\d{6}", plain) is not None
    return 8 <= len(plain) <= 15 and not plain.startswith("000", len(code)) and _balanced(number)


def _with_zeros(number: str) -> bool:
    """00 instead of the +; with a gap or a bracket, or it is any number."""
    return _digits(number) < len(number) and _digits(number) >= 11 and _abroad("+" + number[2:].lstrip())


def _trunk(number: str) -> bool:
    """A national number with its zero: nine to thirteen digits in several groups, pairs at most five, or eight
    behind brackets or Sweden's hyphen; no date."""
    if not re.search(r"\d\D+\d", number) or _DATE.match(number):
        return False
    pairs = re.fullmatch(r"\d\d(?:\D\d\d)+", number)
    least = 8 if number.startswith("(") or re.match(r"0\d{1,3}-\d\d\d? ", number) else 9
    return least <= _digits(number) <= (10 if pairs else 13)


def _has_form(number: str) -> bool:
    """The form alone says it."""
    return True


def _digits(number: str) -> int:
    return sum(map(str.isdigit, number))


def _balanced(number: str) -> bool:
    return number.count("(") == number.count(")")


_CHECKS = {
    "noun": _announced,
    "verb": _asked_for,
    "abroad": _abroad,
    "zeros": _with_zeros,
    "trunk": _trunk,
    "north": _has_form,
    "own": _has_form,
}
