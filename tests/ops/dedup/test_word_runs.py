from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.ops.dedup import _word_runs as word_runs
from curate.ops.dedup._word_runs import distinct_runs, word_numbers
from curate.text.words import plain_words

SIGNS = (
    "aB_1İß.,-\n\t \x85\u200b\u3000éé한글अंक漢字中\ufe00カナｱﾞー・\u3099"
    "กขเแิ่กำ\u0f40\u0f0b\u1000\u103a\u1780\u17d2😀\ud800"
)


@given(st.lists(st.text(st.sampled_from(SIGNS), max_size=40), max_size=6))
def test_words_are_those_that_a_text_is_split_into_in_any_script(texts: list[str]) -> None:
    numbers, counts = word_numbers(texts)
    tokens = [plain_words(text).tokens for text in texts]
    assert counts.tolist() == [len(each) for each in tokens]
    flat = [token for each in tokens for token in each]
    by_word = dict(zip(flat, numbers.tolist(), strict=True))
    assert [by_word[token] for token in flat] == numbers.tolist()
    assert len(set(by_word.values())) == len(by_word)


def test_words_of_the_same_letters_have_other_numbers() -> None:
    chance = random.Random(0)
    words = {"".join(chance.choices("ab", k=chance.randrange(1, 24))) for _ in range(100_000)}
    assert len(set(word_numbers([" ".join(words)])[0].tolist())) == len(words)


def test_runs_are_distinct_and_a_short_text_has_one() -> None:
    runs, places = distinct_runs(["", "a", "A!", "a b", "a b a b", "b a", "!"], 2)
    sets = [runs[start:end].tolist() for start, end in itertools.pairwise(places)]
    assert list(map(len, sets)) == [0, 1, 1, 1, 2, 1, 0]
    assert sets[1] == sets[2] and sets[4] == sorted(sets[3] + sets[5])


@pytest.mark.parametrize("length", [1, 2, 5])
def test_runs_of_a_text_do_not_depend_on_the_others(length: int) -> None:
    chance = random.Random(0)
    texts = [" ".join(chance.choices("abcdef漢กข", k=chance.randrange(12))) for _ in range(60)]
    runs, places = distinct_runs(texts, length)
    for text, start, end in zip(texts, places[:-1], places[1:], strict=True):
        assert distinct_runs([text], length)[0].tolist() == runs[start:end].tolist()


def test_long_text_is_cut_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"word{n}" for n in range(4000))
    whole = word_numbers([text])[0]
    monkeypatch.setattr(word_runs, "_BLOCK_CHARACTERS", 100)
    np.testing.assert_array_equal(word_numbers([text])[0], whole)
    assert word_numbers(["x" * 250])[1].tolist() == [3]
