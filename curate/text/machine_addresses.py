"""Find public addresses of machines in texts, and leave versions and numbers of sections, which look the same."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d|-\d)")
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])")

_SEEN: Final = 40
"""Characters before and after a number in which something says what it is."""

_ANNOUNCED = re.compile(
    r"(?:(?:version(?:s|e|i|en|er|o)?|_ver|_rev)|(?<!\w)(?:vers?|v|r|releases?|rel|revision|rev|firmware|fw|builds?"
    r"|updates?|upgrades?|patch|drivers?|kernel|assembly|snapshot|bios|tags?"
    r"|versión|versiones|versão|versões|версия|версии|версию|wersja|wersji|verze|verzia|fassung|sürüm|sürümü|έκδοση"
    r"|sections?|chapters?|clauses?|figures?|tables?|appendix|annex|articles?|paragraphs?|requirements?|abschnitt|kapitel"
    r"|ziffer|sección|seção|sezione|раздел|пункт|глава|rozdział|oid|ec)|§|№|第|版本|版|バージョン|버전|الإصدار)"
    r"(?: (?:no|nr|number|to|is|of))?[\s.:：#=\"'`(\[>]{0,4}$",
    re.IGNORECASE,
)
_JOINED = re.compile(
    r"\s{0,2}(?:, ?[<>]=?|[,;/&|–—]|-+>?|→|=>|\.\.\.?|,? ?(?:to|and|or|through|until|bis|und|et|y|e))\s{0,2}"
)
_BEHIND = re.compile(
    r"[-~+.]?(?:alpha|beta|rc|snapshot|dev|release|final|preview|pre|post|stable|lts|hotfix|nightly|git|ga)(?![^\W\d_])"
    r"|\.(?:tar|t[gbx]z|zip|7z|whl|egg|exe|msi|deb|rpm|dmg|pkg|apk|jar|war|gem|nupkg|crate|iso|img|dll|so|js|css|min)\b"
    r"|[+~][A-Za-z]|[ \xa0-](?:versions?|releases?|updates?|patch|builds?|firmware|drivers?|hotfix)\b",
    re.IGNORECASE,
)
_COMPARED = re.compile(r"([\w.-]*)[\"')\]]{0,2} ?(?:===?|>=|<=|!=|~=|~>|[\^~])[ \"']{0,2}$")
_ASSIGNED = re.compile(r"([\w.-]+)=[\"']?$")
_PRODUCT = re.compile(r"(?<![\w./:@=-])([^\W\d][\w+-]*)/$")
_IN_FILE_NAME = re.compile(r"([^\W_][\w.+]*)-$")
_FORMS: Final = dict.fromkeys("=<>~^", _COMPARED) | {"/": _PRODUCT, "-": _IN_FILE_NAME}
"""What names a version, by the last sign before it."""

_AT = re.compile(r"(?<![\w.+-])(?:@[\w-]+/)?([\w-]+)@$")
_PATH = re.compile(r"[\w.-]/$")
_NAME = re.compile(r"\b([A-Z][^\W\d_]*)[ \xa0]$")
_PROGRAM = re.compile(
    r"\b(?:chrome|chromium|firefox|safari|opera|edge|brave|vivaldi|skype|acrobat|libreoffice|openoffice|explorer|jquery"
    r"|windows|android|flash(?: player)?|java|photoshop|nvidia|directx)[ \xa0]$",
    re.IGNORECASE,
)
_LINE_START = re.compile(r"(?:^|\n)[\s#*>•-]*$")
_HEADING = re.compile(r"[.:)]?[*_]{0,2}[ \xa0\t]{1,4}(?:[–—-] )?(?!(?:GET|POST|HEAD|PUT|OPTIONS)\b)[^\W\d_]")
_LOGIN = re.compile(r"\b(?:ssh|scp|sftp|rsync|mosh|ftp|ping)\b[^\n]*$|\b(?:root|admin|user|ubuntu|pi|ec2-user)@$")
_PORT = re.compile(r":\d{1,5}\b")

_WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+")
_OF_NETWORKS = """
    ip ipv ping host hosts hostname server servers address addr addresses client dns from at by resolver resolvers
    gateway peer node proxy adresse die src dst source dest destination remote nameserver ns tcp udp http https url
    endpoint bind listen subnet cidr range router route whois target forwarded login network net"""
_NETWORK: Final = frozenset(_OF_NETWORKS.split())
_RESOLVERS: Final = frozenset(("8.8.8.8", "8.8.4.4", "1.1.1.1", "9.9.9.9"))
"""Addresses of small numbers that are written more often than versions of these numbers are."""

_LOW: Final = 20
"""Addresses of such small numbers alone are a version right behind a name, and a section's number before a heading."""


def find_machine_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Find (begin, end) of public IPv4 addresses, then of IPv6, that nothing around them says to be a version.

    A version is told by a word (`FileVersion: `, `section`), by an operator (`a==`, `>=`), by a product's name before
    a slash or hyphen (`Firefox/`, `libfoo-`), by what follows (`.tar.gz`, `-beta`), or by another version beside it.
    """
    last = None
    for found in _IPV4.finditer(text):
        if not _is_public(found[0]):
            last = found.end() if _is_version(found, text, last) else None
        elif _is_version(found, text, last):
            last = found.end()
        else:
            last = None
            yield found.span()
    if ":" in text:
        yield from (found.span() for found in _IPV6.finditer(text) if _is_public(found[0]))


def _is_version(found: re.Match[str], text: str, last: int | None) -> bool:
    """Whether something around it says so; `last`: where a version ended that comes before it."""
    before, after = text[max(0, found.start() - _SEEN) : found.start()], text[found.end() : found.end() + _SEEN]
    if _ANNOUNCED.search(before) or (last is not None and _JOINED.fullmatch(text[last : found.start()][:_SEEN])):
        return True
    if _PORT.match(after):
        return False
    if _BEHIND.match(after) or (before[-1:] in " \xa0" and _PROGRAM.search(before)):
        return True
    form = _FORMS.get(before.rstrip(" \"'")[-1:])
    named = form.search(before) if form else None
    if named is not None:
        return not _is_of_network(named[1])
    return max(map(int, found[0].split("."))) <= _LOW and _is_low_version(found[0], before, after)


def _is_low_version(written: str, before: str, after: str) -> bool:
    """Whether small numbers are a version: behind a name, in a path, before a heading."""
    name = _NAME.search(before)
    if name is not None:
        return not _is_of_network(name[1])
    if written in _RESOLVERS:
        return False
    named = _ASSIGNED.search(before) or _AT.search(before)
    if named is not None:
        return not (_is_of_network(named[1]) or _LOGIN.search(before))
    if _PATH.search(before):
        return not _is_of_network(before[:-1].rpartition("/")[2])
    return bool(_LINE_START.search(before) and _HEADING.match(after))


def _is_of_network(name: str) -> bool:
    return any(word.lower() in _NETWORK for word in _WORD.findall(name))


def _is_public(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
        return address.is_global and not address.is_multicast
    except ValueError:
        return False
