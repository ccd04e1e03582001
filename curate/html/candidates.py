"""Choose the file that an `<img>` stands for: of all that its tag names, the best by evidence.

Scripts that load pictures late put the link into an attribute of their own and something else into `src`: nothing, a
dot, a blur of the picture. Widths that are stated (`srcset`) count most, then attributes of such scripts, then what
stands in `<noscript>`, then `src`; links that are none (`#`, `null`, `{{photo}}`) and stand-ins never.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from curate.html.images import is_link, is_stand_in
from curate.html.names import Attributes, word_set

_LATE = word_set(
    "data-src data-lazy-src data-original data-original-src data-actualsrc data-cfsrc data-ezsrc data-li-src"
    " data-ll-src data-defer-src data-opt-src data-orig-src data-realsrc data-real-src data-ks-lazyload"
    " data-lazyload data-lazy-img data-lazyload-src data-flickity-lazyload data-pagespeed-lazy-src pagespeed_lazy_src"
    " nitro-lazy-src real_src data-echo data-delayed-url data-hi-res-src zoomfile"
)
_OFTEN_LATE = word_set("file data-file data-url data-lazy data-image data-img data-imgurl data-path data-photo _src")
"""Of these a value that names an image file is one; other scripts write other things there."""

_SOUNDS_LATE = re.compile(r"src|lazy|origin")
_SOUNDS_LARGE = re.compile(r"hi-?gh?-?res|hi-?res|retina|large|full|big|zoom|[23]x")
_NOT_THE_PICTURE = re.compile(
    r"small|thumb|mini|mobile|low|tiny|lqip|blur|preview|placeholder|error|fallback|hover|video|iframe|poster|icon|name"
    r"|title|alt|caption|desc|size|width|height|ratio|format|type|share|pin|html|page|href|link"
)
_NO_LINKS = word_set(
    "alt class id style title width height sizes loading decoding border align hspace vspace role name itemprop usemap"
    " longdesc aria-label aria-describedby aria-hidden crossorigin referrerpolicy fetchpriority onerror onload onclick"
)
_IMAGE_FILE = re.compile(r"\.(?:jpe?g|jfif|png|gif|webp|avif|heic|bmp|tiff?|svg)(?![a-z0-9])", re.I)
_PHOTO = re.compile(r"\.(?:jpe?g|jfif|png|webp|avif|heic)(?![a-z0-9])", re.I)
"""A counter in `<noscript>` beside a picture names none."""

_OTHER_FILE = re.compile(r"\.(?:mp4|m4v|webm|ogv|mov|m3u8|mp3|pdf|js|css|html?)(?:[?#]|$)", re.I)
_ONE_LINK = re.compile(r"[^\s\"'(){}<>\\]+")
_DESCRIBED = re.compile(r"\s[0-9.]{1,12}[wx]\s*(?:,|$)")
_CANDIDATE = re.compile(r"\s*([^\s,](?:[^\s]*[^\s,])?)(?:\s+([0-9.]{1,12})([wxh])(?:\s+[0-9.]{1,12}h)?)?\s*(?:,+|$)")
_WIDTH = re.compile(r"[0-9]{1,5}")
_MAX_CANDIDATES = 64
_BLUR_PX = 100
"""What is said to be narrower shows until the picture comes."""

_DATA, _OTHER, _SMALL, OWN, _FALLBACK, LATE, _STATED = range(7)


class Candidate(NamedTuple):
    """A link that an `<img>` names, as written; the greater, the better."""

    rank: int
    width: float
    """As stated: pixels or density; 1 where nothing is, 2 where the attribute's name speaks of the large file."""
    link: str


def named_files(img: Attributes, sources: Sequence[Attributes] = (), fallback: bool = False) -> list[Candidate]:
    """Name the files of an `<img>`, best first; `sources` are the `<source>` of its `<picture>`.

    A `fallback` stands in `<noscript>`.
    """
    found: list[Candidate] = []
    for attributes in (img, *sources):
        for name, value in attributes.items():
            kind = _kind(name)
            if not value or not kind:
                continue
            if kind == "src":
                found += _src(value.strip(), fallback) if attributes is img else ()
            else:
                found += _READERS[kind](name, value.strip(), attributes)
    found = [each for each in found if not is_stand_in(each.link)]
    return sorted(found, key=lambda each: each[:2], reverse=True) if len(found) > 1 else found


@lru_cache(maxsize=4096)
def _kind(name: str) -> str:
    """What an attribute of this name may hold; empty where it is no link."""
    if name in ("src", "srcset"):
        return name
    if name in _LATE:
        return "late"
    if name in _NO_LINKS or _NOT_THE_PICTURE.search(name.replace("pagespeed", "")):
        return ""
    if name.endswith(("srcset", "original-set", "src-set")):
        return "late set"
    return "often late" if name in _OFTEN_LATE or _SOUNDS_LATE.search(name) else "other"


def _src(value: str, fallback: bool) -> Iterator[Candidate]:
    if value[:5].lower() == "data:":
        yield Candidate(_DATA, 1.0, value)
    elif is_link(value):
        yield Candidate((_FALLBACK if _PHOTO.search(value) else _SMALL) if fallback else OWN, 1.0, value)


def _srcset(_name: str, value: str, img: Attributes) -> Iterator[Candidate]:
    for width, link in _set(value, img):
        stated = width >= _BLUR_PX or 1 < width < 10
        yield Candidate(_DATA if link[:5] == "data:" else _STATED if stated else _SMALL, width, link)


def _late_set(name: str, value: str, img: Attributes) -> Iterator[Candidate]:
    for each in _srcset(name, value, img):
        yield each._replace(rank=LATE) if each.rank == _SMALL else each


def _late(name: str, value: str, img: Attributes) -> Iterator[Candidate]:
    if _DESCRIBED.search(value[:4096]):
        yield from _late_set(name, value, img)
        return
    filled, width = _filled(value, img)
    speaks = any(mark in filled for mark in "./?:") and filled[:1] not in "[{"
    if filled[:5].lower() == "data:":
        yield Candidate(_DATA, 1.0, filled)
    elif speaks and is_link(filled) and (_IMAGE_FILE.search(filled) or not _OTHER_FILE.search(filled)):
        large = 2.0 if name == "zoomfile" or _SOUNDS_LARGE.search(name) else 1.0
        yield Candidate(_STATED if width else LATE, width or large, filled)


def _often_late(name: str, value: str, img: Attributes) -> Iterator[Candidate]:
    for each in _late(name, value, img):
        yield each if _IMAGE_FILE.search(each.link) else each._replace(rank=_OTHER)


def _other(_name: str, value: str, _img: Attributes) -> Iterator[Candidate]:
    if "/" in value and _IMAGE_FILE.search(value) and _ONE_LINK.fullmatch(value) and is_link(value):
        yield Candidate(_OTHER, 1.0, value)


_READERS: dict[str, Callable[[str, str, Attributes], Iterator[Candidate]]] = {
    "srcset": _srcset,
    "late set": _late_set,
    "late": _late,
    "often late": _often_late,
    "other": _other,
}


def _set(srcset: str, img: Attributes) -> Iterator[tuple[float, str]]:
    """The widest or densest candidate of a `srcset`: its descriptor's number (1 where it has none) and its link."""
    named, at = [], 0
    for _ in range(_MAX_CANDIDATES):
        found = _CANDIDATE.match(srcset, at)
        if not found or found.end() == at:
            break
        at = found.end()
        link, stated = _filled(found[1], img)
        size = stated or (_number(found[2]) if found[2] else 1.0)
        named.append((size, link))
    named.sort(key=lambda each: each[0], reverse=True)
    yield from islice((each for each in named if is_link(each[1]) and not is_stand_in(each[1])), 1)


def _filled(link: str, img: Attributes) -> tuple[str, float]:
    """A link in which a script puts the width: with the largest of those that the tag lists."""
    if "{width}" not in link:
        return link, 0.0
    widths = [int(each) for each in _WIDTH.findall((img.get("data-widths") or "")[:400])]
    return (link.replace("{width}", str(max(widths))), float(max(widths))) if widths else (link, 0.0)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
