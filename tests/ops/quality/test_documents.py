"""Filters of interleaved documents: each rule takes what it should, alone and by name, and images stay in step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from documents import Shelf, blank, failed_with, page, picture, row, shown

from curate.document.segments import Segment, text_segment
from curate.ops.quality.documents import clean_paragraphs, document_images, drop_foreign_paragraphs, image_links
from curate.ops.spec import spec_of

GOOD = "The dog was in the garden when we came home, and it had found the old red ball under the tree."
OFF: dict[str, Any] = {
    name: None for name, knob in spec_of(clean_paragraphs).knobs.items() if name.startswith(("min_", "max_"))
}


def cleaned(document: list[Segment], language: str | None = "en", **knobs: Any) -> dict[str, Any]:
    return row(clean_paragraphs([document], [language], **knobs))


@pytest.mark.parametrize(
    ("rule", "knobs", "bad"),
    [
        ("words", {"min_words": 4, "max_words": 1000}, "Read more here"),
        ("words", {"max_words": 21}, GOOD + " And so on."),
        ("char_repetition", {"max_char_repetition": 0.1}, "it was so, and " * 12),
        ("word_repetition", {"max_word_repetition": 0.1}, "we sell the best shoes in town, " * 3 + "yes"),
        ("special_characters", {"max_special_characters": 0.3}, "the 3 + 4 = 7 || 12:30 >>> in 2 * 2"),
        ("stop_words", {"min_stop_words": 0.3}, "Shoes boots sandals jackets trousers shirts hats"),
        ("flagged_words", {"max_flagged_words": 0.01}, "this is the best porn that you have in the house"),
        ("punctuation", {"min_punctuation": 0.001}, "the one and the two and the three and the four and the five"),
        ("common_words", {"min_common_words": 0.8}, "the qzxv of wvvk in blorft on gnarpf"),
    ],
)
def test_each_paragraph_rule_takes_its_own_paragraph_and_leaves_a_good_one(
    rule: str, knobs: dict[str, Any], bad: str
) -> None:
    document = page(GOOD, "http://a/1.jpg", bad)
    found = cleaned(document, **OFF | knobs)
    assert shown(found["document"]) == [GOOD, "http://a/1.jpg"]
    assert (found["text"], found["paragraphs"], found["paragraphs_dropped"]) == (GOOD, 1, 1)
    taken = {name for name, count in found.items() if name.startswith("dropped_by_") and count}
    assert taken == {f"dropped_by_{rule}"}
    assert cleaned(document, **OFF)["document"] == document, "with every rule off nothing goes"
    assert shown(cleaned(document)["document"]) == [GOOD, "http://a/1.jpg"] or "max_words" in knobs


def test_every_paragraph_that_goes_is_counted_under_one_rule() -> None:
    document = page("a", "Read more", GOOD, "### 123 ###", "buy now " * 40)
    found = cleaned(document)
    assert found["paragraphs_dropped"] == 4 == sum(n for name, n in found.items() if name.startswith("dropped_by_"))


def test_blocks_that_a_recipe_spares_stay_whatever_they_hold() -> None:
    heading = text_segment("Usage", "heading")
    code = text_segment("x = {1: 2}", "code")
    document = [heading, *page(GOOD, "Read more"), code]
    assert shown(cleaned(document, spare=("heading", "code"))["document"]) == ["Usage", GOOD, "x = {1: 2}"]
    assert shown(cleaned(document)["document"]) == [GOOD]


def test_a_language_without_a_word_list_is_not_judged_by_stop_words() -> None:
    document = page("Nitakwenda sokoni kesho asubuhi pamoja na rafiki yangu mpendwa, kisha nitarudi nyumbani.")
    assert cleaned(document, "sw")["paragraphs"] == cleaned(document, None)["paragraphs"] == 1
    assert cleaned(document, "en")["dropped_by_stop_words"] == 1


def test_paragraphs_in_another_language_are_taken_out_where_a_recipe_asks_for_it() -> None:
    german = "Der Hund war im Garten, als wir nach Hause kamen, und spielte mit Katzen."
    found = row(drop_foreign_paragraphs(languages=("en",))([page(GOOD, "http://a/1.jpg", german, "...")]))
    assert (shown(found["document"]), found["text"]) == ([GOOD, "http://a/1.jpg"], GOOD)
    assert found["dropped_by_language"] == 2


def test_an_empty_document_and_one_of_images_alone_stay_what_they_are() -> None:
    for document in ([], page("http://a/1.jpg")):
        found = cleaned(document)
        assert (found["document"], found["text"], found["paragraphs"]) == (document, "", 0)


def test_images_whose_url_says_that_they_are_furniture_go_before_they_are_fetched() -> None:
    document = page("http://a/LOGO.png", "Text.", "http://a/1.jpg", "http://icons.org/2.jpg", "http://a/1.jpg")
    document.append(page("http://a/x")[0] | {"url": "data:image/png;base64,iconsexLOGO"})
    found = row(image_links([document]))
    assert shown(found["document"])[:3] == ["Text.", "http://a/1.jpg", "http://a/1.jpg"]
    assert (found["links_kept"], found["links_dropped_by_word"], found["links_dropped_by_repeat"]) == (3, 2, 0)
    once = row(image_links([document], url_words=("LOGO",), once=True))
    assert (once["links_kept"], once["links_dropped_by_word"], once["links_dropped_by_repeat"]) == (3, 1, 1)
    assert row(image_links([document], url_words=None))["links_kept"] == 5


def test_images_by_side_aspect_and_format_are_taken_out_with_their_places(tmp_path: Path) -> None:
    files = {
        "http://a/good.png": picture(300, 200),
        "http://a/small.png": picture(300, 149),
        "http://a/long.png": picture(401, 200),
        "http://a/dead.png": "not_found",
        "http://a/moving.gif": picture(200, 200, kind="GIF"),
        "http://a/good.jpg": picture(400, 200, kind="JPEG"),
    }
    blobs = Shelf(tmp_path).blobs(*files.values())
    document = page("One.", *files, "Two.")
    found = row(document_images([document], [blobs]))
    assert shown(found["document"]) == ["One.", "http://a/good.png", "http://a/dead.png", "http://a/good.jpg", "Two."]
    assert found["images"] == [blobs[0], blobs[3], blobs[5]], "one entry an image segment, in order"
    assert (found["images_kept"], found["images_absent"]) == (2, 1)
    assert {name: count for name, count in found.items() if "dropped" in name and count} == {
        "images_dropped_by_side": 1, "images_dropped_by_aspect": 1, "images_dropped_by_format": 1,
    }  # fmt: skip
    without = row(document_images([document], [blobs], keep_absent=False))
    assert (len(without["images"]), without["images_absent"], without["images_dropped_by_absence"]) == (2, 0, 1)
    off = {"min_side_px": None, "max_side_px": None, "max_aspect": None, "formats": None}
    assert row(document_images([document], [blobs], **off))["document"] == document  # type: ignore[arg-type]
    strict = row(document_images([document], [blobs], max_side_px=350, formats=("jpeg", "png")))
    assert shown(strict["document"]) == ["One.", "http://a/good.png", "http://a/dead.png", "Two."]


def test_mm1_keeps_the_first_of_one_picture_in_a_page_and_flamingo_no_single_colour(tmp_path: Path) -> None:
    noisy = picture(seed=3)
    blobs = Shelf(tmp_path).blobs(noisy, blank(), noisy, "timeout", "timeout", blank(colour=(9, 8, 7)))
    document = page(*(f"http://a/{n}" for n in range(6)))
    once = row(document_images([document], [blobs], once=True))
    assert shown(once["document"]) == ["http://a/0", "http://a/1", "http://a/3", "http://a/4", "http://a/5"]
    assert once["images_dropped_by_repeat"] == 1, "absent images are not each other's repeats"
    plain = row(document_images([document], [blobs], min_colour_levels=1))
    assert shown(plain["document"]) == ["http://a/0", "http://a/2", "http://a/3", "http://a/4"]
    assert plain["images_dropped_by_colour"] == 2


def test_images_that_are_not_in_step_with_their_document_fail_by_name(tmp_path: Path) -> None:
    assert failed_with(document_images([page("http://a/1")], [[]])) == "images_out_of_step"
