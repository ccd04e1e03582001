"""Measures of a document's parts: each tells of a bad paragraph or image what a rule then takes it by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from documents import Shelf, blank, page, picture, row

from curate.image.files import decode
from curate.ops.quality.documents import repeated_bytes, repeated_urls, url_words
from curate.ops.quality.gopher_c4_fineweb import obelics_paragraph
from curate.ops.quality.image import colour_levels, image_file

GOOD = "The dog was in the garden when we came home, and it had found the old red ball under the tree."
OBELICS = {
    "words": (4, 1000), "character_repetition": (None, 0.1), "word_repetition": (None, 0.1),
    "special_characters": (None, 0.3), "stop_words": (0.3, None), "flagged_words": (None, 0.01),
    "punctuation": (0.001, None), "common_words": (0.8, None),
}  # fmt: skip
"""Laurençon et al. 2023, appendix A.2: the paragraph's column of the table."""


def measured(text: str, language: str | None = "en") -> dict[str, Any]:
    found = row(obelics_paragraph()([text], [language]))
    return {name.removeprefix("paragraph_"): value for name, value in found.items()}


def broken(text: str, language: str | None = "en") -> set[str]:
    values = measured(text, language)
    return {
        name
        for name, (low, high) in OBELICS.items()
        if (value := values[name]) is not None
        and ((low is not None and value < low) or (high is not None and value > high))
    }


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        ("words", "Read more here"),
        ("character_repetition", "it was so, and " * 12),
        ("word_repetition", "we sell the best shoes in town, " * 3 + "yes"),
        ("special_characters", "the 3 + 4 = 7 || 12:30 >>> in 2 * 2"),
        ("stop_words", "Shoes boots sandals jackets trousers shirts hats"),
        ("flagged_words", "this is the best porn that you have in the house"),
        ("punctuation", "the one and the two and the three and the four and the five"),
        ("common_words", "the qzxv of wvvk in blorft on gnarpf"),
    ],
)
def test_obelics_paragraph_tells_a_bad_paragraph_by_its_own_measure(rule: str, bad: str) -> None:
    assert rule in broken(bad)
    assert broken(GOOD) == set()


def test_obelics_paragraph_has_no_value_for_what_cannot_be_judged() -> None:
    swahili = "Nitakwenda sokoni kesho asubuhi pamoja na rafiki yangu mpendwa, kisha nitarudi nyumbani."
    for language in ("sw", None):
        assert measured(swahili, language)["stop_words"] is measured(swahili, language)["common_words"] is None
    assert "stop_words" in broken(swahili, "en")
    assert measured("a few words, no more")["punctuation"] is None, "fewer than 12 words and marks"
    assert measured("a few words, no more. " * 2)["punctuation"] == pytest.approx(4 / 14)


def test_url_words_tells_furniture_before_it_is_fetched() -> None:
    urls = ["http://a/LOGO.png", "http://a/1.jpg", "http://icons.org/2.jpg", "data:image/png;base64,iconsexLOGO"]
    assert url_words(urls)["url_word"] == ["logo", None, "icon", None]
    assert url_words(urls, words=("JPG",))["url_word"] == [None, "jpg", "jpg", None]


def test_repeated_urls_and_bytes_leave_the_first_of_each_and_absent_images(tmp_path: Path) -> None:
    document = page("http://a/1", "Text.", "http://a/2", "http://a/1")
    assert repeated_urls([document])["url_repeated"] == [[False, False, True]]
    noisy = picture(seed=3)
    blobs = Shelf(tmp_path).blobs(noisy, blank(), noisy, "timeout", "timeout", blank(colour=(9, 8, 7)))
    assert repeated_bytes([blobs])["bytes_repeated"] == [[False, False, True, None, None, False]]


def test_image_file_tells_format_sides_and_what_is_missing(tmp_path: Path) -> None:
    blobs = Shelf(tmp_path).blobs(picture(300, 200), picture(200, 401, kind="JPEG"), "not_found", picture(kind="GIF"))
    found = image_file(blobs)
    assert found["image_found"] == [True, True, False, True]
    assert found["image_missing"] == [None, None, "not_found", None]
    assert found["image_format"] == ["png", "jpg", None, "gif"]
    assert (found["min_side"], found["max_side"]) == ([200, 200, None, 200], [300, 401, None, 200])
    assert found["aspect"] == [1.5, 2.005, None, 1.0]


def test_colour_levels_of_one_colour_are_none() -> None:
    images = [image for body in (blank(), blank(colour=(9, 8, 7)), picture(seed=3)) if (image := decode(body).image)]
    one, other, noisy = colour_levels(images)["colour_levels"]
    assert (one, other) == (0, 0) and noisy > 200
