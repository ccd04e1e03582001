"""Decode a page's bytes: by byte order mark, HTTP header, `<meta>`, then by what the bytes allow.

Only the encodings that browsers know are ever tried: a page cannot name one of Python's own codecs. What a page says of
itself is found as HTML's standard finds it (13.2.3.2, the prescan), but further in, and never within scripts, styles or
titles. What cannot be decoded becomes U+FFFD, and NUL characters go.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Literal

from curate.html.encodings import decode_as, encoding_of

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16le"), (codecs.BOM_UTF16_BE, "utf-16be"))
_SEEN = 1 << 16
"""The first bytes of a page, in which an encoding is looked for (browsers: 1024, but they heed a later one)."""

_ODD = bytes(range(0x80, 0x100))
_MANY = 32
_SURE = 16
"""So many characters of UTF-8, and so many a place that is none, make a page UTF-8 whatever its `<meta>` says."""

_CHARSET = re.compile(r"""charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;"']+))""", re.I)
_MARKUP = re.compile(rb"<(?:!--|(/?[A-Za-z][^\s/>]*)|[!/?])")
_ATTRIBUTE = re.compile(rb"""[\s/]*+([^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|(?!["'])([^\s>]*+)))?+""")
_RAW = frozenset(b"script style title textarea xmp iframe noembed noframes".split())
_XML = re.compile(rb"""<\?xml\b[^>]*?\bencoding\s*=\s*["']([^"'>]*)["']""")

Evidence = Literal["mark", "header", "meta", "bytes", "nothing"]


@dataclass(frozen=True)
class DecodedPage:
    """A page's characters, the encoding's name (WHATWG) and what spoke for it.

    `evidence`: a byte order mark, HTTP's header, the page's own `<meta>` (or XML declaration), bytes that are UTF-8, or
    nothing, where windows-1252 is taken. `undecodable`: the places whose bytes are no character of the encoding.
    """

    text: str
    encoding: str
    evidence: Evidence
    undecodable: int


def decode(data: bytes, content_type: str | None = None) -> DecodedPage:
    """Decode a page; `content_type` is HTTP's header, or an encoding's bare name."""
    encoding, evidence = _encoding(data, content_type)
    text = decode_as(data, encoding)
    undecodable = text.count("\ufffd")
    if undecodable and encoding == "utf-8":
        undecodable -= data.count(b"\xef\xbf\xbd")  # the page's own
    return DecodedPage(text.lstrip("\ufeff").replace("\0", ""), encoding, evidence, undecodable)


def _encoding(data: bytes, content_type: str | None) -> tuple[str, Evidence]:
    if marked := next((name for mark, name in _MARKS if data.startswith(mark)), None):
        return marked, "mark"
    if told := _http_encoding(content_type):
        return told, "header"
    if wide := {b"<\0": "utf-16le", b"\0<": "utf-16be"}.get(data[:2]):
        return wide, "bytes"
    if data.isascii() and b"\x1b" not in data and b"~{" not in data:  # in ISO-2022 and HZ ASCII means other characters
        return "utf-8", "bytes"
    good, bad = _count_utf8(data)
    if good >= _MANY and good >= _SURE * bad:  # saved pages keep the `<meta>` of the encoding that they had
        return "utf-8", "bytes"
    if declared := _meta_encoding(data[:_SEEN]):
        return declared, "meta"
    return ("utf-8", "bytes") if good >= max(bad, 1) else ("windows-1252", "nothing")


def _http_encoding(content_type: str | None) -> str | None:
    if not content_type:
        return None
    found = _CHARSET.search(content_type)
    return encoding_of(next(filter(None, found.groups()), "") if found else content_type)


def _count_utf8(data: bytes) -> tuple[int, int]:
    """How much beyond ASCII the bytes hold as UTF-8 (characters, or their further bytes where all are well), and in how
    many places they are none; a last character that is cut off is neither."""
    text, read = codecs.utf_8_decode(data, "replace", False)
    if "\ufffd" not in text:
        return read - len(text), 0
    bad = text.count("\ufffd") - data.count(b"\xef\xbf\xbd")
    return len(text) - len(data.translate(None, _ODD)) - bad, bad


def _meta_encoding(head: bytes) -> str | None:
    """What the page says of itself in the bytes that were read one by one: so it is no UTF-16, whatever it says."""
    label = _meta_label(head)
    if label is None and (xml := _XML.match(head)):
        label = xml[1].decode("latin-1")
    encoding = encoding_of(label or "")
    if encoding == "x-user-defined":
        return "windows-1252"
    return "utf-8" if encoding in ("utf-16le", "utf-16be") else encoding


def _meta_label(head: bytes) -> str | None:
    at, last = 0, head.lower().rfind(b"charset")
    while (found := _MARKUP.search(head, at)) and found.start() < last:
        name = (found[1] or b"").lower()
        if not name:
            end = b"-->" if found[0] == b"<!--" else b">"
            at = head.find(end, found.end() - 2 if end == b"-->" else found.end())  # `<!-->` is a whole comment
            if at < 0:
                return None
            continue
        attributes, at = _attributes(head, found.end())
        if name == b"meta" and (label := _label_of(attributes)) and encoding_of(label):
            return label
        if name in _RAW:
            end_tag = re.compile(rb"</" + name, re.I).search(head, at)
            at = end_tag.start() if end_tag else len(head)
    return None


def _attributes(head: bytes, at: int) -> tuple[dict[bytes, str], int]:
    """The attributes of a tag, of each name the first, and where they end."""
    found: dict[bytes, str] = {}
    while attribute := _ATTRIBUTE.match(head, at):
        at = attribute.end()
        value = next((part for part in attribute.groups()[1:] if part is not None), b"")
        found.setdefault(attribute[1].lower(), value.decode("latin-1"))
    return found, at


def _label_of(attributes: dict[bytes, str]) -> str | None:
    if b"charset" in attributes:
        return attributes[b"charset"]
    if attributes.get(b"http-equiv", "").strip().lower() != "content-type":
        return None
    found = _CHARSET.search(attributes.get(b"content", ""))
    return next(filter(None, found.groups()), "") if found else None
