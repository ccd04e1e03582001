"""Decode a page's bytes: by byte order mark, HTTP header, `<meta>`, then by what the bytes allow.

Only the encodings that browsers know (WHATWG Encoding Standard, section 4.2) are ever tried: a page cannot name one of
Python's own codecs. What cannot be decoded becomes U+FFFD, and NUL characters go.
"""

from __future__ import annotations

import codecs
import re

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_SEEN = 4096
"""The first bytes of a file, in which an encoding is looked for; browsers look at 1024."""

_ODD = bytes(range(0x80, 0x100))
_MANY_ODD = 32
_DECLARED = re.compile(rb"""<(?:meta\b[^>]*?\bcharset|\?xml\b[^>]*?\bencoding)\s*=\s*["']?\s*([\w.:-]{2,40})""", re.I)
_HINT = re.compile(r"""charset\s*=\s*["']?\s*([\w.:-]{2,40})""", re.I)

_WINDOWS = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252"}
_CODECS = {
    **_WINDOWS,
    **{f"windows-{n}": f"cp{n}" for n in (874, *range(1250, 1259))},
    **{f"cp{n}": f"cp{n}" for n in (866, 874, *range(1250, 1259))},
    **{f"iso-8859-{n}": f"iso8859-{n}" for n in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "ibm866": "cp866",
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "macintosh": "mac-roman",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "x-gbk": "gb18030",
    "big5": "big5hkscs",
    "big5-hkscs": "big5hkscs",
    "euc-jp": "euc-jp",
    "iso-2022-jp": "iso2022-jp",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "utf-16": "utf-8",  # a file in which `<meta` was read byte by byte is not in UTF-16, whatever it says
    "utf-16le": "utf-8",
    "utf-16be": "utf-8",
}


def decode(data: bytes, content_type: str | None = None) -> tuple[str, str]:
    """Decode a page: its characters and the encoding's name; `content_type` is HTTP's header, or an encoding's bare
    name.
    """
    encoding = _bom_encoding(data) or _http_encoding(content_type)
    if encoding is None:
        encoding = "utf-8" if _is_surely_utf8(data) else _meta_encoding(data)
    if encoding is None:
        encoding = "utf-8" if _is_utf8(data) else "cp1252"
    text = data.decode(encoding, "replace")
    return text.lstrip("\ufeff").replace("\0", ""), encoding


def _bom_encoding(data: bytes) -> str | None:
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)


def _http_encoding(content_type: str | None) -> str | None:
    if not content_type:
        return None
    found = _HINT.search(content_type[:_SEEN])
    name = (found[1] if found else content_type).strip().lower()
    if name.startswith("utf-16"):  # of HTTP it is believed: `_meta_encoding` could not have read such a file
        return "utf-16-be" if name.endswith("be") else "utf-16-le"
    return _CODECS.get(name)


def _meta_encoding(data: bytes) -> str | None:
    found = _DECLARED.search(data[:_SEEN])
    return _CODECS.get(found[1].decode("ascii", "replace").lower()) if found else None


def _is_surely_utf8(data: bytes) -> bool:
    """Saved pages keep the `<meta>` of the encoding that they had; so many bytes are not UTF-8 by chance."""
    odd = len(data) - len(data.translate(None, _ODD))
    return odd >= _MANY_ODD and _is_utf8(data)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as err:
        return err.reason == "unexpected end of data"  # only the last character is cut off
    return True
