"""text_basic and language: what they count, and that no caption, however hostile, upsets them."""

import time
from pathlib import Path

import pytest

from curate.models.files import ModelError
from curate.ops.quality.text import language, text_basic
from curate.ops.spec import identity, spec_of


def basic(text: str) -> dict[str, object]:
    return {name: column[0] for name, column in text_basic([text]).items()}


def test_plain_caption_is_counted() -> None:
    assert basic("A red apple, on 2 tables.") == {
        "word_count": 6,
        "characters": 25,
        "letter_share": pytest.approx(17 / 20),
        "digit_share": pytest.approx(1 / 20),
        "control_characters": 0,
        "boilerplate": False,
        "boilerplate_phrase": None,
        "file_name_like": False,
    }
    assert set(basic("x")) == set(spec_of(text_basic).writes)


@pytest.mark.parametrize(
    ("text", "word_count", "letter_share"),
    [
        ("", 0, 0.0),
        ("   \n\t ", 0, 0.0),
        ("!!! ???", 0, 0.0),
        ("12 345", 2, 0.0),
        ("赤いりんご", 5, 1.0),
        ("红苹果 on a table", 6, 1.0),
        ("लाल सेब", 2, 1.0),
        ("تفاحة حمراء", 2, 1.0),
        ("e\u0301te\u0301 d\u2019or", 2, 8 / 9),
        ("빨간 사과", 2, 1.0),
        ("red\u00a0apple", 2, 1.0),
        ("\U0001f34e", 0, 0.0),
    ],
)
def test_words_and_letters_are_counted_in_any_script(text: str, word_count: int, letter_share: float) -> None:
    found = basic(text)
    assert (found["word_count"], found["letter_share"]) == (word_count, pytest.approx(letter_share))


def test_nul_and_control_characters_are_counted_and_part_words() -> None:
    found = basic("red\0apple\x07\x1b[31m on\ud800table")
    assert (found["control_characters"], found["word_count"]) == (4, 5)
    assert found["characters"] == len("red apple [31m on table")


def test_caption_of_a_megabyte_is_counted_in_little_time() -> None:
    start = time.process_time()
    rows = text_basic(["word " * 200_000, "x" * 1_000_000, "\0" * 1_000_000, "苹" * 300_000])
    labels = language()(["word " * 200_000, "x" * 1_000_000, "\0" * 1_000_000, "苹" * 300_000])
    assert time.process_time() - start < 10
    assert rows["word_count"] == [200_000, 1, 0, 300_000]
    assert rows["characters"] == [999_999, 1_000_000, 0, 300_000]
    assert (labels["language"][0], labels["language"][2]) == ("en", None)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("Image may contain: 1 person, standing", "image may contain"),
        ("May be an image of food", "may be an image of"),
        ("Keine Fotobeschreibung verfügbar.", "keine fotobeschreibung verfügbar"),
        ("L\u2019image contient peut-être : chat", "l\u2019image contient peut-être"),
        ("写真の説明はありません。", "写真の説明はありません"),
        ("Red apple isolated on white Stock Photo", "stock photo"),
        ("Rote Äpfel Lizenzfreie Bilder", "lizenzfreie"),
        ("Нажмите, чтобы увеличить", "нажмите, чтобы увеличить"),
        ("点击查看大图", "点击查看大图"),
        ("IMG_1234.JPG", "file name"),
        ("DSC00012", "file name"),
        ("P1010101.jpg", "file name"),
        ("IMG-20200131-WA0007", "file name"),
        ("PXL_20210203_101112345.MP", "file name"),
        ("Screenshot 2021-02-03 at 10.11.12", "file name"),
        ("red-apple-600x400.webp", "file name"),
        ("d41d8cd98f00b204e9800998ecf8427e", "file name"),
        ("Image", "generic word"),
        ("[photo]", "generic word"),
        ("image 3", "generic word"),
        ("写真", "generic word"),
    ],
)
def test_known_boilerplate_is_found_and_named(text: str, phrase: str) -> None:
    found = basic(text)
    assert (found["boilerplate"], found["boilerplate_phrase"]) == (True, phrase)


@pytest.mark.parametrize(
    "text",
    [
        "a red apple on a wooden table",
        "a photo of two dogs",
        "framed picture",
        "livestock photographed at dawn",
        "a man clicks heretical books",
        "図書館の写真を見る人",
        "camera with flash",
        "Flight 1234 to Oslo",
        "face with tears of joy",
        "deadbeef",
    ],
)
def test_honest_caption_is_no_boilerplate(text: str) -> None:
    assert basic(text)["boilerplate"] is False


def test_sentence_is_given_its_language_with_a_probability() -> None:
    sentences = {
        "en": "a small brown dog runs across a green meadow",
        "de": "ein kleiner brauner Hund läuft über eine grüne Wiese",
        "fr": "un petit chien brun court dans une prairie verte",
        "es": "un pequeño perro marrón corre por un prado verde",
        "ru": "маленькая коричневая собака бежит по зелёному лугу",
        "ja": "小さな茶色の犬が緑の草原を走っている",
        "ar": "كلب بني صغير يركض عبر مرج أخضر",
    }
    columns = language()(list(sentences.values()))
    assert columns["language"] == list(sentences)
    assert all(0.5 < share <= 1 for share in columns["language_probability"])
    assert list(columns) == list(spec_of(language).writes)


def test_capitals_and_line_breaks_do_not_change_the_language() -> None:
    columns = language()(
        ["EIN KLEINER BRAUNER HUND\nLÄUFT ÜBER EINE GRÜNE WIESE", "a dog\r\nin the\x00 garden\u2028today"]
    )
    assert columns["language"] == ["de", "en"]


@pytest.mark.parametrize("text", ["", "   ", "12345 67", "!?", "\0\0", "\U0001f34e\U0001f34e", "\ud800"])
def test_caption_without_a_letter_has_no_language(text: str) -> None:
    assert language()([text]) == {"language": [None], "language_probability": [None]}


def test_captions_language_does_not_hang_on_its_neighbours() -> None:
    texts = ["red apple", "roter Apfel", "pomme rouge", "x", "", "りんご"]
    model = language()
    together = model(texts)
    assert [model([text])["language_probability"][0] for text in texts] == together["language_probability"]


def test_missing_or_foreign_language_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no file .*lid\.176"):
        language(model=str(tmp_path / "none.ftz"))
    (tmp_path / "wrong.ftz").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="is not a fastText model"):
        language(model=str(tmp_path / "wrong.ftz"))


def test_language_model_is_named_by_its_content() -> None:
    assert len(identity(language, {})["files"]) == 64
