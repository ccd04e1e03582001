"""Read opt-outs of owners: robots directives, the reservation of text and data mining, host lists.

Robots are addressed by the header `X-Robots-Tag` and the element `<meta name="robots">` (Google's specification; the
words `noai` and `noimageai` are DeviantArt's, 2022); a reservation is the header or the element `tdm-reservation` with
the value 1 (TDM Reservation Protocol, report of a W3C community group, 2024). `/robots.txt` and
`/.well-known/tdmrep.json` are not asked for: what they say can be given as a list of hosts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curate.readers.urls import MAX_URL_CHARS, BadUrlError, ascii_host, parse_url

RESERVATION = "tdm-reservation"

OPT_OUT = ("noai", "noimageai", "noindex", "noimageindex", RESERVATION)
"""What is honoured unless a recipe says otherwise."""

_VALUED = frozenset(("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"))
"""Words with a colon behind them that address nobody."""

_ADDRESSEE = re.compile(r"\s*([\w*-]+)\s*:")

_META = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style|textarea|title|noscript)\b.*?(?:</\1|\Z)|<meta\b([^<>]{0,4096})",
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""\b(name|http-equiv|content)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)


def find_forbidding_word(value: str, agents: Iterable[str], words: Iterable[str]) -> str | None:
    """Find the first of `words` in the value of a robots header or element, if it is meant for all or for `agents`.

    `noai, noindex`, or the same behind one agent's name and a colon; `none` means noindex as well.
    """
    addressed = _ADDRESSEE.match(value)
    if addressed and addressed[1].lower() not in _VALUED:
        if addressed[1].lower() not in {"*", *agents}:
            return None
        value = value[addressed.end() :]
    directives = {word.strip().lower() for word in re.split(r"[,\s]", value)}
    directives |= {"noindex"} if "none" in directives else set()
    return next((word for word in words if word in directives and word != RESERVATION), None)


def is_reserved(value: str | None) -> bool:
    """Whether the value of `tdm-reservation` reserves the rights; anything but 1 does not."""
    return value is not None and value.strip() == "1"


def meta_elements(page: str) -> Iterator[tuple[str, str]]:
    """Find the `<meta>` of a page: name, in small letters, and content, whoever wrote it; in linear time."""
    for found in _META.finditer(page):
        if found[2] is not None:
            attributes = {a[1].lower(): a[2] or a[3] or a[4] or "" for a in _ATTRIBUTE.finditer(found[2])}
            name = attributes.get("name") or attributes.get("http-equiv")
            if name:
                yield name.strip().lower(), attributes.get("content", "")


def host_of(url: object) -> str:
    """The host that an http(s) URL is asked of, in small letters and ASCII; empty where there is none."""
    try:
        return parse_url(url[:MAX_URL_CHARS]).host.rstrip(".") if isinstance(url, str) else ""
    except BadUrlError:
        return ""


_BEFORE = re.compile(r"^(?:https?://)?(?:\*?\.)?", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_.:\[\]-]{1,253}")


class HostListError(ValueError):
    """A list of hosts that cannot be read; the message says which line and what to write instead."""


def check_list_file(path: Path) -> Path:
    """Check that there is a file at the path, and return the path. Raises HostListError."""
    if not path.is_file():
        raise HostListError(f"list of hosts: no file {path}; it has a host or a domain a line")
    return path


class HostList:
    """Hosts and domains from a file, eight bytes each: a million lines are 8 MB.

    A line is a host or a domain, with or without `*.` or `http://` before it, and stands for itself and all below it;
    empty lines, and what follows a `#`, count for nothing. Lines are kept as 64-bit digests: that a host which is not
    listed is taken for one of a million happens once in 2 * 10**13. Raises HostListError.
    """

    def __init__(self, path: Path) -> None:
        with check_list_file(path).open(encoding="utf-8-sig", errors="replace") as lines:
            digests = (_digest(host) for number, line in enumerate(lines, 1) if (host := _listed(line, path, number)))
            self._digests: npt.NDArray[np.uint64] = np.unique(np.fromiter(digests, np.uint64))

    def __len__(self) -> int:
        return len(self._digests)

    def entry(self, host: str) -> str | None:
        """Find the longest listed name that is the host itself or a domain above it; None where there is none."""
        labels = host.split(".") if host else []
        for start in range(len(labels)):
            name = ".".join(labels[start:])
            digest = np.uint64(_digest(name))
            at = int(np.searchsorted(self._digests, digest))
            if at < len(self._digests) and self._digests[at] == digest:
                return name
        return None


def _listed(line: str, path: Path, number: int) -> str:
    """The host that a line names; empty for none."""
    entry = line.partition("#")[0].strip()
    if not entry:
        return ""
    try:
        host = ascii_host(_BEFORE.sub("", entry).removesuffix("/").strip()).rstrip(".")
    except UnicodeError:
        host = ""
    if not _HOST.fullmatch(host):
        raise HostListError(f"list of hosts: {path}:{number}: {entry[:100]!r} is no host; write example.org, no path")
    return host


def _digest(host: str) -> int:
    return int.from_bytes(hashlib.blake2b(host.encode(), digest_size=8).digest(), "little")
