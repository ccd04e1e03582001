"""Pages of HTML become documents: texts and images in the order of reading, nothing of the site around them."""

from __future__ import annotations

import pytest
from html_pages import STORY, page, shown

from curate.html import parse


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
def test_noise_around_the_page_s_own_text_is_left_out(noise: str) -> None:
    """What is not the page's own text is left out."""
    assert shown(page(noise + STORY + noise)) == shown(page(STORY))


def test_name_like_sidebar_on_what_holds_the_whole_page_drops_nothing() -> None:
    assert shown(page(f"<div class='page-sidebar'>{STORY}</div>")) == shown(page(STORY))


def test_comments_are_kept_where_they_are_the_page_and_left_out_elsewhere() -> None:
    """A page of comments is a discussion and elsewhere comments are left out."""
    says = [
        f"Skipper {n} says that the {n} o'clock ferry was late again because of fog and a missing crew."
        for n in range(9)
    ]
    comments = "".join(f"<div class=comment><p>{each}</p></div>" for each in says)
    assert shown(page(f"<h1>Late?</h1><div class=comments>{comments}</div>"))[1:] == says
    assert shown(page(STORY * 20 + f"<div class=comments>{comments}</div>")) == shown(page(STORY * 20))


def test_text_that_waits_for_a_script_is_read_when_it_is_the_page() -> None:
    """What waits for a script to be shown is read when it is the page."""
    for holder in ("<div hidden>{}</div>", "<div style='visibility:hidden'>{}</div>", "<noscript>{}</noscript>"):
        assert shown(page("<p>Loading</p>" + holder.format(f"<p>{STORY * 9}</p>")))[-1] == STORY[3:-4]


def test_heading_of_a_part_that_is_left_out_goes_with_it() -> None:
    links = "".join(f"<li><a href=/{n}>Pier {n} and what it costs</a></li>" for n in range(4))
    body = f"<h1>Harbour</h1>{STORY}<h2>Also read</h2><ul>{links}</ul><h2>Fares</h2>{STORY.replace('seven', 'six')}"
    assert shown(page(body))[2:] == ["Fares", STORY.replace("seven", "six")[3:-4]]


def test_server_s_instruction_left_in_the_page_breaks_nothing() -> None:
    assert shown(page(f"<?php if (is_category('5')) {{ ?>{STORY}")) == shown(page(STORY))


def test_page_s_heading_stays_wherever_it_stands() -> None:
    for holder in ("<div class=banner>{}</div>", "<header>{}</header>", "<div class=x><h2>{}</h2></div>"):
        heading = holder.format("<h1>Harbour</h1>") if "h2" not in holder else holder.format("Harbour")
        assert shown(page(f"{heading}<div>{STORY * 2}</div>", head="<title>Harbour - Oban</title>"))[0] == "Harbour"
    assert shown(page(f"<header><h1><a href=/>Oban</a></h1></header>{STORY}")) == shown(page(STORY))


def test_blocks_that_stand_there_again_and_again_are_left_out() -> None:
    found = page(f"{STORY}<p>Read more</p>{STORY}<p>Read more</p><p>Another day.</p><p>Read more</p>")
    assert shown(found) == [*shown(page(STORY)), "Another day."]


def test_id_made_of_a_heading_s_words_says_nothing() -> None:
    section = f"<section id=comments><h2 id=menu>Comments</h2>{STORY}</section>"
    assert shown(page(f"<main>{STORY.replace('seven', 'six')}{section}</main>"))[1:] == [
        "Comments",
        *shown(page(STORY)),
    ]


def test_marks_of_links_to_headings_are_no_text() -> None:
    assert shown(page(f"<h2>Fares<a href=#fares>¶</a></h2>{STORY}"))[0] == "Fares"


def test_list_of_links_goes_and_the_words_around_it_stay() -> None:
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


def test_share_of_words_left_out_is_known() -> None:
    found = page(f"<nav>{'menu ' * 80}</nav>{STORY}")
    assert (found.words, found.all_words) == (20, 100)
