"""Personal data and secrets in texts, by their form alone: how many of each kind, and the text with them masked.

Names and addresses of people have no form and are not looked for. Numbers that carry a check (cards, IBANs) count only
where it holds; addresses of machines only where they are public.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from curate.ops import Columns, op

KINDS = ("email", "ip", "phone", "card", "iban", "key")

_EMAIL = r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w-])"
_IPV4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)"
_IPV6 = r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"
_CARD = r"(?<![\w.,/-])(?:[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}|3[47]\d\d[ -]?\d{6}[ -]?\d{5})(?![\w-])"
_IBAN = r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?!\w)"
_PHONE = (
    r"(?<![\w+./-])(?:"
    r"\+\d{1,3}[ .\-/]{0,2}(?:\(0?\d{1,4}\)[ .\-/]{0,2})?\d{1,4}(?:[ .\-/]{0,2}\d{2,4}){1,5}"  # +49 (0)30 123 45 67
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}-\d{3}-\d{4}|\d{3}\.\d{3}\.\d{4}"  # (212) 555-0100
    r")(?![\w-]|\.\d)"
    r"|(?:(?<=tel)|(?<=fon)|(?<=phone)|(?<=mobile)|(?<=mobil)|(?<=fax)|(?<=тел))"  # Tel.: 030 / 123 45 67
    r"[.:]{0,2} ?\(?0\d{1,4}\)?(?:[ .\-/]{0,3}\d{2,4}){1,5}(?![\w-])"
)
_KEY = (
    r"-----BEGIN (?:[A-Z]{2,12} )?PRIVATE KEY-----(?:[^-]{0,10000}-----END (?:[A-Z]{2,12} )?PRIVATE KEY-----)?"
    r"|(?<![\w-])(?:(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{35}|gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_\w{22,251}"
    r"|glpat-[\w-]{20,64}|xox[abprs]-[A-Za-z0-9-]{10,120}|sk-[\w-]{20,200}|sk_live_[A-Za-z0-9]{16,120}|hf_[A-Za-z0-9]{30,60}"
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,300}|eyJ[\w-]{8,2000}\.eyJ[\w-]{8,4000}\.[\w-]{16,2000})(?![\w-])"
)


@dataclass(frozen=True)
class Finding:
    """Where something was found, in characters."""

    kind: str
    begin: int
    end: int


def _luhn(text: str) -> bool:
    """ISO/IEC 7812-1, annex B; thirteen to nineteen digits, not all the same."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    """ISO 13616: the letters as numbers, the first four characters behind, leave 1 when divided by 97."""
    plain = text.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _public(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
        return address.is_global and not address.is_multicast
    except ValueError:
        return False


def _phone(text: str) -> bool:
    """E.164: at most fifteen digits; under eight it is no number that can be called from abroad."""
    return 8 <= sum(map(str.isdigit, text)) <= 15


_LOOKS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool], str], ...] = (
    ("key", re.compile(_KEY), lambda text: True, ""),
    ("email", re.compile(_EMAIL), lambda text: True, "@"),
    ("iban", re.compile(_IBAN), _iban, ""),
    ("card", re.compile(_CARD), _luhn, ""),
    ("ip", re.compile(_IPV4), _public, "."),
    ("ip", re.compile(_IPV6), _public, "::"),
    ("phone", re.compile(_PHONE, re.IGNORECASE), _phone, ""),
)
"""Kind, form, check, and what a text must hold to be searched at all; where two overlap, the first counts."""


def findings(text: str) -> list[Finding]:
    """All that was found, in order, none overlapping another."""
    found: list[Finding] = []
    digits = any(map(str.isdigit, text))
    for kind, form, check, needs in _LOOKS:
        if needs not in text or not (digits or kind in ("key", "email")):
            continue
        fresh = [Finding(kind, *match.span()) for match in form.finditer(text) if check(match.group())]
        text = _filled(text, fresh, lambda finding: "\0" * (finding.end - finding.begin))
        found += fresh
    return sorted(found, key=lambda finding: finding.begin)


def _filled(text: str, places: Sequence[Finding], filling: Callable[[Finding], str]) -> str:
    """The text with something else in these places; they are in order."""
    parts, at = [], 0
    for place in places:
        parts += [text[at : place.begin], filling(place)]
        at = place.end
    return "".join([*parts, text[at:]])


@op(reads="text", writes={f"pii_{kind}": pa.int32() for kind in KINDS} | {"pii": pa.int32()}, version=1)
def pii(texts: Sequence[str]) -> Columns:
    """How many there are in each text: e-mail and public IP addresses, phone and card numbers, IBANs, keys; and all.

    Keys: private keys, and tokens of services in the form that the service gives them. Phone numbers: with the
    country's code, in North America's form, or behind a word that announces one.
    """
    counts = [Counter(finding.kind for finding in findings(text)) for text in texts]
    return {f"pii_{kind}": [count[kind] for count in counts] for kind in KINDS} | {
        "pii": [count.total() for count in counts]
    }


@op(reads="text", writes={"text": pa.string()}, version=1)
def mask_pii(texts: Sequence[str], *, kinds: list[str] = list(KINDS)) -> Columns:  # noqa: B006 - never changed
    """The text that later steps read, each finding of `kinds` as its name in angle brackets: <EMAIL>, <IP>, <PHONE>."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"mask_pii: unknown kind {unknown[0]!r} (allowed: {', '.join(KINDS)})")
    wanted = [[finding for finding in findings(text) if finding.kind in kinds] for text in texts]
    masked = (_filled(text, each, lambda f: f"<{f.kind.upper()}>") for text, each in zip(texts, wanted, strict=True))
    return {"text": list(masked)}
