"""Printed text is found and painted over, so that a caption on a picture no longer counts for what it shows."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import drawing, photograph
from PIL import Image, ImageDraw, ImageFont

from curate.ops.alignment.clip_score import clip_score
from curate.ops.alignment.text_masked import text_masked_clip_score
from curate.page.text_regions import load_detector, paint_over

TEXTS = ["a red apple", "a drawing of a house", "SALE 50% OFF"]


def printed(image: Image.Image, text: str, size: int = 28) -> tuple[Image.Image, Image.Image]:
    """The image with a line of text on it, and where its ink is."""
    found, ink = image.copy(), Image.new("L", image.size)
    font, at = ImageFont.load_default(size), (image.width // 8, image.height * 3 // 4)
    ImageDraw.Draw(found).text(at, text, fill="white", font=font, stroke_width=2, stroke_fill="black")
    ImageDraw.Draw(ink).text(at, text, fill=255, font=font, stroke_width=2)
    return found, ink


@pytest.mark.parametrize("seed", range(3))
def test_printed_text_is_painted_over_and_the_rest_is_what_it_was(seed: int) -> None:
    image = photograph(seed, 480, 360)
    marked, ink = printed(image, TEXTS[seed])
    regions = load_detector(640, 0.25)(marked)
    painted, share = paint_over(marked, regions, 640)
    changed = np.abs(np.asarray(painted, int) - np.asarray(marked, int)).max(axis=2) > 0
    written = np.asarray(ink) > 127
    assert changed[written].mean() > 0.9 and share < 0.2
    assert not changed[: 360 // 2].any()
    before, after = (np.abs(np.asarray(i, int) - np.asarray(image, int))[written].mean() for i in (marked, painted))
    assert after < 0.6 * before, "nearer to the picture without text"


def test_a_picture_without_text_scores_as_it_stands_whatever_shares_the_batch() -> None:
    plain, (marked, _) = photograph(4, 320, 240), printed(photograph(5, 480, 360), TEXTS[0])
    found = text_masked_clip_score()([plain, marked, Image.new("RGB", (3000, 2))], TEXTS)
    as_it_stands = clip_score()([plain], TEXTS[:1])["clip_score"]
    assert found["masked_clip_score"][:1] == as_it_stands
    assert found["text_area_share"][0] == 0 < found["text_area_share"][1] and found["text_boxes"][2] == []
    alone = text_masked_clip_score()([marked], TEXTS[1:2])
    assert alone["masked_clip_score"] == found["masked_clip_score"][1:2]
    ((left, top, right, bottom),) = alone["text_boxes"][0]
    assert left < 100 and 240 < top < 300 and right > 180 and 280 < bottom <= 360


def test_a_thing_that_stands_alone_is_no_letter() -> None:
    image = Image.new("RGB", (400, 400), "white")
    image.paste(drawing(3, 200), (100, 100))
    assert load_detector(640, 0.25)(image) == []


def test_a_thousand_regions_are_painted_in_bounded_time_and_the_corners_may_lie_outside() -> None:
    image = photograph(1, 640, 480)
    chance = np.random.default_rng(0)
    regions = [
        chance.uniform(-50, 600, (1, 2)) + np.array([[0, 0], [300, 10], [300, 20], [0, 10]]) for _ in range(1000)
    ]
    painted, share = paint_over(image, regions, 640)
    assert painted.size == image.size and 0.5 < share <= 1


def test_a_side_that_is_too_small_is_named() -> None:
    with pytest.raises(ValueError, match="long_side_px 10 must be at least 64"):
        text_masked_clip_score(long_side_px=10)
