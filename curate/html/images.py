"""Resolve images: the file that an `<img>` names (lazy loading, `srcset`, `<picture>`) and its URL."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote, urljoin, urlsplit

from curate.html.names import Attributes

LAZY = ("data-src", "data-original", "data-lazy-src", "data-lazy", "data-original-src", "data-hi-res-src", "data-url")
LAZY_SETS = ("data-srcset", "data-lazy-srcset", "data-original-set")
_SETS = (*LAZY_SETS, "srcset")
_CANDIDATE = re.compile(r"\s*([^\s,](?:[^\s]*[^\s,])?)(?:\s+([0-9.]{1,12})([wx])(?:\s+[0-9.]{1,12}h)?)?\s*(?:,+|$)")
_PIXEL = re.compile(r"\s*([0-9]{1,5})\s*(?:px)?\s*", re.I)
_QUIET = r"[\w./%,@=:&+~!-]"
_PLAIN = re.compile(
    rf"(https?://|//)[\w.-]+(?:/{_QUIET}*)?(?:\?{_QUIET}+)?|(/?)[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII
)
"""A link in which nothing has to be unquoted, taken out or resolved but for what comes before it."""

_STAND_IN = re.compile(
    r"(?:blank|empty|spacer|placeholder|transparent|trans|pixel|1x1|clear|dot|lazy|lazyload|loading|loader"
    r"|grey|gray)"
    r"(?:[-_.]\d+)?\.(?:gif|png|svg|jpe?g|webp)$",
    re.I,
)
_MAX_CANDIDATES = 64
_TINY_DATA_URL = 400
"""A `data:` URL of fewer characters beside a lazy attribute is what shows until the picture comes."""


def image_source(img: Attributes, sources: Sequence[Attributes] = ()) -> str | None:
    """The link of the largest file that an `<img>` names, as written; `sources` are the `<source>` of its `<picture>`.

    None where it names none. A lazy attribute counts before `src`, which then holds a stand-in.
    """
    sets = [each[name] for each in (img, *sources) for name in _SETS if name in each]
    plain = _plain(img)
    if not sets:
        return plain
    best = max((largest_candidate(each) for each in sets if each), default=(0.0, ""), key=lambda pair: pair[0])
    if best[1] and (best[0] > 1 or not plain or is_stand_in(plain)):
        return best[1]
    return plain


def _plain(img: Attributes) -> str | None:
    lazy = next((link for name in LAZY if name in img and (link := (img[name] or "").strip())), None)
    src = (img.get("src") or "").strip()
    if lazy and (not src or not src.startswith("data:") or len(src) < _TINY_DATA_URL):
        return lazy
    return src or None


def is_stand_in(link: str) -> bool:
    """Whether a link names what a page shows until the picture comes, by its name or its size."""
    if link.startswith("data:"):
        return len(link) < _TINY_DATA_URL
    return bool(_STAND_IN.match(link.partition("?")[0][-200:].rpartition("/")[2]))


def largest_candidate(srcset: str) -> tuple[float, str]:
    """The widest or densest candidate of a `srcset`: its descriptor's number (1 where it has none) and its link."""
    best, at = (0.0, ""), 0
    for _ in range(_MAX_CANDIDATES):
        found = _CANDIDATE.match(srcset, at)
        if not found or found.end() == at:
            break
        at = found.end()
        size = _number(found[2]) if found[2] else 1.0
        if size > best[0]:
            best = (size, found[1])
    return best


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


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
    if not link:
        return None
    if plain := _PLAIN.fullmatch(link):
        start = plain[1] or plain[2]
        before = _resolved_prefix(start, page, base)
        return before + link[len(start) :] if before is not None else None
    if link[:5].lower() == "data:":
        return link if link[:11].lower() == "data:image/" and len(link) <= max_data_url_chars else None
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
