"""Read http(s) URLs as they are to be asked for: what is valid as it stands, other bytes in per cents.

Valid is what RFC 3986 allows. Escapes are neither undone nor respelled, since a signature may cover them. A reference
is joined to the URL that it was found at by RFC 3986 (5.2); hosts are brought into ASCII by IDNA 2008 with the mapping
of UTS 46, as browsers do.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote

MAX_URL_CHARS = 16384

PORTS = {"http": 80, "https": 443}

_ABSOLUTE = re.compile(r"([a-z][a-z0-9+.-]*):(.*)", re.IGNORECASE | re.DOTALL)
_HIERARCHY = re.compile(r"//([^/?]*)(.*)", re.DOTALL)
_AUTHORITY = re.compile(r"(?:(.*)@)?(\[[0-9a-f:.]+(?:%(?:25)?[\w.-]+)?\]|[^:]*)(?::([0-9]{0,5}))?", re.I | re.A | re.S)
_HOST = re.compile(r"[a-z0-9._-]{1,255}")
_CONTROLS = "".join(map(chr, range(33)))
_NOT_ALLOWED = re.compile(rb"[^A-Za-z0-9._~!$&'()*+,;=:@/?%-]|%(?![0-9A-Fa-f]{2})")


class BadUrlError(ValueError):
    """A URL that is not fetched; `error` is its name in the funnel: bad_url or forbidden_scheme."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error


@dataclass(frozen=True)
class WebUrl:
    """An http(s) URL in ASCII: `host` in small letters, without brackets; `target` is what begins with its path."""

    scheme: str
    authority: str
    target: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_url(text: str | None, base: WebUrl | None = None) -> WebUrl:
    """Parse the http(s) URL in `text` (relative to `base` if given), without its fragment. Raises BadUrlError.

    Bytes that came with `surrogateescape` (of a header, which has no encoding) go out as the bytes that they were.
    """
    if not text or not text.strip():
        raise BadUrlError("bad_url", "the url is empty")
    if len(text) > MAX_URL_CHARS:
        raise BadUrlError("bad_url", f"{len(text)} characters; at most {MAX_URL_CHARS} are tried")
    text = re.sub(r"[\t\n\r]", "", text.strip().strip(_CONTROLS)).partition("#")[0]
    path, mark, query = text.partition("?")
    text = path.replace("\\", "/") + mark + query
    if base is not None and not _ABSOLUTE.match(text):
        text = _join(base, text)
    found = _ABSOLUTE.match(text)
    if found is None:
        raise BadUrlError("bad_url", "no scheme and host; expected http://... or https://...")
    scheme = found[1].lower()
    if scheme not in PORTS:
        raise BadUrlError("forbidden_scheme", f"{scheme[:40]}: is not fetched, only http and https")
    parts = _HIERARCHY.match(found[2])
    if parts is None or not parts[1]:
        raise BadUrlError("bad_url", "no host; expected http://... or https://...")
    try:
        authority, host, port = _parse_authority(parts[1])
        target = _encode(parts[2])
    except ValueError as err:  # a host that is none, or characters that are none
        raise BadUrlError("bad_url", str(err)) from None
    return WebUrl(scheme, authority, target if target.startswith("/") else f"/{target}", host, port or PORTS[scheme])


def ascii_host(host: str) -> str:
    """A host's name in ASCII and small letters. Raises UnicodeError."""
    if host.isascii():
        return host.lower()
    import idna

    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except idna.IDNAError:  # emoji, say, which were registered under the rules of 2003
        return host.encode("idna").decode("ascii").lower()


def _parse_authority(text: str) -> tuple[str, str, int | None]:
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:100]!r} is no host and port")
    user, host, port = found.groups()
    if host.startswith("["):
        written, host = host, host[1:-1].replace("%25", "%")
        ipaddress.IPv6Address(host.partition("%")[0])
    else:
        written = host = ascii_host(unquote(host, errors="strict"))
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host[:100]!r} is no host")
    if int(port or 0) > 0xFFFF:
        raise ValueError(f"{port} is no port")
    before = f"{_encode(user)}@" if user is not None else ""
    return f"{before}{written}{f':{port}' if port else ''}", host, int(port) if port else None


def _encode(text: str) -> str:
    """Other bytes than RFC 3986 allows in a path and a query, in per cents, a lone `%` among them."""
    raw = text.encode("utf-8", "surrogateescape")
    return _NOT_ALLOWED.sub(lambda found: b"%%%02X" % found[0][0], raw).decode("ascii")


def _join(base: WebUrl, reference: str) -> str:
    if reference.startswith("//"):
        return f"{base.scheme}:{reference}"
    path, mark, query = (reference or base.target).partition("?")
    before = base.target.partition("?")[0]
    if not path:
        return f"{base.scheme}://{base.authority}{before}{mark}{query}"
    if not path.startswith("/"):
        path = before[: before.rindex("/") + 1] + path
    return f"{base.scheme}://{base.authority}{_without_dots(path)}{mark}{query}"


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == ".." and len(kept) > 1:
            kept.pop()
        elif segment not in (".", ".."):
            kept.append(segment)
    return "/".join(kept) + ("/" if segments[-1] in (".", "..") else "")
