"""Judge and resolve links of images."""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from urllib.parse import unquote, urljoin, urlsplit

from curate.html.names import Attributes

_PIXEL = re.compile(r"\s*([0-9]{1,5})\s*(?:px)?\s*", re.I)
_QUIET = r"[\w./%,@=:&+~!-]"
_PLAIN = re.compile(
    rf"(https?://|//)[\w.-]+(?:/{_QUIET}*)?(?:\?{_QUIET}+)?|(/?)[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII
)
"""A link in which nothing has to be unquoted, taken out or resolved but for what comes before it."""

_STAND_IN = re.compile(
    r"(?:blank|empty|spacer|placeholder|transparent|trans|pixel|1x1|clear|dot|lazy|lazyload|loading|loader|load|none"
    r"|grey|gray)"
    r"(?:[-_.]\d+)?\.(?:gif|png|svg|jpe?g|webp)$",
    re.I,
)
_TINY_DATA_URL = 400
"""A `data:` URL of fewer characters is what shows until the picture comes."""

_NO_FILE = frozenset({"null", "undefined", "nan", "[object object]", "[object%20object]"})
_NO_LINK = frozenset({"none", "nil", "false", "true", "void", "unknown", "(unknown)"})
"""What scripts write where they have no link, the first ones also behind a folder."""

_TEMPLATE = re.compile(r"\{[{%#]|[}%#]\}|<%|%>|[$#@]\{|%7B%7B|\[\[|\{[A-Za-z_][\w.]*\}", re.I)
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]{0,30}):")


def is_link(link: str) -> bool:
    """Whether a value can lead to an image: neither empty nor the page itself, a script's `null`, an unfilled template
    or another scheme than HTTP's and `data:image`.
    """
    if link[:5].lower() == "data:":
        return link[:11].lower() == "data:image/"
    path, _, asked = link.partition("#")[0].partition("?")
    name = path.rpartition("/")[2].lower()
    if not (path.strip("./ ") or asked) or name in _NO_FILE or (name in _NO_LINK and "/" not in path):
        return False
    if ("{" in link or "%" in link or "[" in link) and _TEMPLATE.search(link[:4096]):
        return False
    scheme = _SCHEME.match(link) if link[:4] != "http" else None
    return scheme is None or scheme[1].lower() in ("http", "https")


def is_stand_in(link: str) -> bool:
    """Whether a link names what a page shows until the picture comes, by its name or its size."""
    if link.startswith("data:"):
        return len(link) < _TINY_DATA_URL
    return bool(_STAND_IN.match(link.partition("?")[0][-200:].rpartition("/")[2]))


def is_tiny(img: Attributes, side_px: int = 3) -> bool:
    """Whether the page itself says that the picture is at most `side_px` wide or high: counters, spacers."""
    sides = [_PIXEL.fullmatch(img[name] or "") for name in ("width", "height") if name in img]
    return any(side is not None and int(side[1]) <= side_px for side in sides)


def resolve_link(link: str, page: str | None, base: str | None, max_data_url_chars: int) -> str | None:
    """`link` made absolute by the page's URL and its `<base>`, or a path in the page's folder; None where neither is.

    Where `page` is a path (`a/b.html`), the result is one too, normalised; one that leaves the folder is None, as are
    links to scripts, mail, the page itself, and `data:` URLs above the limit or of anything but an image.
    """
    link = re.sub(r"[\t\n\r]", "", link).strip()
    if not is_link(link):
        return None
    found = _resolved(link, page, base, max_data_url_chars)
    return found if found is None or page is None or found != page.partition("#")[0] else None


def _resolved(link: str, page: str | None, base: str | None, max_data_url_chars: int) -> str | None:
    if plain := _PLAIN.fullmatch(link):
        start = plain[1] or plain[2]
        before = _resolved_prefix(start, page, base)
        return before + link[len(start) :] if before is not None else None
    if link[:5].lower() == "data:":
        return link if len(link) <= max_data_url_chars else None
    return _join_url(link, page, base)


@lru_cache(maxsize=4)
def _resolved_prefix(start: str, page: str | None, base: str | None) -> str | None:
    """What stands in place of `start`, once a link that begins with it is resolved: parsed once a page."""
    found = _join_url(f"{start}x", page, base)
    return found[:-1] if found is not None else None


def _join_url(link: str, page: str | None, base: str | None) -> str | None:
    try:
        parts, root, under = urlsplit(link), urlsplit(page or ""), urlsplit(base or "")
        if parts.scheme or parts.netloc or root.scheme or under.netloc:
            return _url(urljoin(urljoin(page or "", base or ""), link))
    except ValueError:  # a host in brackets that is no address
        return None
    if page is None or not parts.path:
        return None
    return _path(unquote(page), unquote(under.path), unquote(parts.path))


def _url(joined: str) -> str | None:
    joined = joined.partition("#")[0].replace(" ", "%20")
    if joined.startswith("//"):  # a page in a folder has no scheme to lend
        joined = f"https:{joined}"
    parts = urlsplit(joined)
    return joined if parts.scheme in ("http", "https") and parts.netloc else None


def _path(page: str, base: str, link: str) -> str | None:
    """Not by `urljoin`, which swallows every `..` that leaves the root."""
    folder = posixpath.dirname(posixpath.join(posixpath.dirname(page), base))
    path = posixpath.normpath(posixpath.join("/", folder, link)[1:] or ".")
    return None if path.startswith(("..", "/")) or path == "." or "\0" in path else path
