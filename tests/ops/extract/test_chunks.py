from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.ops.extract.chunks import chunks
from curate.ops.spec import identity

PROSE = "The first sentence is here. A second one follows it! Is there a third? Yes.\n\nA new paragraph, and its end."


def test_short_text_is_one_chunk() -> None:
    columns = chunks(tokenizer="words", max_tokens=50)([PROSE + "\n"])
    assert columns == {"chunks": [[PROSE]], "chunk_tokens": [[21]], "chunk_count": [1]}


def test_text_is_cut_between_sentences_and_every_chunk_keeps_the_budget() -> None:
    columns = chunks(tokenizer="words", max_tokens=10)([PROSE])
    assert columns["chunks"][0] == [
        "The first sentence is here. A second one follows it!",
        "Is there a third? Yes.",
        "A new paragraph, and its end.",
    ]
    assert columns["chunk_tokens"][0] == [10, 5, 6]


def test_chunks_may_overlap_by_whole_sentences() -> None:
    found = chunks(tokenizer="words", max_tokens=10, overlap_tokens=5)([PROSE])["chunks"][0]
    assert found[0].endswith("A second one follows it!")
    assert found[1].startswith("A second one follows it! Is there")
    assert all(len(chunk.split()) <= 10 for chunk in found)


def test_text_without_sentences_is_cut_between_words_or_characters() -> None:
    """What has no sentences is cut between words and what has no words between characters."""
    words = chunks(tokenizer="words", max_tokens=4)(["one two three four five six"])["chunks"][0]
    assert words == ["one two three four", "five six"]
    assert chunks(tokenizer="bytes", max_tokens=4)(["abcdefghij"])["chunks"][0] == ["ab", "cde", "fg", "hij"]
    chinese = chunks(tokenizer="bytes", max_tokens=12)(["第一句。第二句。"])["chunks"][0]
    assert chinese == ["第一句。", "第二句。"]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab. \n第。\U0001f34e", max_size=120), st.integers(4, 20), st.integers(0, 3))
def test_chunks_lose_nothing_but_space_and_keep_the_budget(text: str, most: int, overlap: int) -> None:
    """Nothing but space is lost and no chunk passes the budget."""
    found = chunks(tokenizer="bytes", max_tokens=most, overlap_tokens=overlap)([text])
    assert [len(chunk.encode()) for chunk in found["chunks"][0]] == found["chunk_tokens"][0]
    assert max(found["chunk_tokens"][0], default=0) <= most
    if not overlap:
        assert "".join("".join(found["chunks"][0]).split()) == "".join(text.split())
    at = 0
    for chunk in found["chunks"][0]:
        at = text.index(chunk, max(0, at - overlap))


def test_clips_tokens_and_a_described_tokenizer_count_too(tmp_path: Path) -> None:
    tokens = chunks(tokenizer="simple", max_tokens=8)([PROSE])["chunk_tokens"][0]
    assert max(tokens) <= 8 and sum(tokens) >= 24
    tokenizers = pytest.importorskip("tokenizers")
    described = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    described.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    described.save(str(path))
    assert chunks(tokenizer=str(path), max_tokens=3)(["a b c d"])["chunks"][0] == ["a b c", "d"]
    assert len(identity(chunks, {"tokenizer": str(path)})["files"]) == 64


def test_text_of_space_has_no_chunk() -> None:
    assert chunks()(["", " \n "])["chunk_count"] == [0, 0]


def test_overlap_as_large_as_budget_and_a_strange_tokenizer_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap_tokens 8 must be less than max_tokens 8"):
        chunks(max_tokens=8, overlap_tokens=8)
    with pytest.raises(ValueError, match="unknown tokenizer 'gpt'"):
        chunks(tokenizer="gpt")


@pytest.mark.parametrize("text", ["x" * 1_000_000, "x " * 200_000, "x\n" * 200_000, "." * 500_000, "a.b" * 200_000])
def test_text_of_megabytes_is_cut_in_time_that_grows_with_its_length(text: str) -> None:
    start = time.process_time()
    columns = chunks(tokenizer="bytes", max_tokens=4096)([text])
    assert time.process_time() - start < 60  # quadratic, it would be hours
    assert max(columns["chunk_tokens"][0]) <= 4096
