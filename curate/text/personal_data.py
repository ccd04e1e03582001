"""Find personal data and secrets in texts, by their form alone.

Names and addresses of people have no form and are not looked for. Numbers that carry a check (cards, IBANs) count only
where it holds; addresses of machines only where they are public, and where nothing says that they are versions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from curate.text.machine_addresses import find_machine_addresses
from curate.text.phone_numbers import find_phone_numbers

KINDS = ("email", "ip", "phone", "card", "iban", "ssn", "key")

Spans = Iterator[tuple[int, int]]

_W = r"[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]"
"""A letter of a script with spaces: Chinese, Japanese and Korean words run on into an address."""

_BEFORE, _AFTER = rf"(?<!{_W})(?<![.+%&-])", rf"(?!{_W}|-)"
_LABEL = rf"(?!_){_W}(?:(?:{_W}|-){{0,61}}(?!_){_W})?"
_LOCAL = rf"(?:{_W}|%)(?:(?:{_W}|[.+%'&-]){{0,62}}(?:{_W}|[+%-]))?"
_TOP = rf"(?:(?![\d_]){_W}){{2,24}}"
_AT, _DOT = r"(?: ?[\[({<] ?(?:at|@|ät) ?[\])}>] ?)", r"(?: ?[\[({<] ?(?:dot|punkt|punto|point|\.) ?[\])}>] ?)"
_EMAILS = (
    rf"{_BEFORE}(?:{_LOCAL}(?:@|%40)|\"[^\"\n@]{{1,62}}\"@)(?:(?:{_LABEL}\.){{1,8}}(?:xn--[\w-]{{2,59}}|{_TOP}){_AFTER}"
    r"|\[(?:\d{1,3}\.){3}\d{1,3}\])",
    rf"{_BEFORE}(?i:{_LOCAL}{_AT}(?:(?:{_W}|-){{1,63}}(?:{_DOT}|\.)){{1,4}}{_TOP}){_AFTER}",
    rf"{_BEFORE}[\w.+-]{{1,64}} AT (?:[\w-]{{1,63}} DOT ){{1,4}}{_TOP}{_AFTER}",
    rf"{_BEFORE}(?!(?i:look|looked|looking|get|got|at|be|is|was|are|were|the)\b)[\w-]{{1,64}}"
    r"(?: dot [\w-]{1,64}){0,3} at (?!the |a |an |this |that )[\w-]{2,63} dot"
    r" (?:com|org|net|edu|gov|info|co|io|de|fr|it|es|nl|ch|at|uk)(?![\w-])",
)
_WRITTEN, _BRACKETED, _IN_CAPITALS, _IN_WORDS = map(re.compile, _EMAILS)
_HAS_BRACKETS = re.compile(r"[\[({<] ?(?:at|AT|At|@|ät) ?[\])}>]")
_FILES = frozenset(
    (
        "png",
        "jpg",
        "jpeg",
        "gif",
        "webp",
        "svg",
        "avif",
        "bmp",
        "ico",
        "css",
        "scss",
        "js",
        "mjs",
        "ts",
        "tsx",
        "jsx",
        "html",
        "htm",
        "json",
        "xml",
        "pdf",
        "txt",
    )
)
"""What follows the last dot of a file's name (icon@2x.png), and is no top-level domain."""

_SEEN = 40
"""Characters before a finding in which words say that it is something else."""

_CARD = re.compile(
    r"(?<![\w.,/-])(?:[2-68]\d{3}(?:([ \xa0-]?)\d{4})(?:\1\d{4})(?:\1\d{1,7})?|3[47]\d\d[ -]?\d{6}[ -]?\d{5}"
    r"|3[0689]\d\d[ -]?\d{6}[ -]?\d{4}|4\d{12}|(?:2131|1800)\d{11})(?![\w-]|[.,]\d)"
)
_CARD_LENGTHS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|220[0-4]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|095|[689])"), (14, 16)),
    (re.compile(r"2131|1800"), (15,)),
    (re.compile(r"35|6|81|50|5[678]"), (16, 17, 18, 19)),
)
"""First digits of the networks and how many their numbers have (ISO/IEC 7812; an IMEI of 15 digits passes Luhn too)."""

_IBAN = re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?(?!\w)")
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
"""SWIFT's registry of IBANs, release 99."""

_SSN = re.compile(r"(?<![\w.+/-])(?<!\d )(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-]|[.,]\d)")
_SAID_SSN = re.compile(
    r"\b(?:ssns?|ss|social security)(?: ?(?:no|nr|number|#))?[.:=#/]{0,2} ?(?:is )?"
    r"((?!000|666|9)\d{3}[ -]?(?!00)\d\d[ -]?(?!0000)\d{4})(?![\w-])",
    re.IGNORECASE,
)
_NO_SSN = re.compile(
    r"\b(?:parts?|items?|sku|models?|catalogu?e?|article|order|invoice|serial|lots?|cas|ref)"
    r"(?: ?(?:no|nr|number))?[.:# ]{0,3}$",
    re.IGNORECASE,
)

_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]{2,12} )?PRIVATE KEY-----(?:[^-]{0,10000}-----END (?:[A-Z]{2,12} )?PRIVATE KEY-----)?"
    r"|(?<![\w-])(?:(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{35}|eyJ[\w-]{8,2000}\.eyJ[\w-]{8,4000}\.[\w-]{16,2000}"
    r"|(?P<worded>gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_\w{22,251}|glpat-[\w-]{20,64}|xox[abprs]-[A-Za-z0-9-]{10,120}"
    r"|sk-[\w-]{20,200}|sk_live_[A-Za-z0-9]{16,120}|hf_[A-Za-z0-9]{30,60}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,300}))"
    r"(?![\w-])"
)
_WORD_OF_NAME = re.compile(r"(?:[A-Z]*+[a-z]{2,}+)*+[A-Z]*+\d{0,3}|\d{1,8}|[A-Za-z0-9]{0,6}")
"""A part of a name, between its hyphens: words, small numbers, a few characters. What is drawn by chance has others."""


@dataclass(frozen=True)
class Finding:
    """A finding and its place, in characters."""

    kind: str
    begin: int
    end: int


def find_personal_data(text: str) -> list[Finding]:
    """Find personal data in order, none overlapping another."""
    found: list[Finding] = []
    digits = any(map(str.isdigit, text))
    for kind, needs, look in _LOOKS:
        is_possible = (digits or kind in ("key", "email")) and (not needs or any(need in text for need in needs))
        if not is_possible:
            continue
        fresh = [Finding(kind, begin, end) for begin, end in look(text)]
        text = replace_spans(text, fresh, lambda finding: "\0" * (finding.end - finding.begin))
        found += fresh
    return sorted(found, key=lambda finding: finding.begin)


def replace_spans(text: str, places: Sequence[Finding], filling: Callable[[Finding], str]) -> str:
    """Replace these places of the text by something else; they are in order."""
    parts, at = [], 0
    for place in places:
        parts += [text[at : place.begin], filling(place)]
        at = place.end
    return "".join([*parts, text[at:]])


def _keys(text: str) -> Spans:
    return (found.span() for found in _KEY.finditer(text) if not _is_name(found["worded"]))


def _is_name(token: str | None) -> bool:
    """Whether all parts of a token are those of names that people give, as in sk-toggleable__label-arrow."""
    return token is not None and all(map(_WORD_OF_NAME.fullmatch, re.split("[-_]", token)))


def _emails(text: str) -> Spans:
    """Addresses as they are written, or spelled out; no files (icon@2x.png), no repositories (git@host:path)."""
    forms = [
        (_WRITTEN, "@" in text or "%40" in text),
        (_BRACKETED, _HAS_BRACKETS.search(text)),
        (_IN_CAPITALS, " AT " in text and " DOT " in text),
        (_IN_WORDS, " at " in text and " dot " in text),
    ]
    found = sorted(match.span() for form, is_needed in forms if is_needed for match in form.finditer(text))
    at = 0
    for begin, end in found:
        last = text[begin:end].rpartition(".")[2].lower()
        is_repository = text.startswith("git@", begin) and text.startswith(":", end)
        if begin >= at and last not in _FILES and not is_repository:
            yield begin, end
            at = end


def _ibans(text: str) -> Spans:
    """ISO 13616: as long as the country's are, and the letters as numbers, the first four characters behind, leave 1
    when divided by 97."""
    for found in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(found[0][:2].upper())
        places = [n for n, character in enumerate(found[0]) if character.isalnum()]
        if length is None or len(places) < length:
            continue
        plain = "".join(found[0][n] for n in places[:length]).upper()
        end = found.start() + places[length - 1] + 1
        is_whole = not text[end : end + 1].isalnum()
        if is_whole and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1:
            yield found.start(), end


def _cards(text: str) -> Spans:
    """ISO/IEC 7812-1, annex B (Luhn), and as many digits as the network's numbers have."""
    for found in _CARD.finditer(text):
        digits = [int(character) for character in found[0] if character.isdigit()]
        doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
        if _is_long_enough(digits) and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0:
            yield found.span()


def _is_long_enough(digits: Sequence[int]) -> bool:
    number = "".join(map(str, digits))
    lengths = next((lengths for first, lengths in _CARD_LENGTHS if first.match(number)), ())
    return len(number) in lengths


def _social_security_numbers(text: str) -> Spans:
    """Those of the United States, of areas and groups that are given out (Social Security Administration)."""
    found = [match.span() for match in _SSN.finditer(text)]
    small = text.lower()
    if "ssn" in small or "ss#" in small or "social security" in small:
        announced = [match.span(1) for match in _SAID_SSN.finditer(text)]
        found = sorted({*found, *announced})
    yield from (span for span in found if not _NO_SSN.search(text, max(0, span[0] - _SEEN), span[0]))


_LOOKS: tuple[tuple[str, tuple[str, ...], Callable[[str], Spans]], ...] = (
    ("key", (), _keys),
    ("email", (), _emails),
    ("iban", (), _ibans),
    ("card", (), _cards),
    ("ip", (".", ":"), find_machine_addresses),
    ("ssn", (), _social_security_numbers),
    ("phone", (), find_phone_numbers),
)
"""Kind, what a text must hold to be searched at all, and where they are; where two overlap, the first counts."""
