"""Rendered text: every word that is on the page is told, its box holds its ink, and a page is the same for ever."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.commit import file_sha256
from curate.image.files import decode
from curate.ops.extract.render_text import render_text
from curate.ops.spec import Failed, identity, spec_of
from curate.pool.blob import Stored
from curate.typeset.fonts import Fonts
from curate.typeset.pages import Style, draw_style, prepare_text, sample_rng, typeset

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen.\n\nA second paragraph (of 7 words)."
LONG = " ".join(f"word{n}" for n in range(3000))
DEJAVU = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
PAGE = (600, 800)


def clean(degrees: float = 0.0, **changes: object) -> Style:
    plain = {"ink": (0, 0, 0), "paper": (255, 255, 255), "background": "plain", "blur_px": 0.0, "noise": 0.0, "seed": 0}
    return Style(**({"font_px": 20, "line_px": 28, "degrees": degrees} | plain | changes))


def ink(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")) < 128


@pytest.mark.parametrize("degrees", [0.0, 2.5, -3.0])
def test_every_box_holds_the_ink_of_its_word_and_no_ink_lies_outside(degrees: float) -> None:
    sheet = typeset(TEXT, Fonts().typeface(TEXT, 20)[1], clean(degrees), PAGE)
    dark = ink(sheet.image)
    left_over = dark.copy()
    for left, top, right, bottom in (sheet.boxes * (PAGE * 2)).tolist():
        box = np.s_[int(top) : int(np.ceil(bottom)) + 1, int(left) : int(np.ceil(right)) + 1]
        assert dark[box].sum() > 5
        left_over[box] = False
    assert not left_over.any()


def test_without_a_turn_the_boxes_are_tight() -> None:
    sheet = typeset("word", Fonts().typeface(TEXT, 40)[1], clean(font_px=40, line_px=50), PAGE)
    rows, columns = np.nonzero(ink(sheet.image))
    edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(sheet.boxes[0] * (PAGE * 2) - edges).max() <= 1.5


def test_text_is_what_stands_on_the_page_line_by_line() -> None:
    sheet = typeset(TEXT, Fonts().typeface(TEXT, 20)[1], clean(), PAGE)
    assert sheet.text.split() == sheet.words == TEXT.split()
    assert [len(line.split()) for line in sheet.text.split("\n")] == np.bincount(sheet.lines).tolist()
    assert sheet.share == 1


def test_text_without_room_is_cut_and_the_share_says_how_much() -> None:
    """What finds no room is cut and the share says how much."""
    style = clean()
    fit = prepare_text(LONG, style, PAGE)
    sheet = typeset(fit, Fonts().typeface(TEXT, 20)[1], style, PAGE)
    assert sheet.words == LONG.split()[: len(sheet.words)]
    assert 0 < sheet.share < 1
    assert (sheet.boxes >= 0).all() and (sheet.boxes <= 1).all()


def test_word_longer_than_a_line_goes_on_in_the_next() -> None:
    sheet = typeset("a" * 200, Fonts().typeface(TEXT, 20)[1], clean(), PAGE)
    assert "".join(sheet.words) == "a" * 200 and len(set(sheet.lines)) > 1
    assert sheet.text.replace("\n", "") == "a" * 200


def test_page_is_keyed_by_seed_and_sample_and_by_nothing_else() -> None:
    one, two = "0" * 32, "1" * 32
    op = render_text(page_px=(300, 300))
    alone, together = op([one], [TEXT]), op([two, one], [TEXT, TEXT])
    assert alone["image"][0] == together["image"][1] != together["image"][0]
    assert alone["words"][0] == together["words"][1]
    assert render_text(page_px=(300, 300), seed=1)([one], [TEXT])["image"] != alone["image"]
    assert draw_style(sample_rng(3, one), (10, 30), 1.0) == draw_style(sample_rng(3, one), (10, 30), 1.0)


def test_wear_none_is_black_on_white_and_wear_one_is_worn() -> None:
    fresh, worn = (render_text(page_px=PAGE, wear=w)(["u"], [TEXT])["image"][0] for w in (0.0, 1.0))
    assert np.asarray(decode(fresh.data).image)[0, 0].tolist() == [255, 255, 255]
    assert np.asarray(decode(worn.data).image)[:40, :40].std() > 1


def test_columns_fit_their_types_and_the_picture_its_size() -> None:
    found = render_text(page_px=(300, 400))(["u"], [TEXT])
    for name, kind in spec_of(render_text).writes.items():
        if name != "image":
            assert pa.array(found[name], kind).type == kind
    (stored,) = found["image"]
    assert isinstance(stored, Stored) and (stored.width, stored.height) == (300, 400)
    assert Image.open(io.BytesIO(stored.data)).size == (300, 400)


UNDRAWABLE = {
    "": "empty_text",
    " \n": "empty_text",
    "漢字": "no_glyph",
}


@pytest.mark.parametrize(("text", "error"), [*UNDRAWABLE.items(), ("漢字", "no_glyph")])
def test_text_that_cannot_be_drawn_as_it_is_written_fails_with_its_name(text: str, error: str) -> None:
    (found,) = render_text()(["u"], [text])["image"]
    assert isinstance(found, Failed) and found.error == error


def test_dashes_that_the_font_lacks_become_plain_ones() -> None:
    assert render_text(wear=0.0)(["u"], ["a \u2013 b"])["text"] == ["a - b"]


@pytest.mark.skipif(not DEJAVU.exists(), reason="DejaVu Sans is not installed")
def test_font_that_has_the_characters_is_taken_and_enters_the_identity() -> None:
    op = render_text(fonts=(str(DEJAVU.parent / "DejaVuSans*.ttf"),))
    assert op(["u"], ["Съешь же ещё — этих"])["text"] == ["Съешь же ещё — этих"]
    assert identity(render_text, {"fonts": (str(DEJAVU),)})["files"].startswith(file_sha256(DEJAVU))


@pytest.mark.skipif(not DEJAVU.exists(), reason="DejaVu Sans is not installed")
def test_folder_of_fonts_stands_for_the_fonts_in_it_however_deep(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    shutil.copy(DEJAVU, tmp_path / "source" / "one.ttf")
    (tmp_path / "source" / "fonts.json").write_text("{}")
    for named in (tmp_path, tmp_path / "*"):
        assert (
            identity(render_text, {"fonts": (str(named),)})["files"]
            == identity(render_text, {"fonts": (str(DEJAVU),)})["files"]
        )


def test_font_that_is_not_there_is_said_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="no font lies at"):
        render_text(fonts=("/nowhere/*.ttf",))
