"""Pages whose characters are broken or that mean harm: read where they can be, refused by name, at bounded cost."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from html_pages import STORY, URL, shown

from curate.html import HtmlLimits, PageError, parse


def refusal(data: bytes, limits: HtmlLimits | None = None) -> str:
    with pytest.raises(PageError) as refused:
        parse(data, URL, None, limits or HtmlLimits())
    return refused.value.error


@pytest.mark.parametrize(
    ("data", "content_type", "encoding"),
    [
        (b"\xef\xbb\xbf<p>na\xc3\xafve", None, "utf-8"),
        ("\ufeff<p>naïve".encode("utf-16le"), None, "utf-16le"),
        (b"<meta charset=iso-8859-1><p>na\xefve", None, "windows-1252"),
        (b'<meta http-equiv="Content-Type" content="text/html; charset=ISO-8859-15"><p>na\xefve', None, "iso-8859-15"),
        (b'<?xml version="1.0" encoding="windows-1252"?><p>na\xefve', None, "windows-1252"),
        (b"<meta charset=utf-8><p>na\xefve", "text/html; charset=latin1", "windows-1252"),
        (b"<p>na\xc3\xafve", None, "utf-8"),
        (b"<p>na\xefve", None, "windows-1252"),
        (b"<meta charset=unicode_escape><p>na\xc3\xafve", None, "utf-8"),
        (b"<p>na&iuml;ve", "text/html; charset=nonsense", "utf-8"),
    ],
)
def test_characters_are_read_by_mark_header_declaration_and_look_in_order(
    data: bytes, content_type: str | None, encoding: str
) -> None:
    """Characters are read by mark then header then declaration then look."""
    found = parse(data, URL, content_type)
    assert (shown(found), found.encoding) == (["naïve"], encoding)


def test_page_that_was_saved_as_utf_8_is_read_so_whatever_it_once_declared() -> None:
    sentence = "Паром уходит из старой гавани в семь утра."
    found = parse(f"<meta charset=windows-1251><p>{sentence}".encode())
    assert (shown(found), found.encoding) == ([sentence], "utf-8")
    assert shown(parse(f"<meta charset=windows-1251><p>{sentence}".encode("cp1251"))) == [sentence]


def test_broken_characters_and_nuls_break_nothing() -> None:
    assert shown(parse(b"<p>a\x00b \xff\xfe c</p><p>\xe2\x82</p><p>end of it", URL, "utf-8"))[0] == "ab \ufffd\ufffd c"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "empty_page"),
        (b" \n ", "empty_page"),
        (b"<html><body></body></html>", "empty_page"),
        (b"<script>alert(1)</script><p> </p><a href=x>one</a><a href=y>two</a>", "empty_page"),
        (b"%PDF-1.7 <p>x", "not_html"),
        (b"\x89PNG\r\n<p>x", "not_html"),
        (b'{"a": 1}', "not_html"),
        (b"<p " + b" ".join(b"a%d=1" % n for n in range(300)) + b">x", "too_many_attributes"),
        (b"<p " + b"".join(b'a%d=">"' % n for n in range(300)) + b">x", "too_many_attributes"),
    ],
)
def test_file_that_is_no_page_has_a_named_error(data: bytes, error: str) -> None:
    """What cannot be read as a page has a named error."""
    assert refusal(data) == error


def test_page_above_the_limits_is_refused() -> None:
    assert refusal(b"<p>" + b"x" * 1000, HtmlLimits(max_bytes=1000)) == "page_too_large"
    assert refusal(b"<p>x" * 1001, HtmlLimits(max_tags=1000)) == "too_many_tags"


BOMBS = {
    "deep": "<div>" * 200_000,
    "deep lists": "<ul><li>" * 100_000,
    "deep tables": "<table><tr><td>" * 60_000,
    "deep spans": "<span>" * 200_000,
    "deep below the limit of care": "<div>" * 4_900,
    "formatting": "<p>" + "".join(f"<b id={n}>" for n in range(2400)) + "<p>x" * 2400,
    "formatting, much": "<p>" + "".join(f"<b id={n}>" for n in range(20_000)) + "<p>x" * 100_000,
    "links": "<a href=x><div>" * 50_000,
    "stray ends": "<span>" * 100_000 + "</em>" * 100_000,
    "fake ends": "<div><!--</div>-->" * 100_000,
    "open comments": "<!--" * 500_000,
    "open scripts": "<script " * 500_000,
    "scripts without an end": "<script" * 1_000_000,
    "tags without an end": "<ab" * 2_000_000,
    "tags ended by the next": "x<a<" * 1_000_000,
    "open quotes": '<a "' * 300_000,
    "entities": "&amp;" * 1_000_000,
    "ampersands": "&" * 2_000_000,
    "brackets": "<" * 2_000_000,
    "one attribute": "<img alt='" + "x" * 3_000_000 + "' src=x.jpg>",
    "one class": "<p class='" + "nav- " * 600_000 + "'>x",
    "one srcset": "<img srcset='" + "a 1w," * 600_000 + "'>",
    "one style": "<p style='" + "display " * 400_000 + "'>x",
    "one word": "x" * 4_000_000,
    "sidebars": "<div class=sidebar>" * 4_800 + "x " * 4_000,
    "pictures": "<img src=a.jpg>" * 200_000,
    "tables around a long one": "<table><tr><td>" * 250 + "<td>x" * 100_000 + "<table>",
    "drawings": "<svg>" * 300_000 + "</svg>" * 300_000,
    "open drawings": "<svg>" * 400_000,
    "one drawing's end": "<svg>" * 400_000 + "</svg>" + "<svg>" * 400_000,
    "forms": "<div>" * 200 + "<p>word" * 2000 + "<form><input>" * 1000,
    "names of noise": f"<p class={'site-' * 60}nav{'-list' * 60}!>x" * 5_000,
    "formulas": "<math>x</math>" * 200_000,
    "formulas in formulas": "<math><mrow>" * 100_000 + "x</mrow></math>" * 100_000,
    "fractions": "<math>" + "<mfrac>x" * 200_000 + "</math>",
    "annotations": "<math>" + "<annotation encoding=tex" * 100_000 + "</math>",
    "annotations without an end": "<math>" + "<annotation encoding=tex>x" * 100_000 + "</math>",
    "braces": "<math alttext='" + "{" * 2_000_000 + "'></math>",
    "tex": "<script type=math/tex>" + "{\\displaystyle " * 200_000 + "</script>",
    "formula images": "<img alt='$x$'>" * 200_000,
    "typesetters": "<span class=MathJax>x" * 4_000 + "<math>x</math>",
    "typesetters side by side": "<span class=katex><math>x</math></span>" * 100_000,
    "wide cells": "<table>" + "<tr><td colspan=1000>x<td>y" * 50_000 + "</table>",
    "tall cells": "<table><tr>" + "<td rowspan=65534>x" * 50_000 + "<tr><td>y" * 100_000 + "</table>",
    "lazy pairs": "<img data-src=a.jpg><noscript><img src=b.jpg></noscript>" * 50_000,
    "lazy pairs, nested": "<div><img data-src=a.jpg><noscript><img src=b.jpg></noscript>" * 20_000,
    "AMP's images, open": "<amp-img src=a.jpg>" * 200_000,
    "one link": "<img src='" + "/" * 3_000_000 + "x'>",
    "one template": "<img src='" + "{" * 3_000_000 + "x'>",
    "names": "".join(f"<p class=c{n}>x" for n in range(200_000)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_hostile_page_takes_seconds_and_a_bounded_multiple_of_its_size(name: str) -> None:
    """No page takes more than seconds and a bounded multiple of its size."""
    data = (STORY + BOMBS[name] + "<p>the end of it").encode()
    begun = time.process_time()
    try:
        found = parse(data, URL)
    except PageError:
        found = None
    assert time.process_time() - begun < 20
    assert found is None or len(found.segments) > 0


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_memory_is_a_bounded_multiple_of_a_page_s_bytes(size: int) -> None:
    data = (f"{STORY}<p class=x>word <b>bold</b></p>" * (size // 150)).encode()
    tracemalloc.start()
    parse(data, URL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 + 40 * len(data)
