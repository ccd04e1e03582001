"""Images that scripts load late: one image a picture, its sharp file, and every tag in some count."""

from __future__ import annotations

import pytest
from html_pages import STORY, page

from curate.html import HtmlPage

BASE = "https://example.org/a/"
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
BLUR = "data:image/jpeg;base64," + "A" * 1500


def names(found: HtmlPage) -> list[str]:
    return [each["url"].removeprefix(BASE) for each in found.segments if each["type"] == "image"]


def images(body: str) -> list[str]:
    return names(page(STORY + body))


@pytest.mark.parametrize(
    "pair",
    [
        "<img data-src='N.jpg' width=600 height=400><noscript><img src='N.jpg'></noscript>",
        "<img class=lazy src=blank.gif data-src='N.jpg'><noscript><img src='N-full.jpg'></noscript>",
        f"<img class=lazy src='{DOT}'><noscript><img src='N.jpg'></noscript>",
        "<noscript><img src='N.jpg'></noscript><img data-src='N.jpg'>",
        "<noscript><img src='N-small.jpg'></noscript><img data-src='N.jpg'>",
        f"<picture><source data-srcset='N.jpg 800w'><img src='{DOT}' data-src=x.jpg></picture>"
        "<noscript><img src='x.jpg'></noscript>",
        "<a href=/x><img data-src='N.jpg'></a><noscript><a href=/x><img src='N.jpg'></a></noscript>",
        f"<span><img src='{BLUR}'></span><noscript><img src='N.jpg'></noscript>",
        "<div><div><img src='/60/N.jpg?q=20' width=9 height=7></div><img width=9 height=7>"
        "<noscript><img src='N.jpg'></noscript></div>",
    ],
)
def test_lazy_images_side_by_side_with_their_noscript_are_one_image_each(pair: str) -> None:
    found = page(STORY + "".join(pair.replace("N", str(number)) for number in range(4)))
    assert names(found) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert (found.images_left_out, found.images_not_shown, found.images_beside) == (0, 0, 0)


def test_noscript_that_holds_more_than_its_neighbour_s_picture_gives_them_all() -> None:
    assert images("<img data-src=a.jpg><noscript><img src=a.jpg><img src=b.jpg></noscript>") == ["a.jpg", "b.jpg"]
    again = "<noscript><img src=a.jpg></noscript><img data-src=a.jpg><p>And on the pier once more.</p><img src=a.jpg>"
    assert images(again) == ["a.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [
        ("<img src=blur.jpg><noscript><img src=sharp.jpg></noscript>", "sharp.jpg"),
        (f"<img src='{BLUR}' data-src=sharp.jpg>", "sharp.jpg"),
        (f"<img src='{BLUR}'><noscript><img src=sharp.jpg></noscript>", "sharp.jpg"),
        ("<img src=b.jpg srcset='b.jpg 20w'><noscript><img src=s srcset='s 300w, m 900w'></noscript>", "m"),
        ("<img src=b.jpg srcset='b.jpg 32w' data-src=sharp.jpg>", "sharp.jpg"),
        (f"<img srcset='{DOT} 1w' src='{DOT}' data-srcset='s.jpg 400w, sharp.jpg 1600w'>", "sharp.jpg"),
        ("<img class=lqip-placeholder src=b.jpg><img class=full src=sharp.jpg>", "sharp.jpg"),
        ("<img data-src=//s/{width}.jpg data-widths='[180, 720, 360]'>", "https://s/720.jpg"),
        ("<img src=photo.jpg><noscript><img src='https://t.example/px?id=1'></noscript>", "photo.jpg"),
    ],
)
def test_sharp_file_is_kept_in_place_of_what_shows_until_it_comes(tag: str, wanted: str) -> None:
    assert images(tag) == [wanted]


@pytest.mark.parametrize(
    "written",
    [
        "data-src=x.jpg", "data-lazy-src=x.jpg", "data-original=x.jpg", "data-url=x.jpg", "data-cfsrc=x.jpg",
        "data-cfsrc=x.jpg style='display:none;visibility:hidden'", "data-actualsrc=x.jpg", "data-ezsrc=x.jpg",
        "data-ezsrcset='s.jpg 100w, x.jpg 900w'", "file=x.jpg", "file=s.jpg zoomfile=x.jpg", "data-echo=x.jpg",
        "nitro-lazy-src=x.jpg", "data-lazyload=x.jpg", "data-pagespeed-lazy-src=x.jpg", "data-flickity-lazyload=x.jpg",
        "data-lazy-srcset='s.jpg 300w, x.jpg 900w'", "data-src='s.jpg 1x, x.jpg 2x'", "data-anything=/a/x.jpg",
    ],
)  # fmt: skip
def test_file_is_found_in_whatever_attribute_a_script_reads_it_from(written: str) -> None:
    assert images(f"<img {written}>") == ["x.jpg"]
    assert images(f"<img src=none.gif {written}>") == ["x.jpg"]


@pytest.mark.parametrize(
    "written",
    [
        "null", "undefined", "{{photo.url}}", "${photo}", "%7B%7Bphoto%7D%7D", "<%= photo %>", "{width}.jpg",
        "javascript:void(0)", "about:blank", "blob:https://example.org/1", DOT, "#", "", "true", "1", "[object Object]",
        "/img/undefined", "video.mp4",
    ],
)  # fmt: skip
def test_value_that_is_no_file_does_not_beat_a_good_one(written: str) -> None:
    assert images(f'<img src=good.jpg data-src="{written}">') == ["good.jpg"]
    assert images(f'<img src="{written}" data-src=good.jpg>') == ["good.jpg"]


@pytest.mark.parametrize(
    "named", ["data-pin-media", "data-thumb-src", "data-original-name", "data-url-share", "lowsrc"]
)
def test_attribute_of_another_purpose_does_not_beat_a_good_file(named: str) -> None:
    assert images(f"<img src=good.jpg {named}=other.jpg>") == ["good.jpg"]


def test_amp_images_are_images_closed_or_not() -> None:
    carousel = "<amp-carousel><amp-img src=c.jpg width=1 height=1 layout=responsive></amp-img></amp-carousel>"
    body = (
        f"<amp-img src=a.jpg width=600 height=400 alt='a boat'></amp-img><amp-anim src=b.gif></amp-anim>{carousel}"
        "<amp-img src=s.jpg srcset='s.jpg 300w, d.jpg 900w'><amp-img placeholder src=blur.jpg></amp-img>"
        "<noscript><img src=s.jpg></noscript><div fallback>offline</div></amp-img>"
    )
    found = page(STORY + body)
    assert names(found) == ["a.jpg", "b.gif", "c.jpg", "d.jpg"]
    assert "offline" not in str(found.segments)
    assert found.segments[1]["alt"] == "a boat"
    assert (found.images_left_out, found.images_not_shown, found.images_beside) == (0, 1, 0)
    unclosed = page(
        f"<amp-img src=a.jpg width=600 height=400>{STORY}<amp-img src=b.jpg>{STORY.replace('seven', 'six')}"
    )
    assert names(unclosed) == ["a.jpg", "b.jpg"]
    assert len(unclosed.segments) == 4


@pytest.mark.parametrize("link", ["#", "#top", "?", ".", "./", "/", "b.html", "b.html#x", "null", "{{photo}}"])
def test_link_to_the_page_itself_or_to_nothing_is_no_image_and_is_counted(link: str) -> None:
    found = page(f'{STORY}<img src="{link}">')
    assert (names(found), found.images_left_out) == ([], 1)


def test_every_image_tag_of_a_page_is_in_one_count() -> None:
    pair = "<img data-src=1.jpg><noscript><img src=1.jpg></noscript>"
    hidden = "<img src=h.jpg style='display:none'><img src=counter.gif width=1 height=1>"
    nowhere = f"<img src='#'><img src=spacer.gif><img src='{DOT}'><img>"
    beside = (
        "<footer><img src=f.jpg></footer><nav><img src=n.jpg></nav><aside class=more><img src=o.jpg>More of it</aside>"
    )
    found = page(f"{STORY}{pair}<img src=2.jpg>{hidden}{nowhere}{beside}<img class=latex alt='x^2' src=f.png>")
    counts = found.images, found.images_left_out, found.images_not_shown, found.images_beside, found.formulas
    assert counts == (2, 4, 2, 3, 1)
