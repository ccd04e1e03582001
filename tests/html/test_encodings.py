"""Encodings: every label of the WHATWG Encoding Standard, and every place of its tables, read as browsers read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from curate.html.decode import decode
from curate.html.encodings import decode_as, encoding_of

LABELS = json.loads((Path(__file__).parent / "encodings.json").read_text())
"""The standard's encodings.json of May 2026 (encoding.spec.whatwg.org, BSD 3-Clause): 228 labels of 40 encodings."""

SINGLE_BYTES = {
    "ibm866": "2e3f89d51df1d1b9",
    "iso-8859-10": "129e084c5bc4da60",
    "iso-8859-13": "20a9bcd406361c31",
    "iso-8859-14": "80050213abdb4257",
    "iso-8859-15": "b9a4a2394ee58552",
    "iso-8859-16": "c2bb18a77fe0cd90",
    "iso-8859-2": "da4d3b2f8f06435d",
    "iso-8859-3": "c1d9ce25d3762a52",
    "iso-8859-4": "54140e6e75ba62ce",
    "iso-8859-5": "5372981566958051",
    "iso-8859-6": "2b716bc800e7bfe3",
    "iso-8859-7": "8d94b0308cf418c9",
    "iso-8859-8": "ade2c0790e86ddc8",
    "iso-8859-8-i": "ade2c0790e86ddc8",
    "koi8-r": "25a9da95cf2db39e",
    "koi8-u": "79b0a6e96024f61a",
    "macintosh": "94dcdcc19412eb48",
    "windows-1250": "52665a0c49e77322",
    "windows-1251": "153baf169d84e269",
    "windows-1252": "9ba654722668eee9",
    "windows-1253": "fa630499b7db169e",
    "windows-1254": "612d01246f4b5106",
    "windows-1255": "16925d6a9d5cff62",
    "windows-1256": "ae636a90722c9d75",
    "windows-1257": "abd51531663d43f8",
    "windows-1258": "ded84db6d51e3143",
    "windows-874": "4bb5efdc1a2832ec",
    "x-mac-cyrillic": "ab39a8a69bbbd008",
}
"""The characters of the bytes from 0x80, as a digest; made of the index-*.txt of the standard (May 2026)."""

PAIRS = {"gbk": "85373408efe24c65", "euc-kr": "f49bf642f090c1ce", "euc-jp": "a217d8755e0832bc"}
"""The same of all pairs of bytes that have a character."""


def digest(characters: Iterable[str]) -> str:
    return hashlib.sha256("".join(characters).encode()).hexdigest()[:16]


def pairs(encoding: str, leads: range, trails: Iterable[int]) -> list[str]:
    """The characters of all pairs of bytes that have one, in order."""
    found = (decode_as(bytes((lead, trail)), encoding) for lead in leads for trail in trails)
    return [each for each in found if "\ufffd" not in each and len(each) == 1]


@pytest.mark.parametrize("name", LABELS)
def test_every_label_of_the_standard_names_its_encoding(name: str) -> None:
    for label in LABELS[name].split():
        assert encoding_of(f"\t{label.upper()} ") == name


def test_a_page_names_none_of_python_s_own_codecs() -> None:
    names = ("rot13", "unicode_escape", "utf-7", "punycode", "idna", "zlib", "undefined", "mbcs", "cp037", "")
    assert [encoding_of(each) for each in names] == [None] * len(names)


@pytest.mark.parametrize("name", SINGLE_BYTES)
def test_single_bytes_are_the_characters_of_the_standard(name: str) -> None:
    assert decode_as(bytes(range(0x80)), name) == bytes(range(0x80)).decode("ascii")
    assert digest(decode_as(bytes(range(0x80, 0x100)), name)) == SINGLE_BYTES[name]


def test_pairs_of_bytes_are_the_characters_of_the_standard() -> None:
    low = [n for n in range(0x40, 0xFF) if n != 0x7F]
    high = range(0xA1, 0xFF)
    assert digest(pairs("gbk", range(0x81, 0xFF), low)) == PAIRS["gbk"]
    assert digest(pairs("euc-kr", range(0x81, 0xFF), range(0x41, 0xFF))) == PAIRS["euc-kr"]
    rows = [decode_as(b"\x1b$B" + bytes((a - 0x80, b - 0x80)) + b"\x1b(B", "iso-2022-jp") for a in high for b in high]
    japanese = [each for each in rows if each != "\ufffd"]
    assert japanese == pairs("euc-jp", high, high)
    assert "①" in japanese and "纊" in japanese and "～" in japanese and "〜" not in japanese


def test_japanese_reads_the_same_in_its_three_encodings() -> None:
    text = "①令和㈱ ｶﾅ～漢字"
    assert decode_as(text.encode("cp932"), "shift_jis") == text
    assert decode_as(b"\xad\xa1\xce\xe1\xcf\xc2\xad\xea \x8e\xb6\x8e\xc5\xa1\xc1\xb4\xc1\xbb\xfa", "euc-jp") == text
    shifted = b"\x1b$B\x2d\x21\x4e\x61\x4f\x42\x2d\x6a\x1b(B \x1b(I6E\x1b$B\x21\x41\x34\x41\x3b\x7a\x1b(B"
    assert decode_as(shifted, "iso-2022-jp") == text


def test_chinese_of_big5_has_hong_kong_s_characters_and_its_own_dot() -> None:
    assert decode_as(b"\x87\xdf\xa1\x45\xa3\xe1\xc6\xde\xf9\xd6", "big5") == "鿋‧€〃碁"
    assert len(pairs("big5", range(0x87, 0xFF), [*range(0x40, 0x7F), *range(0xA1, 0xFF)])) == 18590


def test_a_bad_pair_of_bytes_costs_itself_and_not_the_line_behind_it() -> None:
    for encoding, bad in (
        ("gbk", b"\xd6\xff"),
        ("big5", b"\xc8\xff"),
        ("euc-kr", b"\xc9\xfe"),
        ("shift_jis", b"\x85\x81"),
    ):
        word = {"gbk": "中文", "big5": "中文", "euc-kr": "한글", "shift_jis": "日本"}[encoding]
        data = word.encode({"gbk": "gbk", "big5": "big5", "euc-kr": "euc-kr", "shift_jis": "cp932"}[encoding])
        assert decode_as(data + bad + data, encoding) == f"{word}\ufffd{word}"
        assert decode_as(data + data[:1] + b"<br>" + data, encoding) == f"{word}\ufffd<br>{word}"


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("latin2", b"Za\xbf\xf3\xb3\xe6 g\xea\xb6l\xb1", "Zażółć gęślą"),
        ("x-cp1251", b"\xcf\xf0\xe8\xeb\xe8\xe2", "Прилив"),
        ("ksc5601", b"\xc7\xd1\xb1\xdb", "한글"),
        ("greek", b"\xe8\xdc\xeb\xe1\xf3\xf3\xe1", "θάλασσα"),
        ("iso-8859-8-i", b"\xf9\xec\xe5\xed", "שלום"),
        ("tis-620", b"\xb7\xd0\xe0\xc5", "ทะเล"),
        ("x-sjis", b"\x8aC", "海"),
        ("iso-8859-9", b"\xfd\xfe", "ış"),
        ("x-mac-ukrainian", b"\xb4\xb6", "іґ"),
    ],
)
def test_a_page_is_read_by_whatever_label_it_writes(label: str, data: bytes, text: str) -> None:
    found = decode(f"<meta charset={label}><p>".encode() + data)
    assert (found.text.partition("<p>")[2], found.evidence, found.undecodable) == (text, "meta", 0)
    assert decode(b"<p>" + data, f'text/html; Charset="{label}"').text == f"<p>{text}"
