"""The op html_document: a document and plain counts of a page."""

from __future__ import annotations

import pyarrow as pa
import pytest
from html_pages import STORY

from curate.ops.extract.html import html_document
from curate.ops.spec import Failed


def test_op_writes_a_document_and_its_plain_counts() -> None:
    body = f"<html lang=en><title>Ferries</title><nav>Home</nav><h1>Oban</h1>{STORY}"
    body += "<img src=x.jpg><img src='#'><img src=c.gif width=1><svg></svg><footer><img src=y.jpg></footer>"
    found = html_document([body.encode()], ["trips/oban.html"], [{"content_type": "text/html"}])
    row = {name: values[0] for name, values in found.items()}
    assert row["text"] == "Oban\n\n" + STORY[3:-4]
    assert (row["title"], row["html_language"], row["text_words"]) == ("Ferries", "en", 21)
    assert (row["images_in_page"], row["images_left_out"], row["images_not_shown"], row["images_beside"]) == (1,) * 4
    assert (row["drawings_left_out"], row["formulas_in_page"]) == (1, 0)
    assert row["document"][2]["url"] == "trips/x.jpg"
    assert row["boilerplate_share"] == pytest.approx(1 / 22)


def test_op_output_fits_its_columns_whatever_the_characters() -> None:
    """What the op writes fits its columns whatever the characters."""
    odd = f"{STORY}<p>&#0;&#1;&#xD800;&#x110000;\udcff</p><img src='&#xD800;.jpg' alt='&#1;'>".encode(
        "utf-8", "surrogatepass"
    )
    found = html_document([odd, odd], ["a.html", "https://example.org/"], [{}, {"content_type": 3}])
    for name, kind in html_document.spec.writes.items():  # type: ignore[attr-defined]
        assert len(pa.array(found[name], kind)) == 2


def test_page_that_cannot_be_read_fails_by_name_and_its_neighbours_live() -> None:
    found = html_document([b"", b"<p>fine", b"<p>x" * 9], ["a", "b", "c"], [{}, {}, {}], max_tags=5)
    failed = [each.error if isinstance(each, Failed) else each for each in found["text"]]
    assert failed == ["empty_page", "fine", "too_many_tags"]
