"""Sections that look like navigation and are none: links in code, footnotes, definitions that say the same again."""

from __future__ import annotations

import pytest
from html_pages import STORY, page, shown

LINE = "<a href=x>ax</a>.<a href=y>imshow</a>(<a href=z>im</a>.<a href=w>row</a>)\n"


@pytest.mark.parametrize(
    "code",
    [
        f"<pre>{LINE * 9}</pre>",
        f"<div class=highlight><pre><span></span>{LINE * 9}</pre></div>",
        f"<table><tr><td><pre>1\n2</pre></td><td><pre>{LINE * 9}</pre></td></tr></table>",
    ],
)
def test_section_of_linked_code_keeps_its_prose_code_and_pictures(code: str) -> None:
    section = (
        f"<section><h2>Plot</h2><p>Each row of the picture is drawn on its own.</p>{code}<img src=p.png></section>"
    )
    text = shown(page(f"{STORY}{section}"))
    assert text[1:3] == ["Plot", "Each row of the picture is drawn on its own."]
    assert any("ax.imshow(im.row)" in each for each in text)
    assert text[-1] == "[https://example.org/a/p.png]"


def test_names_linked_in_inline_code_leave_their_paragraph_a_text() -> None:
    words = "<code><a href=1>skimage</a>.<a href=2>data</a>.<a href=3>coins</a></code>"
    assert shown(page(f"{STORY}<p>{words}</p><p>{words}, {words}</p>"))[1:] == [
        "skimage.data.coins", "skimage.data.coins, skimage.data.coins",
    ]  # fmt: skip


def test_links_within_one_word_are_one_linked_word() -> None:
    parts = "".join(f"<a href=/{n}>{letter}</a>." for n, letter in enumerate("abcdefgh"))
    assert shown(page(f"{STORY}<p>The module {parts} is the one that is read.</p>"))[1:] == [
        "The module a.b.c.d.e.f.g.h. is the one that is read."
    ]


def test_footnote_marks_leave_their_paragraph_a_text() -> None:
    marks = "".join(f"<sup><a href=#fn{n}>[{n}]</a></sup>" for n in range(1, 9))
    assert len(shown(page(f"{STORY}<p>As said.{marks}</p><p>Found again.{marks}</p>"))) == 3


def test_headings_that_link_to_themselves_may_say_the_same() -> None:
    part = "<h3><a href=#x>Parameters</a></h3><p>The number {} of the boat that is to leave the harbour at noon.</p>"
    found = shown(page(STORY + "".join(part.format(n) for n in range(4))))
    assert found.count("Parameters") == 4


@pytest.mark.parametrize(
    "definition",
    [
        "<dl><dt>N</dt><dd><p>The array of labels.</p></dd></dl>",
        "<dl><dt>N</dt><dd>The array of labels</dd></dl>",
        "<dl><dt>N</dt><dd><div><p>The array of labels</p></div></dd></dl>",
        "<p>Is it N?</p><p>The array of labels.</p>",
        "<h4>Default of N</h4><p>The array of labels</p>",
    ],
)
def test_short_text_that_stands_there_three_times_with_reason_stays(definition: str) -> None:
    parts = "".join(f"<h3>Function {n}</h3>{definition.replace('N', str(n))}" for n in range(3))
    found = "\n".join(shown(page(STORY + parts)))
    assert found.count("The array of labels") == 3


@pytest.mark.parametrize("short", ["Reply", "<a href=/r>Reply now.</a>", "Read more ...", "Share…"])
def test_buttons_that_stand_there_three_times_go(short: str) -> None:
    posts = "".join(f"{STORY.replace('seven', hour)}<p>{short}</p>" for hour in ("five", "six", "nine"))
    assert len(shown(page(posts))) == 3
