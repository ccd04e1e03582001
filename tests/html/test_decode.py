"""Characters of a page: what speaks for its encoding, what does not, and what is said of bytes that fit none."""

from __future__ import annotations

import pytest

from curate.html import PageError, parse
from curate.html.decode import decode

WORD = "θάλασσα".encode("iso-8859-7")


@pytest.mark.parametrize(
    "head",
    [
        b"<meta charset=greek>",
        b"<META/CHARSET='Greek'/>",
        b'<meta name=x charset=" greek ">',
        b'<meta content="text/html; charset=greek" http-equiv="Content-Type">',
        b"<meta http-equiv=content-type content='charset = \"greek\"; x'>",
        b"<!--><meta charset=greek>",  # `<!-->` is a whole comment
        b"<meta charset=nonsense><meta charset=greek>",
        b"<meta charset=greek charset=gbk>",
        b"<a title='>'><meta charset=greek>",
        b"<?xml version='1.0' encoding='greek'?>",
        b"<?xml version='1.0' encoding='gbk'?><meta charset=greek>",
        b"<script>" + b"x;" * 10_000 + b"</script><meta charset=greek>",
    ],
)
def test_what_a_page_says_of_its_characters_is_heeded(head: bytes) -> None:
    found = decode(head + b"<p>" + WORD)
    assert (found.text.partition("<p>")[2], found.encoding, found.evidence) == ("θάλασσα", "iso-8859-7", "meta")


@pytest.mark.parametrize(
    "head",
    [
        b"<!-- <meta charset=gbk> -->",
        b"<script>document.write('<meta charset=gbk>')</script>",
        b"<script src=x.js charset=gbk></script>",
        b"<style>/* <meta charset=gbk> */</style>",
        b"<title>The element <meta charset=gbk></title>",
        b"<textarea><meta charset=gbk></textarea>",
        b"<link href='/style.css?charset=gbk' charset=gbk>",
        b"<a href='https://example.org/?x=<meta charset=gbk>'>",
        b"<meta name=description content='text/html; charset=gbk'>",
        b"<meta property=og:url content='https://example.org/?charset=gbk'>",
        b"<meta http-equiv=refresh content='0; url=/?charset=gbk'>",
        b"<meta data-charset=gbk>",
        b"&lt;meta charset=gbk&gt;",
        b"<p>write charset=gbk there</p>",
        b"</meta charset=gbk>",
        b"<?php <meta charset=gbk",
    ],
)
def test_what_only_looks_like_a_declaration_decides_nothing(head: bytes) -> None:
    found = decode(head + b"<p>caf\xe9")
    assert (found.text[-4:], found.encoding, found.evidence) == ("café", "windows-1252", "nothing")


def test_a_byte_order_mark_goes_before_header_and_page() -> None:
    for mark, codec in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        found = decode(mark + "<meta charset=gbk><p>hélà".encode(codec), "text/html; charset=koi8-r")
        assert (found.text, found.evidence) == ("<meta charset=gbk><p>hélà", "mark")


def test_utf_16_without_a_mark_is_read_by_how_it_begins() -> None:
    for codec in ("utf-16-le", "utf-16-be"):
        assert decode("<p>Прилив".encode(codec)).text == "<p>Прилив"
    assert decode("<meta charset=utf-16><p>é".encode()).encoding == "utf-8"


@pytest.mark.parametrize(
    "text", ["Приливы и отливы в старой гавани", "港の潮見表", "Ebbe und Flut für Köln und Müritz", "cliché"]
)
def test_one_bad_byte_costs_one_character_of_an_undeclared_page(text: str) -> None:
    data = f"<p>{text} ".encode()
    for bad in (b"\xff", "я".encode()[:1], "港".encode()[:2]):
        found = decode(data + bad + b" end")
        assert (found.text, found.encoding, found.undecodable) == (f"<p>{text} \ufffd end", "utf-8", 1)


def test_one_bad_byte_does_not_give_a_page_back_to_the_encoding_that_it_once_had() -> None:
    text = "Паром уходит из старой гавани в семь утра. " * 4
    found = decode(f"<meta charset=windows-1251><p>{text}".encode() + b"\xd0 end")
    assert (found.text[-len(text) - 5 :], found.undecodable) == (f"{text}\ufffd end", 1)


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("Grüße aus Köln", "cp1252"),
        ("café", "cp1252"),
        ("Прилив и отлив", "koi8-r"),
        ("ทะเลในอ่าวไทย", "cp874"),
        ("海的潮汐表", "gbk"),
    ],
)
def test_undeclared_bytes_that_are_no_utf_8_are_told_to_be_a_guess(text: str, codec: str) -> None:
    found = decode(f"<p>{text}".encode(codec))
    assert (found.encoding, found.evidence) == ("windows-1252", "nothing")


def test_places_that_fit_no_character_are_counted_and_those_of_the_page_are_not() -> None:
    assert decode("<meta charset=utf-8><p>\ufffd é".encode()).undecodable == 0
    assert decode(b"<meta charset=utf-8><p>caf\xe9 na\xefve").undecodable == 2
    assert decode(b"<meta charset=shift_jis><p>\x8aC \xfc\xfc \x85\x40").undecodable == 2
    found = parse(b"<meta charset=utf-8><p>The caf\xe9 is closed today.")
    assert (found.encoding, found.evidence, found.undecodable) == ("utf-8", "meta", 1)


def test_an_encoding_that_browsers_refuse_fails_by_its_name() -> None:
    with pytest.raises(PageError, match="refused_encoding"):
        parse(b"<meta charset=hz-gb-2312><p>~{VPND~}")
