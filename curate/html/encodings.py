"""Encodings as browsers know them: the labels of the WHATWG Encoding Standard (4.2), decoded by its tables.

Python's codecs bring most of each table; where they part from the standard they are mended here: single bytes without a
character are C1 controls, JIS is read with the rows of NEC and IBM, Big5 with all of HKSCS, and a bad pair of bytes
costs itself and no more. (Left: Big5's two small slashes come as the large ones.)
"""

from __future__ import annotations

import codecs
import functools
import re

_LABELS = {
    "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8",
    "ibm866": "866 cp866 csibm866 ibm866",
    "iso-8859-2": "csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2",
    "iso-8859-3": "csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3",
    "iso-8859-4": "csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4",
    "iso-8859-5": "csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988",
    "iso-8859-6": "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e"
    " iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987",
    "iso-8859-7": "csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso88597 iso_8859-7"
    " iso_8859-7:1987 sun_eu_greek",
    "iso-8859-8": "csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8 iso88598 iso_8859-8"
    " iso_8859-8:1988 visual",
    "iso-8859-8-i": "csiso88598i iso-8859-8-i logical",
    "iso-8859-10": "csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    "iso-8859-13": "iso-8859-13 iso8859-13 iso885913",
    "iso-8859-14": "iso-8859-14 iso8859-14 iso885914",
    "iso-8859-15": "csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9",
    "iso-8859-16": "iso-8859-16",
    "koi8-r": "cskoi8r koi koi8 koi8-r koi8_r",
    "koi8-u": "koi8-ru koi8-u",
    "macintosh": "csmacintosh mac macintosh x-mac-roman",
    "windows-874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874",
    "windows-1250": "cp1250 windows-1250 x-cp1250",
    "windows-1251": "cp1251 windows-1251 x-cp1251",
    "windows-1252": "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591"
    " iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252",
    "windows-1253": "cp1253 windows-1253 x-cp1253",
    "windows-1254": "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 latin5"
    " windows-1254 x-cp1254",
    "windows-1255": "cp1255 windows-1255 x-cp1255",
    "windows-1256": "cp1256 windows-1256 x-cp1256",
    "windows-1257": "cp1257 windows-1257 x-cp1257",
    "windows-1258": "cp1258 windows-1258 x-cp1258",
    "x-mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "gbk": "chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk",
    "gb18030": "gb18030",
    "big5": "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc-jp": "cseucpkdfmtjapanese euc-jp x-euc-jp",
    "iso-2022-jp": "csiso2022jp iso-2022-jp",
    "shift_jis": "csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis",
    "euc-kr": "cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601"
    " windows-949",
    "replacement": "csiso2022kr hz-gb-2312 iso-2022-cn iso-2022-cn-ext iso-2022-kr replacement",
    "utf-16be": "unicodefffe utf-16be",
    "utf-16le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le",
    "x-user-defined": "x-user-defined",
}
_ENCODINGS = {label: name for name, labels in _LABELS.items() for label in labels.split()}

_CODECS = {
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
    "euc-jp": "euc_jp",
    "iso-2022-jp": "euc_jp",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "utf-8": "utf-8",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
"""Python's codecs for encodings of more than a byte a character."""

_PYTHON_NAMES = {"macintosh": "mac-roman", "x-mac-cyrillic": "mac-cyrillic", "iso-8859-8-i": "iso-8859-8"}
_OTHER_BYTES = {"koi8-u": {0xAE: "ў", 0xBE: "Ў"}, "windows-1255": {0xCA: "\u05ba"}}
_OTHER_CHARACTERS = {
    "big5hkscs": str.maketrans("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡"),
    "euc_jp": str.maketrans("〜‖−¢£¬", "～∥－￠￡￢"),
    "gb18030": str.maketrans(
        "\ue5e5\ue78d\ue78e\ue78f\ue790\ue791\ue792\ue793\ue794\ue795\ue796\ue7c7"
        "\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864",
        "\u3000︐︒︑︓︔︕︖︗︘︙ḿ龴龵龶龷龸龹龺龻",
    ),
}
"""The same places of a table, read by Python and by the standard."""

_BIG5_RUNS = (
    "877a㡵𡵓𣚞𦀡㻬 87a1𥣞㫵竼龗𤅡𨤍𣇪𠪊𣉞䌊蒄龖鐯䤰蘓墖靊鈘秐稲晠権袝瑌篅枂稬剏遆㓦珄𥶹瓆鿇垳䤯呌䄱 "
    "87c7𣚎堘穲𧭥讏䚮𦺈䆁𥶙箮𢒼鿈𢓁𢓉𢓌鿉蔄𣖻䂴鿊䓡𪷿拁灮鿋 8e69箸 8e6f簆 8e7e糎 8eab緒 8eb4縝 8ecd者 8ed0耨 "
    "8f57菁 8f69蒨 8f6e萏 8fcb覦覩 8ffe起 906d都 907a銹 90dc靜 90f1響 91bf鼖 9244蔃 92af兙兛兝兞 92c8鍮 "
    "92d1瑹 9447浧 94ca禛 95d9邗 9644靝 96ed瀞 96fc嬨 9b76爁 9b78矗 9b7b纇 9bc6駖 9bde釔 9bec惞 9bf6澶 9c42輶 "
    "9c53侻 9c62營 9c68鄄 9c6b鷰 9c77菏 9cbc尐秣 9cd0婧 9d57輋 9d5a筑 9dc4拐 9ea9恢 9eef痹 9efd汊 9f60鬮 "
    "9f66鼗 9fcb僭 9fd8弌 a063蠏 a077拎 a0d5瑨 a0df煢 a0e4牐 a3c0␀␁␂␃␄␅␆␇␈␉␊␋␌␍␎␏␐␑␒␓␔␕␖␗␘␙␚␛␜␝␞␟␡€ c6cf廴 "
    "c6d3无 c6d5癶 c6d7隶 c6de〃仝 fa5f倩 fa66偽 fabd包 fac5卄 fad5卿 fb48嘅 fbb8婷 fbf3幵 fbf9廐 fc4f彘 "
    "fc6c悤 fcb9撐 fce2晴 fcf1杞 fdb7沜渝 fdbb港 fdf1煮 fe52猪 fe6f瑜 feaa瓩 fedd砉"
)
"""Places of Big5 that Python's codec leaves empty: the first pair of bytes of each run, and its characters."""

_BIG5 = {int(run[:4], 16) + n: character for run in _BIG5_RUNS.split() for n, character in enumerate(run[4:])}

_SHIFTS = re.compile(rb"\x1b(\([BJI]|\$[@B])")
_HIGH = bytes(range(0x21)) + bytes(range(0xA1, 0xFF)) + bytes(range(0x7F, 0x100))
"""JIS as EUC: the same rows and cells, 0x80 higher."""

_KATAKANA = re.compile(rb"[\x21-\x5f]")


def encoding_of(label: str) -> str | None:
    """The encoding that a label names, in small letters; None for what is no label of the standard."""
    return _ENCODINGS.get(label.strip("\t\n\f\r ").lower())


def decode_as(data: bytes, encoding: str) -> str:
    """The characters of bytes in an encoding of the standard; what are none become U+FFFD."""
    if encoding == "replacement":
        return "\ufffd" if data else ""
    codec = _CODECS.get(encoding)
    if codec is None:
        return codecs.charmap_decode(data, "strict", _single_bytes(encoding))[0]
    if codec.startswith("utf"):
        return data.decode(codec, "replace")
    text = (_jis_as_euc(data) if encoding == "iso-2022-jp" else data).decode(codec, "whatwg")
    return text.translate(others) if (others := _others_in(text, codec)) else text


def _others_in(text: str, codec: str) -> dict[int, int] | None:
    others = _OTHER_CHARACTERS.get(codec, {})
    return others if any(chr(each) in text for each in others) else None


@functools.cache
def _single_bytes(encoding: str) -> str:
    """The 256 characters of an encoding of single bytes."""
    if encoding == "x-user-defined":
        return "".join(map(chr, [*range(0x80), *range(0xF780, 0xF800)]))
    name, others = _PYTHON_NAMES.get(encoding, encoding.replace("windows-", "cp")), _OTHER_BYTES.get(encoding, {})
    found = [bytes([n]).decode(name, "replace") for n in range(256)]
    return "".join(others.get(n, chr(n) if c == "\ufffd" and n < 0xA0 else c) for n, c in enumerate(found))


def _jis_as_euc(data: bytes) -> bytes:
    """ISO-2022-JP as EUC-JP: what its escapes shift between is told by the high bit there."""
    first, *parts = _SHIFTS.split(data)
    euc = [first]
    for shift, part in zip(parts[::2], parts[1::2], strict=True):
        if shift == b"(I":
            part = _KATAKANA.sub(lambda found: bytes((0x8E, found[0][0] | 0x80)), part)
        elif shift.startswith(b"$"):
            part = part.translate(_HIGH)
        euc.append(part)
    return b"".join(euc)


def _replace_pair(error: UnicodeError) -> tuple[str, int]:
    """What stands for bytes that a codec of Python's has no character for, and where to go on: behind the whole pair,
    unless its second byte is ASCII."""
    assert isinstance(error, UnicodeDecodeError)
    at, pair = error.start, error.object[error.start : error.start + 2]
    if pair[0] == 0x80 and error.encoding == "gb18030":
        return "€", at + 1
    if error.encoding == "big5hkscs" and (character := _BIG5.get(int.from_bytes(pair, "big"))) is not None:
        return character, at + 2
    if error.encoding == "euc_jp" and len(pair) == 2 and min(pair) > 0xA0:
        return _pair_of_jis(pair[0] - 0xA1, pair[1] - 0xA1), at + 2
    length = 3 if pair[0] == 0x8F and error.encoding == "euc_jp" else 2
    whole = error.object[at + 1 : at + length]
    return "\ufffd", at + 1 + next((n for n, byte in enumerate(whole) if byte < 0x80), len(whole))


def _pair_of_jis(row: int, cell: int) -> str:
    """A place of JIS X 0208 with the extensions of NEC and IBM, as Shift_JIS has it."""
    lead, trail = row // 2 + (0x81 if row < 62 else 0xC1), cell + (0x9F if row % 2 else 0x40)
    trail += trail >= 0x7F and row % 2 == 0
    return bytes((lead, trail)).decode("cp932", "replace")[0]


codecs.register_error("whatwg", _replace_pair)
