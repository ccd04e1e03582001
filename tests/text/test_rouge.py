"""A text that nearly repeats another is found, and by the measure that the literature has."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.text.rouge import RougeIndex

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), max_size=12).map(" ".join)


def index_of(*texts: str) -> RougeIndex:
    index = RougeIndex()
    for text in texts:
        index.add(text)
    return index


def rouge_l(one: str, other: str) -> float:
    """The textbook's table of the longest common subsequence, and F1."""
    a, b = one.split(), other.split()
    above = [0] * (len(b) + 1)
    for word in a:
        row = [0]
        for at, against in enumerate(b):
            row.append(above[at] + 1 if word == against else max(above[at + 1], row[at]))
        above = row
    return 2 * above[-1] / (len(a) + len(b)) if a or b else 0.0


def test_likeness_is_that_of_the_papers_example() -> None:
    """Lin 2004, 3.1: against `police killed the gunman`, S2 has 3/4 and S3 2/4."""
    index = index_of("Police killed the gunman.")
    assert index.likest("police kill the gunman", 0.0) == (0, 0.75)
    assert index.likest("the gunman kill police", 0.0) == (0, 0.5)


@given(st.lists(WORDS, max_size=8), WORDS, st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0]))
def test_the_likest_text_is_found_and_none_below_the_bound(texts: list[str], text: str, least: float) -> None:
    found = index_of(*texts).likest(text, least)
    likest = max((rouge_l(text, other) for other in texts), default=0.0)
    if likest < least:
        assert found is None
    else:
        assert found is not None
        assert found[1] == pytest.approx(likest)
        assert rouge_l(text, texts[found[0]]) == pytest.approx(likest)


def test_index_grows_and_still_finds_what_came_first() -> None:
    chance = Random(1)
    texts = [" ".join(str(chance.randrange(10_000)) for _ in range(40)) for _ in range(1000)]
    index = index_of(*texts)
    for at in (0, 63, 64, 999):
        changed = texts[at].split()
        changed[5:10] = ["other"] * 5
        assert index.likest(" ".join(changed), 0.7) == (at, pytest.approx(35 / 40))


def test_texts_without_spaces_are_compared_by_their_characters() -> None:
    assert index_of("私は猫が好きです").likest("私は犬が好きです", 0.7) == (0, 0.875)


def test_a_text_without_words_is_like_none() -> None:
    assert index_of("", "?").likest("!", 0.5) is None
