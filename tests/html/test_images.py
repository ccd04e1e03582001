"""Images of HTML pages: the largest file a tag names, its words beside it, and links that lead nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from html_pages import STORY, URL, page, shown

from curate.html import HtmlLimits, parse


def urls(body: str, url: str | None = URL, head: str = "") -> list[str]:
    return [each["url"] for each in page(STORY + body, url, head).segments if each["type"] == "image"]


def image(body: str) -> dict[str, Any]:
    (found,) = (each for each in page(STORY + body).segments if each["type"] == "image")
    return found


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
def test_image_is_the_largest_file_its_tag_names(tag: str, wanted: str) -> None:
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
def test_tag_that_is_no_picture_for_a_reader_is_no_image(tag: str) -> None:
    """What is no picture for a reader is no image."""
    assert urls(tag) == []


def test_base_moves_relative_links() -> None:
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
def test_links_in_a_folder_are_paths_that_never_leave_it(origin: str, link: str, wanted: list[str]) -> None:
    """In a folder links are paths that never leave it."""
    found = page(f"{STORY}<img src='{link}'>", origin)
    assert [each["url"] for each in found.segments if each["type"] == "image"] == wanted
    assert found.images_left_out == 1 - len(wanted)


def test_data_url_is_kept_up_to_its_limit() -> None:
    link = "data:image/png;base64," + "A" * 1000
    assert urls(f"<img src='{link}'>") == [link]
    found = parse(f"{STORY}<img src='{link}'>".encode(), URL, None, HtmlLimits(max_data_url_chars=500))
    assert (found.images, found.images_left_out) == (0, 1)


def test_inline_drawings_are_left_out_and_counted() -> None:
    found = page(f"<svg class=icon/>{STORY}<svg><svg><text>no</text></svg><text>no</text></svg><SVG></SVG><p>On deck.")
    assert (shown(found)[1:], found.drawings) == (["On deck."], 3)
    assert shown(page(f"<svg><path>{STORY}<template>")) == shown(page(STORY))
