from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.text import stats
from curate.text.function_words import FUNCTION_WORDS

PROSE = (
    "When the train came in, nobody on the platform knew what to do with the box. It had been left there by a man in a "
    "grey coat, and it was far too heavy for the two of them to lift. So they waited, as one does, and talked of rain."
)


def test_words_are_lower_case_without_the_signs_around_them() -> None:
    assert stats.words('He said: "Don\'t (ever) look-back!" ... 42 x2') == (
        "he", "said", "don't", "ever", "look-back", "x",
    )  # fmt: skip


def test_han_and_kana_characters_are_words_and_hindi_keeps_its_marks() -> None:
    """Every han and kana character is a word and hindi words keep their marks."""
    assert stats.words("我喜欢 Python 编程。") == ("我", "喜", "欢", "python", "编", "程")
    assert stats.words("यह हिन्दी है।") == ("यह", "हिन्दी", "है")


def test_words_without_a_letter_are_no_words() -> None:
    assert stats.words("12 -- 3.5 \U0001f600 \ud800") == ()


@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 12))
def test_character_repetition_is_what_counting_every_run_gives(text: str, n: int) -> None:
    counts = sorted(Counter(text[at : at + n] for at in range(len(text) - n + 1)).values(), reverse=True)
    most = min(int(len(counts) ** 0.5), sum(count > 1 for count in counts))
    expected = sum(counts[:most]) / sum(counts) if counts else 0
    assert stats.char_repetition(text, n) == pytest.approx(expected)


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=60), st.integers(1, 6))
def test_word_repetition_is_what_counting_every_run_gives(words: list[str], n: int) -> None:
    counts = Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))
    expected = sum(c for c in counts.values() if c > 1) / counts.total() if counts else 0
    assert stats.word_repetition(" ".join(words), n) == pytest.approx(expected)


def test_prose_passes_every_document_threshold_of_obelics() -> None:
    assert stats.char_repetition(PROSE) <= 0.1
    assert stats.word_repetition(PROSE) <= 0.2
    assert stats.special_characters(PROSE) <= 0.275
    assert (stats.stop_words(PROSE, "en") or 0) >= 0.35
    assert stats.flagged_words(PROSE) <= 0.01
    assert stats.punctuation(PROSE) >= 0.03
    assert (stats.common_words(PROSE, "en") or 0) >= 0.9


@pytest.mark.parametrize(
    ("measure", "text", "bad"),
    [
        (stats.char_repetition, "buy now cheap " * 40, 0.2),
        (stats.word_repetition, "buy now cheap pills " * 40, 1.0),
        (stats.special_characters, "=== 12.5 | 13.6 | 14.7 ===", 0.99),
        (stats.flagged_words, "free porn pornstar xxx", 0.7),
    ],
)
def test_junk_is_told_by_its_measure(measure: object, text: str, bad: float) -> None:
    assert callable(measure) and measure(text) >= bad


def test_stop_words_are_known_in_fifteen_languages_and_told_apart() -> None:
    sentences = {
        "en": "the cat sat on the mat because it was warm",
        "de": "die Katze saß auf der Matte, weil sie warm war",
        "fr": "le chat est sur le tapis parce qu'il est dans la maison",
        "es": "el gato está en la casa porque no hay otro lugar para él",
        "ru": "кот сидит на ковре, потому что он не может быть там",
        "ja": "私は猫が好きですから、家にいるのです",
    }
    assert len(FUNCTION_WORDS) == 15
    for language, sentence in sentences.items():
        shares = {other: stats.stop_words(sentence, other) or 0 for other in FUNCTION_WORDS}
        assert max(shares, key=lambda other: shares[other]) == language, shares
        assert shares[language] >= 0.35


def test_language_without_a_word_list_is_null_and_not_zero() -> None:
    """What no word list is known for is null and not zero."""
    assert stats.stop_words("sawubona mhlaba", "zu") is None
    assert stats.stop_words("hello", None) is None
    assert stats.common_words("hallo Welt", "de") is None
    assert stats.common_words("hallo Welt", "de", {"hallo"}) == 0.5


def test_flagged_words_are_the_callers_to_choose() -> None:
    assert stats.flagged_words("Buy viagra today", {"viagra"}) == pytest.approx(1 / 3)


def test_punctuation_counts_the_marks_of_other_scripts() -> None:
    assert stats.punctuation("one two. three four.") == pytest.approx(2 / 6)
    assert stats.punctuation("一二三，四。") > 0
    assert stats.punctuation_tokens("three words, only.") == 5
    assert stats.punctuation("three words only") == 0.0


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\0", "\ud800", "\U0001f34e"])
def test_empty_or_unreadable_text_has_measures_too(text: str) -> None:
    assert stats.words(text) == ()
    assert (stats.char_repetition(text), stats.word_repetition(text)) == (0, 0)
    assert (stats.flagged_words(text), stats.punctuation(text)) == (0, 0)
    assert stats.special_characters(text) == (1 if text else 0)
    assert stats.stop_words(text, "en") == 0
