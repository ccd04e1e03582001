from __future__ import annotations

from pathlib import Path

import pytest

from curate.ops.quality.flagged import flagged_words
from curate.ops.spec import identity

LISTS = {"en": "Bad\nvery bad word\n\n", "zh": "坏词\n", "th": "คำหยาบ\n", "any": "xxx\n"}


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, str]:
    for language, text in LISTS.items():
        (tmp_path / f"{language}.txt").write_text(text)
    return {language: str(tmp_path / f"{language}.txt") for language in LISTS}


def found(lists: dict[str, str], text: str, language: str | None) -> tuple[object, ...]:
    columns = flagged_words(lists=lists)([text], [language])
    return tuple(columns[name][0] for name in ("flagged_words", "flagged_word_share", "flagged_word"))


def test_words_are_found_whole_and_in_any_case(lists: dict[str, str]) -> None:
    assert found(lists, "BAD, but no badger: bad!", "en") == (2, pytest.approx(2 / 5), "bad")
    assert found(lists, "a badge", "en") == (0, 0.0, None)


def test_entry_of_several_words_counts_once_and_covers_them_all(lists: dict[str, str]) -> None:
    assert found(lists, "a very bad  word here", "en") == (1, pytest.approx(3 / 5), "very bad word")


def test_entries_stand_anywhere_in_scripts_without_spaces(lists: dict[str, str]) -> None:
    assert found(lists, "这是坏词吗", "zh")[0] == 1
    assert found(lists, "นี่คือคำหยาบนะ", "th")[0] == 1
    assert found(lists, "这是坏的词", "zh")[0] == 0


def test_each_text_is_looked_at_by_the_list_of_its_language_and_that_of_any(lists: dict[str, str]) -> None:
    assert found(lists, "bad xxx", "de") == (1, 0.5, "xxx")
    assert found(lists, "bad xxx", None)[0] == 1
    del lists["any"]
    assert found(lists, "bad xxx", "de") == (None, None, None)


def test_empty_text_has_none(lists: dict[str, str]) -> None:
    assert found(lists, "", "en") == (0, 0.0, None)


def test_list_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n!\n")
    for path, words in ((tmp_path / "none.txt", "none.txt"), (tmp_path / "empty.txt", "no entry")):
        with pytest.raises(ValueError, match=words):
            flagged_words(lists={"en": str(path)})
    with pytest.raises(ValueError, match="lists is empty"):
        flagged_words(lists={})


def test_changed_list_is_another_column(lists: dict[str, str]) -> None:
    before = identity(flagged_words, {"lists": lists})
    Path(lists["en"]).write_text("other\n")
    assert identity(flagged_words, {"lists": lists}) != before
