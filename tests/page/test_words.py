"""How much of a text layer is noise: what no script writes, and what formulas, brands and borrowed words are."""

from __future__ import annotations

import pytest

from curate.page.words import text_noise

HINDI = ["यह", "हिन्दी", "का", "एक", "वाक्य", "है", "जो", "अच्छी", "तरह", "लिखा", "गया", "है", "और", "पढ़ा", "जाता", "है"]


@pytest.mark.parametrize(
    "word",
    ["वाкय", "हиन्दी", "भаरत", "раypal", "hοuse", "Kαλημέρα", "παρaγωγή", "мoлoкo", "শбদ", "سلaم", "שלaום", "Աрմեն"],
)
def test_letters_of_another_script_inside_a_word_are_noise(word: str) -> None:
    assert text_noise([word]) == 1
    assert text_noise([*HINDI, word]) == pytest.approx(len(word) / len("".join([*HINDI, word])))


@pytest.mark.parametrize("word", ["िहन्दी", "्य", "\u0301e", "\u064bسلام", "\u0e31ก"])
def test_words_that_begin_with_a_combining_mark_are_noise(word: str) -> None:
    assert text_noise([word, "word"]) == pytest.approx(len(word) / len(word + "word"))


def test_page_whose_words_are_broken_is_above_the_usual_limit() -> None:
    """`page_text` reads a page by OCR where more than a fifth of its text layer is noise."""
    broken = [word[:1] + "к" + word[1:] if n % 2 else word for n, word in enumerate(HINDI)]
    assert text_noise(HINDI) == 0 and text_noise(broken) > 0.3


@pytest.mark.parametrize(
    "text",
    [
        "μmol νmax Δx 10μm α-helix sinθ 2πr βγ e−iωt",
        "SMS-ки PDF-файл iPhone 5G 3D-модель",
        "LG전자 IT기업 Tシャツ γ線 漢字かな ＰＤＦ",
        "ทีพีiPhoneใหม่ ຄອມPC ភាសាPDF",
        "PDFला הPDF الPDF",
        "করে। है। आदि॥ ਪੰਜਾਬੀ ગુજરાતી ಕನ್ನಡ മലയാളം සිංහල አማርኛ",
        "é e\u0301 ñ ß œ ǆ ﬁ naïve Ελληνικά русский العربية، עברית",
        "🍎 ️ 100% — “x” ™",
    ],
)
def test_what_people_write_is_no_noise(text: str) -> None:
    assert text_noise([word for word in text.split() if word != "\ufe0f"]) == 0


def test_page_without_words_has_no_noise() -> None:
    assert text_noise([]) == text_noise([""]) == text_noise(["", "word"]) == 0
