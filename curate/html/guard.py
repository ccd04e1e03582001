"""Bound a page's cost: its characters are made harmless before the parser, in linear time.

HTML's own rules are quadratic where a page wants them to be: an end tag searches all open elements, unclosed `<b>` are
opened again in every later paragraph (29 kB of them take 1.6 GB), each attribute is compared with all before it. So
scripts, styles and comments go, and formulas become their text (`<x-math>`); a tag with too many attributes ends the
page; where there are many formatting elements, they get a name without such rules (`<x-b>`); and in a page of many tags
each one is matched with its own, to a bounded depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html import escape

from curate.html.decode import DecodedPage, decode
from curate.html.formulas import read_formula
from curate.html.names import word_set


@dataclass(frozen=True)
class HtmlLimits:
    """The most that a page may hold: bytes, tags, attributes of one tag, characters of a `data:` URL that is kept."""

    max_bytes: int = 8 << 20
    max_tags: int = 500_000
    max_attributes: int = 256
    max_data_url_chars: int = 1 << 20


class PageError(ValueError):
    """A page that cannot be read; `error` is its name."""

    def __init__(self, error: str, detail: str = "") -> None:
        super().__init__(f"{error}: {detail}" if detail else error)
        self.error, self.detail = error, detail


_OTHERS = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"\x1f\x8b",
    b"RIFF",
    b"\x00\x00\x01\x00",
    b"ID3",
)
_RAW = word_set("script style iframe noframes noembed xmp plaintext textarea")
_LEFT_OUT = _RAW | word_set("template svg math m:math mml:math")
_SPACE = " \\t\\n\\f\\r"
_ENDS = rf"(?=[{_SPACE}/>])"
_FIRST = "".join(sorted({name[0] for name in _LEFT_OUT}))  # other tags are passed over in a third of the time
_OPENING = re.compile(rf"<(?=[!{_FIRST}])(?:!--|({'|'.join(sorted(_LEFT_OUT))}){_ENDS}([^>]*+)>?+)", re.I)
_SAME = {name: re.compile(rf"<(/?){name}{_ENDS}([^>]*+)>?+", re.I) for name in _LEFT_OUT}
_FORMATTING = word_set("b big code em font i nobr s small strike strong tt u")
_REOPENED = re.compile(rf"<(/?)({'|'.join(sorted(_FORMATTING))}|a){_ENDS}", re.I)
_VALUE = rf"""(?:"[^"]*+"|'[^']*+'|[^{_SPACE}>"'][^{_SPACE}>]*+)"""
_ATTRIBUTE = rf"[{_SPACE}/]*+[^{_SPACE}/>][^{_SPACE}/>=]*+(?:[{_SPACE}]*+=[{_SPACE}]*+{_VALUE}?+)?+"
_MANY_TAGS = 5_000
_MANY_FORMATTING = 64
"""So many may be opened again in each of so many tags' elements, and it costs nothing that counts."""

_MAX_DEPTH = 256
_NAME = re.compile(rf"<([A-Za-z][^{_SPACE}/>]*+)")
_TAG = re.compile(rf"<(/?)([A-Za-z][^{_SPACE}/>]*+)")
_NOT_NESTED = word_set(
    "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th tbody thead tfoot option"
)
"""Elements without an end tag, or whose end tag may be left out: one ends where the next begins."""


def clean_html(data: bytes, content_type: str | None, limits: HtmlLimits) -> tuple[DecodedPage, int]:
    """Decode and clean a page for the parser: its characters, and how many drawings (`<svg>`) were left out.

    Raises PageError: empty_page, not_html, refused_encoding, page_too_large, too_many_tags, too_many_attributes.
    """
    if not data.strip():
        raise PageError("empty_page", "no bytes but white space")
    if len(data) > limits.max_bytes:
        raise PageError("page_too_large", f"{len(data)} bytes, limit {limits.max_bytes}")
    if data.startswith(_OTHERS):
        raise PageError("not_html", f"begins with {data[:4]!r}")
    page = decode(data, content_type)
    if page.encoding == "replacement":
        raise PageError("refused_encoding", "it names one of those that browsers do not decode: hz, iso-2022-kr, -cn")
    text, drawings = _drop_scripts(page.text)
    opened = _NAME.findall(text)
    if not opened:
        raise PageError("not_html", "no tag in it")
    if len(opened) > limits.max_tags:
        raise PageError("too_many_tags", f"{len(opened)}, limit {limits.max_tags}")
    _check_attributes(text, limits)
    if text.count("<") > _MANY_TAGS and text.count("</") + len(opened) > _MANY_TAGS:
        text = _REOPENED.sub(r"<\1x-\2", _match_tags(text))
    elif sum(map(_FORMATTING.__contains__, map(str.lower, opened))) > _MANY_FORMATTING:
        text = _REOPENED.sub(r"<\1x-\2", text)
    return replace(page, text=text), drawings


def _drop_scripts(text: str) -> tuple[str, int]:
    """Without comments and the elements whose content is not text of the page; a script's open end takes the rest."""
    kept, at, drawings = [], 0, 0
    endless: set[str] = set()
    while found := _OPENING.search(text, at):
        kept.append(text[at : found.start()])
        name, at = (found[1] or "").lower(), found.end()
        drawings += name == "svg"
        if not name:
            end = text.find("-->", at - 2)  # `<!-->` is a whole comment
            at = len(text) if end < 0 else end + 3
        elif name not in endless and not found[2].endswith("/"):
            at = _find_end(name, text, at)
            if at == found.end():
                endless.add(name)
            elif formula := _formula(name, text, found, at):
                kept.append(f"<x-math{' script' * (name == 'script')}>{escape(formula, quote=False)}</x-math>")
    kept.append(text[at:])
    return "".join(kept), drawings


def _formula(name: str, text: str, opening: re.Match[str], end: int) -> str:
    if name.endswith("math") or (name == "script" and "math/" in opening[2]):
        return read_formula(text[opening.start() : end])
    return ""


def _find_end(name: str, text: str, at: int) -> int:
    """Where an element ends that began before `at`: drawings and templates may hold others, and be left open."""
    depth, end = 1, at
    for found in _SAME[name].finditer(text, at):
        if found[1]:
            depth, end = depth - 1, found.end()
        elif name not in _RAW and not found[2].endswith("/"):
            depth += 1
        if not depth:
            return end
    return len(text) if name in _RAW else end


def _check_attributes(text: str, limits: HtmlLimits) -> None:
    """Tried at every `<x`, wherever it stands, so that none is missed; but not within the name of another, which ends
    where its own does, so that a page of `<x<x<x` is read once."""
    tag = rf"[A-Za-z/][^{_SPACE}/>]*+(?!(?:{_ATTRIBUTE}){{{limits.max_attributes + 1}}})"
    harmless = re.match(rf"(?:[^<]*+<(?:{tag}|(?![A-Za-z/])))*+", text)
    if harmless and (first := text.find("<", harmless.end())) >= 0:
        raise PageError(
            "too_many_attributes", f"in one tag, limit {limits.max_attributes}: {text[first : first + 40]!r}"
        )


def _match_tags(text: str) -> str:
    """Every end tag first closes what is open in it, one without its start goes, nothing lies deeper than 256."""
    opened: list[str] = []
    count: dict[str, int] = {}

    def rewrite(found: re.Match[str]) -> str:
        closes, name = found[1], found[2].lower()
        if name in _NOT_NESTED:
            return found[0]
        if not closes:
            if len(opened) >= _MAX_DEPTH:
                return "<wbr"
            opened.append(name)
            count[name] = count.get(name, 0) + 1
            return found[0]
        if not count.get(name):
            return "<wbr"
        ends = []
        while (last := opened.pop()) != name:
            count[last] -= 1
            ends.append(f"</{last}>")
        count[name] -= 1
        return "".join(ends) + found[0]

    return _TAG.sub(rewrite, text)
