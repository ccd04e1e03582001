"""Pages in scripts that run from right to left, join their letters or have no spaces: laid out as they are written."""

from __future__ import annotations

import ctypes
import ctypes.util
import unicodedata
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from curate.ops.extract.render_text import render_text
from curate.ops.spec import Failed, identity
from curate.typeset.bidi import embedding_levels, visual_order
from curate.typeset.fonts import Fonts, Typeface, TypesetError, can_shape, needs_shaping
from curate.typeset.lines import break_lines
from curate.typeset.pages import Sheet, Style, clean_text, fits_columns, prepare_text, typeset
from pipelines.materials.fonts import prepare
from pipelines.materials.packages import PackageUnavailableError, cache_folder, fetch

PAGE = (700, 500)
NOTO = Path("usr/share/fonts/truetype/noto")
SCRIPTS = {
    "Arabic": "وُلد أحمد زويل في دمنهور سنة 1946 (26 فبراير)، وعمل في Caltech ثم نال جائزة نوبل.\nكانت ٧٥٪ من الوقت.",
    "Hebrew": "בְּרֵאשִׁית בָּרָא אֱלֹהִים.\nהמשתמש פתח את Windows 11 (גרסה 23H2) ב-15 במאי, 2024; המחיר היה 1,299.90 ₪.",
    "Devanagari": "भारत की राजधानी नई दिल्ली है। क्षत्रिय, विद्यार्थी और श्रद्धा।\nPython 3 में लिखना सरल है।",
    "Bengali": "আমার সোনার বাংলা, আমি তোমায় ভালোবাসি। কৃষ্ণ, ক্ষুধা এবং জ্ঞান। ১৯৭১ সালে।",
    "Tamil": "தமிழ் மொழி மிகவும் பழமையான மொழி. கொடுத்தான், போய், கௌரவம்.",
    "Thai": "ประเทศไทยมีเมืองหลวงชื่อกรุงเทพมหานคร น้ำ ป้า ที่นี่ ญี่ปุ่น กตัญญู",
}
PERSIAN = "می‌خواهم کتاب‌های زیادی بخوانم. شماره ۱۲۳۴ در خیابان ولی‌عصر است."

needs_raqm = pytest.mark.skipif(not can_shape(), reason="Pillow finds no FriBiDi")


@pytest.fixture(scope="session")
def noto() -> Path:
    """Noto's fonts: the system's, or those of Debian's package."""
    if (Path("/") / NOTO / "NotoSansTamil-Regular.ttf").exists():
        return Path("/") / NOTO
    try:
        return fetch("fonts-noto-core") / NOTO
    except PackageUnavailableError as err:
        pytest.skip(str(err))


def fonts(noto: Path, *scripts: str) -> Fonts:
    return Fonts([(noto / f"NotoSans{script}-Regular.ttf").read_bytes() for script in scripts])


def sheet(text: str, found: Fonts, degrees: float = 0.0, page: tuple[int, int] = PAGE) -> Sheet:
    style = Style(22, 30, (0, 0, 0), (255, 255, 255), "plain", degrees, 0.0, 0.0, 0)
    said, face = found.typeface(prepare_text(clean_text(text), style, page), 22)
    return typeset(said, face, style, page)


def pixels(drawn: Sheet) -> np.ndarray:
    return drawn.boxes * (drawn.image.size * 2)


def assert_all_ink_in_boxes(drawn: Sheet) -> None:
    dark = np.asarray(drawn.image.convert("L")) < 128
    left_over = dark.copy()
    for left, top, right, bottom in pixels(drawn).tolist():
        box = np.s_[int(top) : int(np.ceil(bottom)) + 1, int(left) : int(np.ceil(right)) + 1]
        assert dark[box].sum() > 3
        left_over[box] = False
    assert not left_over.any()


def place_of(drawn: Sheet) -> dict[str, float]:
    return dict(zip(drawn.words, pixels(drawn)[:, 0].tolist(), strict=True))


@needs_raqm
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("degrees", [0.0, 2.0])
def test_boxes_of_every_script_hold_all_ink_and_words_are_as_read(noto: Path, script: str, degrees: float) -> None:
    """The boxes of every script hold all ink and its words are told as they are read."""
    drawn = sheet(SCRIPTS[script], fonts(noto, script, ""), degrees)
    assert drawn.share == 1 and drawn.text.split() == SCRIPTS[script].split()
    assert "".join(drawn.words) == "".join(SCRIPTS[script].split())
    assert_all_ink_in_boxes(drawn)
    if not degrees:
        boxes = pixels(drawn)
        for number, box in enumerate(boxes):
            others = np.delete(boxes, number, axis=0)
            apart = (others[:, :2] >= box[2:] - 1).any(axis=1) | (others[:, 2:] <= box[:2] + 1).any(axis=1)
            assert apart.all(), drawn.words[number]


LETTERS = "abc XYZ 019 .,:;!?()[]«»- \n\t\x00 אבגֹּ سلامً ۱۲ नमस्ते क्ष สวัสดี ที่ \u200c\u200f\u200b\xad\xa0"


@needs_raqm
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from(LETTERS), max_size=80), degrees=st.sampled_from([0.0, 1.5]))
def test_any_mixture_is_drawn_with_all_its_letters_in_their_boxes(noto: Path, text: str, degrees: float) -> None:
    found = fonts(noto, "", "Hebrew", "Arabic", "Devanagari", "Thai")
    if not clean_text(text).strip():
        return
    drawn = sheet(text, found, degrees, (500, 900))
    assert "".join(drawn.words) == "".join(clean_text(text).split())
    assert drawn.text.split() == clean_text(text).split() or len(drawn.text.split()) > len(clean_text(text).split())
    assert (drawn.boxes >= 0).all() and (drawn.boxes <= 1).all()
    dark = np.asarray(drawn.image.convert("L")) < 128
    for left, top, right, bottom in pixels(drawn).tolist():
        dark[int(top) : int(np.ceil(bottom)) + 1, int(left) : int(np.ceil(right)) + 1] = False
    assert not dark.any()


@needs_raqm
def test_lines_from_right_to_left_begin_at_the_right_margin(noto: Path) -> None:
    words = "سلام على كل من يقرأ هذه السطور الطويلة التي لا تتسع لها صفحة واحدة ضيقة من الورق"
    drawn = sheet(words, fonts(noto, "Arabic"), page=(400, 400))
    lines_of = np.array(drawn.lines)
    assert lines_of.max() >= 2 and drawn.words == words.split()
    for line in range(lines_of.max() + 1):
        boxes = pixels(drawn)[lines_of == line]
        assert (np.diff(boxes[:, 0]) < 0).all(), "each word stands to the left of the one before"
        assert boxes[0, 2] > 400 - 24 - 5, "the margin is 24 pixels"


@needs_raqm
def test_latin_words_and_numbers_in_hebrew_run_from_left_to_right(noto: Path) -> None:
    """Latin words and numbers in a hebrew line run from left to right among themselves."""
    at = place_of(sheet("אחת Windows 11 גרסה 2,024 סוף.", fonts(noto, "Hebrew", "")))
    assert at["סוף."] < at["2,024"] < at["גרסה"] < at["Windows"] < at["11"] < at["אחת"]
    at = place_of(sheet("one שלום עולם two", fonts(noto, "Hebrew", "")))
    assert at["one"] < at["עולם"] < at["שלום"] < at["two"]


@needs_raqm
def test_word_between_whose_halves_another_stands_is_told_as_two(noto: Path) -> None:
    drawn = sheet("abc-שלום עולם", fonts(noto, "Hebrew", ""))
    assert drawn.words == ["abc-", "שלום", "עולם"] and drawn.text == "abc-שלום עולם"
    at = place_of(drawn)
    assert at["abc-"] < at["עולם"] < at["שלום"]


@needs_raqm
def test_letters_join_and_stand_on_one_another(noto: Path) -> None:
    def width(script: str, text: str) -> float:
        _, face = fonts(noto, script).typeface(text, 100)
        return sum(face.length(run) for run in face.runs(text, int(script == "Arabic")))

    assert width("Arabic", "سلام") < 0.8 * sum(width("Arabic", letter) for letter in "سلام")
    assert width("Devanagari", "क्ष") < 0.8 * (width("Devanagari", "क") + width("Devanagari", "ष"))
    assert width("Thai", "ที่") == width("Thai", "ท")


@needs_raqm
def test_persian_keeps_the_non_joiner_and_drops_marks_of_direction(noto: Path) -> None:
    """Persian keeps the sign that parts letters and drops marks of direction."""
    drawn = sheet(f"\u200f{PERSIAN}\u200e", fonts(noto, "Arabic"))
    assert drawn.words == PERSIAN.split() and drawn.share == 1


@needs_raqm
def test_fonts_stand_in_for_one_another_and_script_in_none_keeps_its_name(noto: Path) -> None:
    files = tuple(str(noto / f"NotoSans{script}-Regular.ttf") for script in ("Arabic", "Devanagari", ""))
    found = render_text(fonts=files, wear=0.0)(["u"] * 3, ["كتاب Python", "हिन्दी और सलाम", "தமிழ்"])
    assert found["text"][:2] == ["كتاب Python", "हिन्दी और सलाम"]
    assert isinstance(found["text"][2], Failed) and found["text"][2].error == "no_glyph"
    assert "த" in found["text"][2].detail
    assert render_text(fonts=files, wear=0.0)(["u"], ["كتاب Python"])["image"][0] == found["image"][0]


@needs_raqm
def test_machine_that_cannot_shape_refuses_what_it_would_draw_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that cannot shape refuses what it would draw wrong and draws the rest."""
    assert all(map(needs_shaping, (*SCRIPTS.values(), PERSIAN))) and not needs_shaping("Año 2024 – Съешь 漢字")
    shaped = identity(render_text, {"fonts": ()})["files"]
    monkeypatch.setattr(features, "check", lambda name: False)
    found = render_text()(["u", "v"], [SCRIPTS["Hebrew"], "plain words"])["text"]
    assert isinstance(found[0], Failed) and found[0].error == "needs_shaping" and "FriBiDi" in found[0].detail
    assert found[1] == "plain words" and identity(render_text, {"fonts": ()})["files"] != shaped


def test_lines_neither_begin_with_a_closing_sign_nor_end_with_an_opening() -> None:
    """No line begins with a closing sign or ends with an opening one."""
    text = "吾輩は「猫」である。名前は（まだ）無い。どこで生れたか、とんと見当がつかぬ！ニャーニャー泣いていた。" * 3
    face = Typeface(Fonts(), (0,), 20)  # which draws a box for each character
    for width in range(90, 400, 7):
        broken = ["".join(word.text for word in line) for line in break_lines(text, face, width)]
        assert "".join(broken) == text
        assert not {line[0] for line in broken} & set("。、」）！ーャっ")
        assert not {line[-1] for line in broken} & set("「（")


def test_word_longer_than_a_line_is_parted_between_letters() -> None:
    """A word longer than a line is parted between letters and no mark loses its letter."""
    face = Typeface(Fonts(), (0,), 20)
    for text in ("กรุงเทพมหานครที่เป็นเมืองหลวง", "क्षत्रियविद्यार्थीश्रद्धा"):
        broken = ["".join(word.text for word in line) for line in break_lines(text, face, 80)]
        assert "".join(broken) == text and len(broken) > 2
        assert all(unicodedata.category(line[0]) == "Lo" and line[0] not in "ะาำ" for line in broken)
        assert all(line[-1] not in "्เแโใไ" for line in broken[:-1])


def test_lines_stand_apart_where_letters_are_tall() -> None:
    drawn = sheet("Ấ" * 5 + "\n" + "g" * 5, Fonts([_dejavu()]))
    first, second = pixels(drawn)
    assert first[3] <= second[1]


def _dejavu() -> bytes:
    path = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
    if not path.exists():
        pytest.skip("DejaVu Sans is not installed")
    return path.read_bytes()


@pytest.mark.parametrize("letters", ["אבג سلام abc 0123 ٠١٢ ۱۲ .,:;!? +-/%$€ «»ֹّ", "אבג سلام abc 012 ٠١ ()[]{}.,!-%"])
def test_directions_are_those_that_fribidi_finds(letters: str) -> None:
    name = ctypes.util.find_library("fribidi")
    if not name:
        pytest.skip("FriBiDi is not installed")
    library, chance = ctypes.CDLL(name), Random(5)
    for _ in range(3000):
        text, base = "".join(chance.choices(letters, k=chance.randrange(1, 14))).rstrip() or "a", chance.randrange(2)
        assert embedding_levels(text, base) == fribidi(library, text, base), (text, base)


def fribidi(library: ctypes.CDLL, text: str, base: int) -> list[int]:
    count = len(text)
    codes = (ctypes.c_uint32 * count)(*map(ord, text))
    kinds, brackets = (ctypes.c_uint32 * count)(), (ctypes.c_uint32 * count)()
    found = (ctypes.c_int8 * count)()
    library.fribidi_get_bidi_types(codes, count, kinds)
    library.fribidi_get_bracket_types(codes, count, kinds, brackets)
    direction = ctypes.c_uint32(0x110 + base)
    library.fribidi_get_par_embedding_levels_ex(kinds, brackets, count, ctypes.byref(direction), found)
    return list(found)


def test_right_to_left_text_is_turned_and_numbers_in_it_turned_back() -> None:
    """What runs from right to left is turned and numbers in it turned back."""
    assert visual_order([0, 0, 0]) == [0, 1, 2]
    assert visual_order([1, 1, 2, 2, 1]) == [4, 2, 3, 1, 0]
    assert visual_order([0, 1, 2, 1, 0]) == [0, 3, 2, 1, 4]
    assert visual_order([]) == []


def test_page_with_room_for_nothing_has_no_words() -> None:
    drawn = sheet("words", Fonts(), page=(30, 20))
    assert drawn.words == [] and drawn.text == "" and drawn.share == 0 and isinstance(drawn.image, Image.Image)


def test_text_of_marks_alone_has_nothing_to_draw() -> None:
    with pytest.raises(TypesetError, match="empty_text"):
        sheet("\u200f\u200e\ufeff", Fonts())


@needs_raqm
@pytest.mark.slow
@pytest.mark.parametrize("degrees", [0.0, -1.5])
def test_columns_run_from_top_to_bottom_the_first_at_the_right(degrees: float) -> None:
    try:
        cjk = fetch("fonts-noto-cjk") / "usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
    except PackageUnavailableError as err:
        pytest.skip(str(err))
    text = "吾輩は「猫」である。名前は（まだ）無い。333 mのタワー、CPUは良い！" * 3
    style = Style(20, 30, (0, 0, 0), (255, 255, 255), "plain", degrees, 0.0, 0.0, 0)
    said, face = Fonts([cjk.read_bytes()]).typeface(text, 20, columns=True)
    drawn = typeset(said, face, style, (400, 300))
    assert drawn.share == 1 and "".join(drawn.words) == "".join(text.split())
    boxes, line = pixels(drawn), np.array(drawn.lines)
    assert line.max() > 3
    for number in range(line.max() + 1):
        assert (np.diff(boxes[line == number, 1]) > 0).all()
    if not degrees:
        assert all(boxes[line == n, 0].min() > boxes[line == n + 1, 2].max() for n in range(line.max()))
    assert_all_ink_in_boxes(drawn)


@needs_raqm
def test_latin_pages_are_never_in_columns_and_a_share_is_a_share() -> None:
    latin = render_text(vertical=1.0)(["u"], ["Plain words"])
    assert latin["text"] == ["Plain words"]
    assert fits_columns("名前はまだ無い。") and not fits_columns("Съешь")
    with pytest.raises(ValueError, match="vertical"):
        render_text(vertical=1.5)


@pytest.mark.slow
def test_fonts_are_laid_down_for_scripts_from_arabic_to_han(tmp_path: Path) -> None:
    try:
        prepared_fonts = prepare(tmp_path / "fonts", cache_folder("materials"))
    except PackageUnavailableError as err:
        pytest.skip(str(err))
    assert prepared_fonts.fonts == 256 == len(list((tmp_path / "fonts/source").glob("*.tt?")))
    op = render_text(fonts=(str(tmp_path / "fonts" / "source" / "*-Regular.ttf"), str(tmp_path / "fonts/source/*CJK*")))
    texts = [*SCRIPTS.values(), "名前はまだ無い。", "Съешь ещё"]
    assert [str(text).split() for text in op([str(n) for n in range(len(texts))], texts)["text"]] == [
        text.split() for text in texts
    ]
