"""Pages of HTML become documents: texts and images in the order of reading, and nothing of a page can do harm."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pyarrow as pa
import pytest

from curate.html import HtmlLimits, HtmlPage, PageError, parse
from curate.ops.extract.html import html_document
from curate.ops.spec import Failed

STORY = (
    "<p>The ferry leaves the old harbour at seven every morning and comes back long after the last lights are out.</p>"
)
URL = "https://example.org/a/b.html"


def page(body: str, url: str | None = URL, head: str = "<title>T</title>") -> HtmlPage:
    return parse(f"<html><head>{head}</head><body>{body}</body></html>".encode(), url)


def shown(found: HtmlPage) -> list[str]:
    """Texts as they are, images as `[url]`."""
    return [each["text"] or f"[{each['url']}]" for each in found.segments]


def urls(body: str, url: str | None = URL, head: str = "") -> list[str]:
    return [each["url"] for each in page(STORY + body, url, head).segments if each["type"] == "image"]


def image(body: str) -> dict[str, Any]:
    (found,) = (each for each in page(STORY + body).segments if each["type"] == "image")
    return found


def refusal(data: bytes, limits: HtmlLimits | None = None) -> str:
    with pytest.raises(PageError) as refused:
        parse(data, URL, None, limits or HtmlLimits())
    return refused.value.error


# Text and its order


def test_text_and_images_come_in_the_order_of_the_page() -> None:
    found = page(f"<h1>Harbour</h1>{STORY}<img src=one.jpg><p>Boats <img src=two.jpg> and ropes.</p><ul><li>x</ul>")
    assert shown(found)[0] == "Harbour"
    assert shown(found)[2:] == [
        "[https://example.org/a/one.jpg]", "Boats", "[https://example.org/a/two.jpg]", "and ropes.", "- x",
    ]  # fmt: skip


def test_headings_lists_tables_code_and_quotes_stay_readable() -> None:
    found = page(
        f"""<h2>Fares</h2>{STORY}
        <ol><li>Pay<li>Board<ul><li>bikes<li>dogs</ul><li>Sit</ol>
        <table><tr><th>From</th><th>To</th></tr><tr><td><p>Oban</p></td><td>Mull</td></tr></table>
        <pre>for boat in fleet:\n    boat.sail()\n</pre><blockquote>All aboard, he said.</blockquote>
        <p>one<br>two</p>"""
    )
    assert [(each["block"], each["text"]) for each in found.segments if each["text"] not in STORY] == [
        ("heading", "Fares"),
        ("list", "1. Pay\n2. Board\n  - bikes\n  - dogs\n3. Sit"),
        ("table", "From | To\nOban | Mull"),
        ("code", "for boat in fleet:\n    boat.sail()"),
        ("quote", "All aboard, he said."),
        ("paragraph", "one\ntwo"),
    ]


def test_bold_and_linked_words_do_not_break_a_sentence() -> None:
    assert shown(page("<p>A <b>very</b> lo<i>n</i>g <a href=/x>way</a>, <code>f(x)</code> said.</p>")) == [
        "A very long way, f(x) said."
    ]


def test_title_and_declared_language_are_kept() -> None:
    found = parse(b"<html lang='De-AT'><title> Der\n Hafen </title><p>Guten Morgen</p>")
    assert (found.title, found.language) == ("Der Hafen", "de-at")


@pytest.mark.parametrize(
    "noise",
    [
        "<nav><a href=/>Home</a> WORD</nav>",
        "<div class='cookie-banner'>We use cookies WORD</div>",
        "<div id=cookieConsent>We use cookies WORD</div>",
        "<footer>WORD</footer>",
        "<div role=navigation>WORD</div>",
        "<div class='c-sidebar-left'>WORD</div>",
        "<div hidden>WORD</div>",
        "<div style='color:red; display : none'>WORD</div>",
        "<p aria-hidden=true>WORD</p>",
        "<script>WORD</script><style>WORD</style><template>WORD</template><noscript>WORD</noscript>",
        "<!-- WORD --><select><option>WORD</select><button>WORD</button><textarea>WORD</textarea>",
        "<svg><text>WORD</text></svg><iframe>WORD</iframe>",
        "<div><b>Get WORD by letter</b><form><input><button>Go</button></form><span>We never share it.</span></div>",
        "<p><b>Read more:</b> <a href=/1>The pier and what WORD it costs</a></p>",
        "<ul><li><a href=/1>WORD one</a><li><a href=/2>two</a><li><a href=/3>three</a></ul>",
    ],
)
def test_what_is_not_the_page_s_own_text_is_left_out(noise: str) -> None:
    assert shown(page(noise + STORY + noise)) == shown(page(STORY))


def test_a_name_like_sidebar_on_what_holds_the_whole_page_drops_nothing() -> None:
    assert shown(page(f"<div class='page-sidebar'>{STORY}</div>")) == shown(page(STORY))


def test_a_page_of_comments_is_a_discussion_and_elsewhere_comments_are_left_out() -> None:
    says = [
        f"Skipper {n} says that the {n} o'clock ferry was late again because of fog and a missing crew."
        for n in range(9)
    ]
    comments = "".join(f"<div class=comment><p>{each}</p></div>" for each in says)
    assert shown(page(f"<h1>Late?</h1><div class=comments>{comments}</div>"))[1:] == says
    assert shown(page(STORY * 20 + f"<div class=comments>{comments}</div>")) == shown(page(STORY * 20))


def test_what_waits_for_a_script_to_be_shown_is_read_when_it_is_the_page() -> None:
    for holder in ("<div hidden>{}</div>", "<div style='visibility:hidden'>{}</div>", "<noscript>{}</noscript>"):
        assert shown(page("<p>Loading</p>" + holder.format(f"<p>{STORY * 9}</p>")))[-1] == STORY[3:-4]


def test_the_heading_of_a_part_that_is_left_out_goes_with_it() -> None:
    links = "".join(f"<li><a href=/{n}>Pier {n} and what it costs</a></li>" for n in range(4))
    body = f"<h1>Harbour</h1>{STORY}<h2>Also read</h2><ul>{links}</ul><h2>Fares</h2>{STORY.replace('seven', 'six')}"
    assert shown(page(body))[2:] == ["Fares", STORY.replace("seven", "six")[3:-4]]


def test_a_server_s_instruction_left_in_the_page_breaks_nothing() -> None:
    assert shown(page(f"<?php if (is_category('5')) {{ ?>{STORY}")) == shown(page(STORY))


def test_the_page_s_heading_stays_wherever_it_stands() -> None:
    for holder in ("<div class=banner>{}</div>", "<header>{}</header>", "<div class=x><h2>{}</h2></div>"):
        heading = holder.format("<h1>Harbour</h1>") if "h2" not in holder else holder.format("Harbour")
        assert shown(page(f"{heading}<div>{STORY * 2}</div>", head="<title>Harbour - Oban</title>"))[0] == "Harbour"
    assert shown(page(f"<header><h1><a href=/>Oban</a></h1></header>{STORY}")) == shown(page(STORY))


def test_blocks_that_stand_there_again_and_again_are_left_out() -> None:
    found = page(f"{STORY}<p>Read more</p>{STORY}<p>Read more</p><p>Another day.</p><p>Read more</p>")
    assert shown(found) == [*shown(page(STORY)), "Another day."]


def test_an_id_made_of_a_heading_s_words_says_nothing() -> None:
    section = f"<section id=comments><h2 id=menu>Comments</h2>{STORY}</section>"
    assert shown(page(f"<main>{STORY.replace('seven', 'six')}{section}</main>"))[1:] == [
        "Comments",
        *shown(page(STORY)),
    ]


def test_marks_of_links_to_headings_are_no_text() -> None:
    assert shown(page(f"<h2>Fares<a href=#fares>¶</a></h2>{STORY}"))[0] == "Fares"


def test_a_list_of_links_goes_and_the_words_around_it_stay() -> None:
    links = "".join(f"<li><a href=/{n}>Section {n} of the rules</a></li>" for n in range(9))
    found = page(
        f"{STORY}<div class=part><h2>See</h2><p>The rules have nine sections, and here they are:</p>"
        f"<ul>{links}</ul></div>"
    )
    assert shown(found)[1:] == ["See", "The rules have nine sections, and here they are:"]


def test_short_sections_of_one_kind_stay_together() -> None:
    parts = "".join(
        f"<div class=sect><h2>Pier {n}</h2><p>{words}</p></div>" for n, words in enumerate(["Closed.", STORY[3:-4] * 6])
    )
    assert shown(page(f"<div>{parts}</div>"))[:2] == ["Pier 0", "Closed."]


def test_the_share_of_words_left_out_is_known() -> None:
    found = page(f"<nav>{'menu ' * 80}</nav>{STORY}")
    assert (found.words, found.all_words) == (20, 100)


# Images


def test_alt_text_and_captions_stay_with_their_image() -> None:
    figure = "<figure><img src=a.jpg alt=' a red\n boat '><figcaption>The <b>Maid</b> of Oban</figcaption></figure>"
    assert (image(figure)["alt"], image(figure)["caption"]) == ("a red boat", "The Maid of Oban")
    docbook = (
        "<div class=figure><p class=title><strong>Figure 1. Boat</strong></p><div class=figure-contents>"
        "<div class=mediaobject><img src=a.png></div></div></div>"
    )
    assert image(docbook)["caption"] == "Figure 1. Boat"
    below = "<div class=mediaobject><img src=a.png><div class=caption><p>A boat.</p></div></div>"
    assert image(below)["caption"] == "A boat."


def test_each_image_of_a_figure_has_its_own_caption() -> None:
    found = page(
        STORY + "<div class=figure><p class=title>Two boats</p><div class=mediaobject><img src=a.png>"
        "<div class=caption>Red</div></div><div class=mediaobject><img src=b.png><div class=caption>Blue</div></div>"
    )
    assert [each["caption"] for each in found.segments if each["type"] == "image"] == ["Two boats\nRed", "Blue"]


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [
        ("<img src=/p/x.jpg#top>", "https://example.org/p/x.jpg"),
        ("<img src=' big boat.jpg '>", "https://example.org/a/big%20boat.jpg"),
        ("<img src=//cdn.example.com/x.jpg>", "https://cdn.example.com/x.jpg"),
        ("<img src='data:image/gif;base64,R0lGODlhAQ' data-src=x.jpg>", "https://example.org/a/x.jpg"),
        ("<img src=blank.gif data-original=x.jpg>", "https://example.org/a/x.jpg"),
        ("<img data-lazy-src=x.jpg>", "https://example.org/a/x.jpg"),
        ("<img src=s.jpg data-srcset='m.jpg 400w, l.jpg 1200w'>", "https://example.org/a/l.jpg"),
        ("<img src=s.jpg srcset='l.jpg 2x, s.jpg 1x'>", "https://example.org/a/l.jpg"),
        ("<img src=s.jpg srcset='w_1,h_2/l.jpg 900w,w_1,h_1/s.jpg 300w'>", "https://example.org/a/w_1,h_2/l.jpg"),
        ("<picture><source srcset='l.webp 1600w'><img src=s.jpg></picture>", "https://example.org/a/l.webp"),
        ("<img class=lazy src=placeholder.png><noscript><img src=x.jpg></noscript>", "https://example.org/a/x.jpg"),
        ("<img data-src=x.jpg><noscript><img src=x.jpg?full></noscript>", "https://example.org/a/x.jpg"),
        ("<noscript><img src=x.jpg></noscript><img data-src=x.jpg>", "https://example.org/a/x.jpg"),
        ("<img src=drawing.svg>", "https://example.org/a/drawing.svg"),
    ],
)
def test_an_image_is_the_largest_file_its_tag_names(tag: str, wanted: str) -> None:
    assert urls(tag) == [wanted]


@pytest.mark.parametrize(
    "tag",
    [
        "<img>",
        "<img src=''>",
        "<img src=x.gif width=1 height=1>",
        "<img src=spacer.gif>",
        "<img src=x.jpg style='display:none'>",
        "<img src='data:image/gif;base64,R0lGODlhAQ'>",
        "<img src='javascript:alert(1)'>",
        "<img src='file:///etc/passwd'>",
        "<img src='http://[::1/x.jpg'>",
    ],
)
def test_what_is_no_picture_for_a_reader_is_no_image(tag: str) -> None:
    assert urls(tag) == []


def test_a_base_moves_relative_links() -> None:
    assert urls("<img src=x.jpg>", head="<base href='https://img.example.org/big/'>") == [
        "https://img.example.org/big/x.jpg"
    ]
    assert urls("<img src=x.jpg>", None, "<base href='https://img.example.org/big/'>") == [
        "https://img.example.org/big/x.jpg"
    ]


@pytest.mark.parametrize(
    ("origin", "link", "wanted"),
    [
        ("manual/en/a.html", "images/x.png", ["manual/en/images/x.png"]),
        ("manual/en/a.html", "../img/./x%20y.png?v=2", ["manual/img/x y.png"]),
        ("manual/en/a.html", "/img/x.png", ["img/x.png"]),
        ("a.html", "../x.png", []),
        ("manual/a.html", "img/../../../x.png", []),
        ("a.html", "https://example.org/x.png", ["https://example.org/x.png"]),
        ("a.html", "//example.org/x.png", ["https://example.org/x.png"]),
    ],
)
def test_in_a_folder_links_are_paths_that_never_leave_it(origin: str, link: str, wanted: list[str]) -> None:
    found = page(f"{STORY}<img src='{link}'>", origin)
    assert [each["url"] for each in found.segments if each["type"] == "image"] == wanted
    assert found.images_left_out == 1 - len(wanted)


def test_a_data_url_is_kept_up_to_its_limit() -> None:
    link = "data:image/png;base64," + "A" * 1000
    assert urls(f"<img src='{link}'>") == [link]
    found = parse(f"{STORY}<img src='{link}'>".encode(), URL, None, HtmlLimits(max_data_url_chars=500))
    assert (found.images, found.images_left_out) == (0, 1)


def test_inline_drawings_are_left_out_and_counted() -> None:
    found = page(f"<svg class=icon/>{STORY}<svg><svg><text>no</text></svg><text>no</text></svg><SVG></SVG><p>On deck.")
    assert (shown(found)[1:], found.drawings) == (["On deck."], 3)
    assert shown(page(f"<svg><path>{STORY}<template>")) == shown(page(STORY))


# Characters


@pytest.mark.parametrize(
    ("data", "content_type", "encoding"),
    [
        (b"\xef\xbb\xbf<p>na\xc3\xafve", None, "utf-8"),
        ("\ufeff<p>naïve".encode("utf-16-le"), None, "utf-16-le"),
        (b"<meta charset=iso-8859-1><p>na\xefve", None, "cp1252"),
        (b'<meta http-equiv="Content-Type" content="text/html; charset=ISO-8859-15"><p>na\xefve', None, "iso8859-15"),
        (b'<?xml version="1.0" encoding="windows-1252"?><p>na\xefve', None, "cp1252"),
        (b"<meta charset=utf-8><p>na\xefve", "text/html; charset=latin1", "cp1252"),
        (b"<p>na\xc3\xafve", None, "utf-8"),
        (b"<p>na\xefve", None, "cp1252"),
        (b"<meta charset=unicode_escape><p>na\xc3\xafve", None, "utf-8"),
        (b"<p>na&iuml;ve", "text/html; charset=nonsense", "utf-8"),
    ],
)
def test_characters_are_read_by_mark_then_header_then_declaration_then_look(
    data: bytes, content_type: str | None, encoding: str
) -> None:
    found = parse(data, URL, content_type)
    assert (shown(found), found.encoding) == (["naïve"], encoding)


def test_a_page_that_was_saved_as_utf_8_is_read_so_whatever_it_once_declared() -> None:
    sentence = "Паром уходит из старой гавани в семь утра."
    found = parse(f"<meta charset=windows-1251><p>{sentence}".encode())
    assert (shown(found), found.encoding) == ([sentence], "utf-8")
    assert shown(parse(f"<meta charset=windows-1251><p>{sentence}".encode("cp1251"))) == [sentence]


def test_broken_characters_and_nuls_break_nothing() -> None:
    assert shown(parse(b"<p>a\x00b \xff\xfe c</p><p>\xe2\x82</p><p>end of it", URL, "utf-8"))[0] == "ab \ufffd\ufffd c"


# Hostile pages


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
def test_what_cannot_be_read_as_a_page_has_a_named_error(data: bytes, error: str) -> None:
    assert refusal(data) == error


def test_a_page_above_the_limits_is_refused() -> None:
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
    "names": "".join(f"<p class=c{n}>x" for n in range(200_000)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_no_page_takes_more_than_seconds_and_a_bounded_multiple_of_its_size(name: str) -> None:
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


# The op


def test_the_op_writes_a_document_and_its_plain_counts() -> None:
    body = f"<html lang=en><title>Ferries</title><nav>Home</nav><h1>Oban</h1>{STORY}<img src=x.jpg><svg></svg>"
    found = html_document([body.encode()], ["trips/oban.html"], [{"content_type": "text/html"}])
    row = {name: values[0] for name, values in found.items()}
    assert row["text"] == "Oban\n\n" + STORY[3:-4]
    assert (row["title"], row["html_language"], row["text_words"]) == ("Ferries", "en", 21)
    assert (row["images_in_page"], row["images_left_out"], row["drawings_left_out"]) == (1, 0, 1)
    assert row["document"][2]["url"] == "trips/x.jpg"
    assert row["boilerplate_share"] == pytest.approx(1 / 22)


def test_what_the_op_writes_fits_its_columns_whatever_the_characters() -> None:
    odd = f"{STORY}<p>&#0;&#1;&#xD800;&#x110000;\udcff</p><img src='&#xD800;.jpg' alt='&#1;'>".encode(
        "utf-8", "surrogatepass"
    )
    found = html_document([odd, odd], ["a.html", "https://example.org/"], [{}, {"content_type": 3}])
    for name, kind in html_document.spec.writes.items():  # type: ignore[attr-defined]
        assert len(pa.array(found[name], kind)) == 2


def test_a_page_that_cannot_be_read_fails_by_name_and_its_neighbours_live() -> None:
    found = html_document([b"", b"<p>fine", b"<p>x" * 9], ["a", "b", "c"], [{}, {}, {}], max_tags=5)
    failed = [each.error if isinstance(each, Failed) else each for each in found["text"]]
    assert failed == ["empty_page", "fine", "too_many_tags"]
