"""What only the whole corpus knows of a page: counts of images and paragraphs, and which page of several is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from documents import Shelf, grouped, page, picture, row

from curate.document.segments import image_urls
from curate.ops.dedup.pages import (
    duplicate_image_sets,
    duplicate_urls,
    host_pages,
    image_counts,
    image_keys,
    image_set,
    image_url_counts,
    image_url_keys,
    page_key,
    paragraph_keys,
    repeated_paragraphs,
)


def keyed(op: Any, *arguments: Any) -> dict[str, Any]:
    return row(op(*([a] for a in arguments)))


def test_the_url_of_an_image_is_counted_over_all_pages(tmp_path: Path) -> None:
    rare, common = "http://a.org/photo.jpg", "http://a.org/banner.jpg"
    pages = {f"p{n:02d}": page("Text.", common, f"http://a.org/{n}.jpg") for n in range(11)}
    pages["p00"] = page(rare, "Text.", common, rare)
    shards = [
        [(uid, keyed(image_url_keys, found)) for uid, found in list(pages.items())[start : start + 4]]
        for start in (0, 4, 8)
    ]
    counts = grouped(image_url_counts, [*shards, []], tmp_path)
    assert counts["p00"] == {"image_url_counts": [2, 11, 2], "most_common_image_url": 11}
    assert counts["p05"]["image_url_counts"] == [11, 1]


def test_an_image_that_many_pages_have_under_other_names_is_found_by_its_bytes(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    stamp = picture(seed=1)
    blobs = {uid: shelf.blobs(stamp, picture(seed=n + 2), "not_found") for n, uid in enumerate("abc")}
    counts = grouped(image_counts, [[(uid, keyed(image_keys, found)) for uid, found in blobs.items()]], tmp_path / "g")
    assert counts["b"] == {"image_counts": [3, 1, None], "most_common_image": 3}


def test_paragraphs_are_counted_within_their_host_whatever_space_is_in_them(tmp_path: Path) -> None:
    cookies = "We use cookies."
    pages = {
        "a1": ("http://a.org/1", page(cookies, "One.")),
        "a2": ("https://A.org:443/2", page("Two.", "  We  use\ncookies. ", "http://a.org/x.png")),
        "a3": ("http://a.org/3", page(cookies)),
        "b1": ("http://b.org/1", page(cookies, "Four.")),
    }
    keys = [(uid, keyed(paragraph_keys, found, url, {})) for uid, (url, found) in pages.items()]
    counts = grouped(repeated_paragraphs, [keys[:2], [], keys[2:]], tmp_path)
    assert [counts[uid]["paragraph_counts"] for uid in pages] == [[3, 1], [1, 3], [3], [1, 1]]


def test_of_pages_with_one_url_the_latest_is_kept(tmp_path: Path) -> None:
    seen = {
        "old": ("http://a.org/x#top", {"date": "2020-02-01T00:00:00Z"}),
        "new": ("http://A.org/x", {"date": "Tue, 15 Nov 2022 12:45:26 GMT"}),
        "undated": ("file.html", {"url": "http://a.org/x", "date": "yesterday"}),
        "other": ("http://a.org/x?page=2", {"date": "2019-01-01"}),
        "twin-b": ("http://b.org/", {}),
        "twin-a": ("http://b.org/", {}),
    }
    rows = [(uid, keyed(page_key, origin, meta)) for uid, (origin, meta) in seen.items()]
    found = grouped(duplicate_urls, [rows[:1], rows[1:4], rows[4:]], tmp_path)
    assert {uid: values["url_duplicate_of"] for uid, values in found.items()} == {
        "old": "new", "new": None, "undated": "new", "other": None, "twin-b": "twin-a", "twin-a": None,
    }  # fmt: skip
    again = grouped(duplicate_urls, [rows[::-1]], tmp_path / "again")
    assert again == {uid: found[uid] for uid in again}, "the cut into shards and their order change nothing"


def test_of_pages_with_the_same_images_the_latest_is_kept_and_pages_without_images_are_never_the_same(
    tmp_path: Path,
) -> None:
    seen = {
        "first": (page("A.", "http://i/1", "http://i/2"), {"date": "2021-01-01"}),
        "second": (page("http://i/2", "B.", "http://i/1", "http://i/2"), {"date": "2022-01-01"}),
        "fewer": (page("http://i/1"), {"date": "2023-01-01"}),
        "bare": (page("C."), {}),
        "bare too": (page("D."), {}),
        "dead": (page("E.", "http://i/gone"), {}),
        "dead too": (page("F.", "http://i/gone"), {}),
    }
    pool = Shelf(tmp_path / "pool")
    rows = []
    for uid, (document, meta) in seen.items():
        blobs = pool.blobs(*("http_404" if "gone" in url else picture() for url in image_urls(document)))
        rows.append((uid, keyed(image_set, document, blobs, meta)))
    found = grouped(duplicate_image_sets, [rows], tmp_path)
    assert {uid for uid, values in found.items() if values["image_set_duplicate_of"]} == {"first"}
    assert found["first"]["image_set_duplicate_of"] == "second"


def test_the_pages_of_a_host_are_counted(tmp_path: Path) -> None:
    urls = {"a": "http://x.org/1", "b": "https://x.org:8080/2", "c": "http://y.org/", "d": "pages/1.html"}
    rows = [(uid, keyed(page_key, url, {})) for uid, url in urls.items()]
    found = grouped(host_pages, [rows[:2], rows[2:]], tmp_path)
    assert {uid: values["host_pages"] for uid, values in found.items()} == {"a": 2, "b": 2, "c": 1, "d": None}


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("1970-01-02", 86400),
        ("1970-01-01T01:00:00+01:00", 0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 10),
        ("", None),
        ("9999-99-99", None),
        (5, None),
        ("2020-13-01T00:00:00Z", None),
    ],
)
def test_dates_are_read_as_warc_and_http_write_them_and_others_are_none(date: Any, seconds: int | None) -> None:
    assert keyed(page_key, "http://a/", {"date": date})["page_date_s"] == seconds


def test_a_url_that_is_no_url_is_a_key_all_the_same() -> None:
    found = keyed(page_key, "http://[::1", {"url": ["not", "a", "url"]})
    assert (len(found["page_key"]), found["page_host"]) == (16, None)


def test_counting_no_rows_at_all_gives_empty_columns(tmp_path: Path) -> None:
    for group in (image_url_counts, repeated_paragraphs, duplicate_urls, host_pages):
        assert grouped(group, [[], []], tmp_path / group.__name__) == {}
